"""WebOb: the session is ``request.db``.

``commit=on_unsafe_success``: views add and change, none commits. What a POST, PUT, PATCH or DELETE has done is
committed before the first byte of its answer is sent. The error page that ``wsgify`` makes of an exception of
``webob.exc`` is no success, and neither is an exception that goes on to the server: both are rolled back. ::

    gunicorn webob_app:application
"""

from __future__ import annotations

from sqlalchemy import orm, select
from webob import Request, Response
from webob.dec import wsgify
from webob.exc import HTTPBadRequest, HTTPNotFound

from notes import Note, Session
from wsgi_session import SessionMiddleware, on_unsafe_success


class NotesRequest(Request):
    """A request as views see it."""

    @property
    def db(self) -> orm.Session:
        """The session of this request."""
        session: orm.Session = self.environ["sqlalchemy.session"]
        return session


def show(request: NotesRequest, *, status: int = 200) -> Response:
    """Show all notes."""
    return Response(json={"notes": list(request.db.scalars(select(Note.text).order_by(Note.id)))}, status=status)


def add(request: NotesRequest) -> Response:
    """Add notes, all of them or none."""
    for text in request.json["notes"]:
        if not text:
            raise HTTPBadRequest("A note needs a text.")
        request.db.add(Note(text=text))
    return show(request, status=201)


def export(request: NotesRequest) -> Response:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    in_order = select(Note.text).order_by(Note.id)
    texts = request.db.scalars(in_order, execution_options={"yield_per": 100})
    lines = (f"{text}\n".encode() for text in texts)
    return Response(app_iter=lines, content_type="text/plain")


VIEWS = {("GET", "/notes"): show, ("POST", "/notes"): add, ("GET", "/notes/export"): export}


@wsgify(RequestClass=NotesRequest)
def notes(request: NotesRequest) -> Response:
    """Find the view for a request."""
    view = VIEWS.get((request.method, request.path_info))
    if view is None:
        raise HTTPNotFound
    return view(request)


application = SessionMiddleware(notes, Session, commit=on_unsafe_success)
