"""Werkzeug: the session is ``request.db``.

``commit=on_unsafe_success``: views add and change, none commits. What a POST, PUT, PATCH or DELETE has done is
committed before the first byte of its answer is sent. The error page of an ``HTTPException`` is no success, and
neither is an exception that goes on to the server: both are rolled back. ::

    gunicorn werkzeug_app:application
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from sqlalchemy import orm, select
from werkzeug import Request, Response
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.routing import Map, Rule

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
    texts = request.db.scalars(select(Note.text).order_by(Note.id))
    return Response(json.dumps({"notes": list(texts)}), status, mimetype="application/json")


def add(request: NotesRequest) -> Response:
    """Add notes, all of them or none."""
    for text in request.get_json()["notes"]:
        if not text:
            raise BadRequest("A note needs a text.")
        request.db.add(Note(text=text))
    return show(request, status=201)


def export(request: NotesRequest) -> Response:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    in_order = select(Note.text).order_by(Note.id)
    texts = request.db.scalars(in_order, execution_options={"yield_per": 100})
    return Response((f"{text}\n" for text in texts), mimetype="text/plain")


urls = Map(
    [
        Rule("/notes", methods=["GET"], endpoint=show),
        Rule("/notes", methods=["POST"], endpoint=add),
        Rule("/notes/export", methods=["GET"], endpoint=export),
    ]
)


def notes(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Find the view for a request."""
    try:
        view, arguments = urls.bind_to_environ(environ).match()
        response: Response = view(NotesRequest(environ), **arguments)
    except HTTPException as error:
        response = error.get_response(environ)
    return response(environ, start_response)


application = SessionMiddleware(notes, Session, commit=on_unsafe_success)
