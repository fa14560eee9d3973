"""Falcon: the session is ``req.context.session``.

``commit=never``: responders commit for themselves, and so hear of it when the database refuses; here it is a
409. What a responder has not committed is rolled back, whatever its status; and the connection to the database
is given back when the response is complete, not when a slow client has read it. ::

    gunicorn falcon_app:application
"""

from __future__ import annotations

import falcon
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from notes import Note, Session
from wsgi_session import SessionMiddleware, never


class SessionInContext:
    """Lets responders write ``req.context.session``."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Put it there."""
        req.context.session = req.env["sqlalchemy.session"]


class Notes:
    """All notes."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show them."""
        resp.media = {"notes": list(req.context.session.scalars(select(Note.text).order_by(Note.id)))}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Add some, all of them or none."""
        for text in req.get_media()["notes"]:
            if not text:
                raise falcon.HTTPBadRequest(description="A note needs a text.")
            req.context.session.add(Note(text=text))
        try:
            req.context.session.commit()
        except IntegrityError as error:
            raise falcon.HTTPConflict(description=str(error.orig)) from None
        resp.status = falcon.HTTP_CREATED
        self.on_get(req, resp)


class Export:
    """All notes as text."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Stream them, one a line: the session lives until the last of them is sent."""
        in_order = select(Note.text).order_by(Note.id)
        texts = req.context.session.scalars(in_order, execution_options={"yield_per": 100})
        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = (f"{text}\n".encode() for text in texts)


app = falcon.App(middleware=SessionInContext())
app.add_route("/notes", Notes())
app.add_route("/notes/export", Export())

application = SessionMiddleware(app, Session, commit=never)
