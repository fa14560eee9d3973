"""Bottle: the session is ``db``, an argument of the view.

``commit=never``: views commit for themselves, where they are done, so that they can go on with what has to come
after a COMMIT: a mail, a job. What a view has not committed is rolled back, also before Bottle's error pages;
and the connection to the database is given back when the response is complete, not when a slow client has read
it. ::

    gunicorn bottle_app:application
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bottle import Bottle, abort, request, response
from sqlalchemy import orm, select

from notes import Note, Session
from wsgi_session import SessionMiddleware, never

app = Bottle()


@app.install
def pass_session(view: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the session to every view of the application."""

    def with_session(**arguments: Any) -> Any:
        return view(db=request.environ["sqlalchemy.session"], **arguments)

    return with_session


@app.get("/notes")
def show(db: orm.Session) -> dict[str, list[str]]:
    """Show all notes."""
    return {"notes": list(db.scalars(select(Note.text).order_by(Note.id)))}


@app.post("/notes")
def add(db: orm.Session) -> dict[str, list[str]]:
    """Add notes, all of them or none."""
    for text in request.json["notes"]:
        if not text:
            abort(400, "A note needs a text.")
        db.add(Note(text=text))
    db.commit()
    response.status = 201
    return show(db)


@app.get("/notes/export")
def export(db: orm.Session) -> Iterator[str]:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    response.content_type = "text/plain; charset=utf-8"
    in_order = select(Note.text).order_by(Note.id)
    for text in db.scalars(in_order, execution_options={"yield_per": 100}):
        yield f"{text}\n"


application = SessionMiddleware(app, Session, commit=never)
