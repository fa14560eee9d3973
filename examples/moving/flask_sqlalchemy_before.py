"""Before: the session is Flask-SQLAlchemy's ``db.session``."""

from __future__ import annotations

import os

from flask import Flask, Response, abort, request, stream_with_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """What the tables are declared on."""


db = SQLAlchemy(model_class=Base)


class Note(db.Model):  # type: ignore[misc, name-defined]
    """A note."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", "sqlite:///notes.db")
db.init_app(app)
with app.app_context():
    db.create_all()


@app.get("/notes")
def show() -> dict[str, list[str]]:
    """Show all notes."""
    return {"notes": list(db.session.scalars(db.select(Note.text).order_by(Note.id)))}


@app.post("/notes")
def add() -> tuple[dict[str, list[str]], int]:
    """Add notes, all of them or none."""
    for text in request.get_json()["notes"]:
        if not text:
            abort(400, "A note needs a text.")
        db.session.add(Note(text=text))
    db.session.commit()
    return show(), 201


@app.delete("/notes/<int:note_id>")
def remove(note_id: int) -> tuple[str, int]:
    """Remove a note."""
    db.session.delete(db.get_or_404(Note, note_id))
    db.session.commit()
    return "", 204


@app.get("/notes/export")
def export() -> Response:
    """Stream the notes, one a line."""
    texts = db.session.scalars(db.select(Note.text).order_by(Note.id))
    return Response(stream_with_context(f"{text}\n" for text in texts), mimetype="text/plain")


@app.cli.command()
def clear() -> None:
    """Remove all notes, by ``flask clear``."""
    db.session.execute(db.delete(Note))
    db.session.commit()
