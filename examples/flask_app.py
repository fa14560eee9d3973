"""Flask: the session is ``g.session``.

``commit=on_unsafe_success``: views add and change, none commits. What a POST, PUT, PATCH or DELETE has done is
committed before the first byte of its answer is sent. ``abort(400)``, and the page of status 500 that Flask
makes of an exception, are no successes: they are rolled back. ::

    flask --app flask_app run
"""

from __future__ import annotations

from flask import Flask, Response, abort, g, request
from sqlalchemy import select

from notes import Note, Session
from wsgi_session import SessionMiddleware, on_unsafe_success, session_of

app = Flask(__name__)
app.wsgi_app = SessionMiddleware(app.wsgi_app, Session, commit=on_unsafe_success)  # type: ignore[method-assign]


@app.before_request
def put_session_into_g() -> None:
    """Let views write ``g.session``."""
    g.session = session_of(request.environ, Session)


@app.get("/notes")
def show() -> dict[str, list[str]]:
    """Show all notes."""
    return {"notes": list(g.session.scalars(select(Note.text).order_by(Note.id)))}


@app.post("/notes")
def add() -> tuple[dict[str, list[str]], int]:
    """Add notes, all of them or none."""
    for text in request.get_json()["notes"]:
        if not text:
            abort(400, "A note needs a text.")
        g.session.add(Note(text=text))
    return show(), 201


@app.get("/notes/export")
def export() -> Response:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    in_order = select(Note.text).order_by(Note.id)
    texts = g.session.scalars(in_order, execution_options={"yield_per": 100})
    return Response((f"{text}\n" for text in texts), mimetype="text/plain")
