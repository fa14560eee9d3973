"""After: the session is the registry's, ``Session``."""

from __future__ import annotations

import os

from flask import Flask, Response, abort, request
from sqlalchemy import create_engine, delete, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from wsgi_session import RequestScopedSession, SessionMiddleware, never, session_scope


class Base(DeclarativeBase):
    """What the tables are declared on."""


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///notes.db"))
Session = RequestScopedSession(sessionmaker(engine))


class Note(Base):
    """A note."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


app = Flask(__name__)
app.wsgi_app = SessionMiddleware(app.wsgi_app, Session, commit=never)  # type: ignore[method-assign]
Base.metadata.create_all(engine)


@app.get("/notes")
def show() -> dict[str, list[str]]:
    """Show all notes."""
    return {"notes": list(Session.scalars(select(Note.text).order_by(Note.id)))}


@app.post("/notes")
def add() -> tuple[dict[str, list[str]], int]:
    """Add notes, all of them or none."""
    for text in request.get_json()["notes"]:
        if not text:
            abort(400, "A note needs a text.")
        Session.add(Note(text=text))
    Session.commit()
    return show(), 201


@app.delete("/notes/<int:note_id>")
def remove(note_id: int) -> tuple[str, int]:
    """Remove a note."""
    Session.delete(Session.get(Note, note_id) or abort(404))
    Session.commit()
    return "", 204


@app.get("/notes/export")
def export() -> Response:
    """Stream the notes, one a line."""
    texts = Session.scalars(select(Note.text).order_by(Note.id))
    return Response((f"{text}\n" for text in texts), mimetype="text/plain")


@app.cli.command()
@session_scope(Session)
def clear() -> None:
    """Remove all notes, by ``flask clear``."""
    Session.execute(delete(Note))
