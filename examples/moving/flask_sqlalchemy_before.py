"""Before: the session is Flask-SQLAlchemy's ``db.session``.

::

    flask --app flask_sqlalchemy_before run
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click
from flask import Blueprint, Flask, Response, request, stream_with_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """What the tables are declared on."""


db = SQLAlchemy(model_class=Base)


class Note(db.Model):  # type: ignore[misc, name-defined]
    """A note."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    tags: Mapped[list[NoteTag]] = relationship(cascade="all, delete-orphan")


class NoteTag(db.Model):  # type: ignore[misc, name-defined]
    """A word that a note is found by."""

    note_id: Mapped[int] = mapped_column(ForeignKey("note.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


notes = Blueprint("notes", __name__)


@notes.get("/notes")
def show() -> dict[str, Any]:
    """Show a page of notes: ``/notes?page=2&per_page=10``."""
    page = db.paginate(db.select(Note).order_by(Note.id))
    return {"notes": [note.text for note in page], "page": page.page, "pages": page.pages, "total": page.total}


@notes.post("/notes")
def add() -> tuple[dict[str, Any], int]:
    """Add notes, all of them or none."""
    for text in request.get_json()["notes"]:
        if not text:
            return {"error": "A note needs a text."}, 400
        db.session.add(Note(text=text, tags=[NoteTag(name=word) for word in text.split()[1:]]))
    db.session.commit()
    return show(), 201


@notes.get("/notes/<int:note_id>")
def show_one(note_id: int) -> dict[str, Any]:
    """Show a note."""
    note = db.get_or_404(Note, note_id)
    return {"text": note.text, "tags": sorted(tag.name for tag in note.tags)}


@notes.put("/notes/<int:note_id>")
def change(note_id: int) -> dict[str, Any]:
    """Change the text of a note."""
    note = db.get_or_404(Note, note_id)
    note.text = request.get_json()["text"]
    db.session.commit()
    return show_one(note_id)


@notes.delete("/notes/<int:note_id>")
def remove(note_id: int) -> tuple[str, int]:
    """Remove a note."""
    db.session.delete(db.get_or_404(Note, note_id))
    db.session.commit()
    return "", 204


@notes.get("/notes/tagged/<name>")
def show_first_tagged(name: str) -> dict[str, Any]:
    """Show the first note that has a tag."""
    tagged = db.select(Note).join(NoteTag).filter_by(name=name).order_by(Note.id)
    return {"text": db.first_or_404(tagged).text}


@notes.get("/notes/export")
def export() -> Response:
    """Stream the notes, one a line."""
    texts = db.session.scalars(db.select(Note.text).order_by(Note.id))
    return Response(stream_with_context(f"{text}\n" for text in texts), mimetype="text/plain")


@notes.app_errorhandler(IntegrityError)
def refuse(error: IntegrityError) -> tuple[dict[str, Any], int]:
    """Say that the database has refused a note."""
    db.session.rollback()
    return {"error": "There is such a note already."}, 409


@notes.cli.command()
@click.argument("texts", nargs=-1)
def insert(texts: tuple[str, ...]) -> None:
    """Add notes, by ``flask notes insert milk bread``."""
    db.session.add_all(Note(text=text) for text in texts)
    db.session.commit()


@notes.cli.command()
def clear() -> None:
    """Remove all notes, by ``flask notes clear``."""
    for note in db.session.scalars(db.select(Note)):
        db.session.delete(note)
    db.session.commit()


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", "sqlite:///notes.db")
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True}
    app.config.update(config or {})
    app.register_blueprint(notes)
    db.init_app(app)
    with app.app_context():
        db.create_all()
    return app
