"""After: the session is the registry's, ``Session``.

::

    flask --app flask_sqlalchemy_after run
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from flask import Blueprint, Flask, Response, abort, request
from sqlalchemy import ForeignKey, Select, create_engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from wsgi_session import RequestScopedSession, SessionMiddleware, never, session_scope


class Base(DeclarativeBase):
    """What the tables are declared on."""


Session = RequestScopedSession(sessionmaker())


class Note(Base):
    """A note."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)
    tags: Mapped[list[NoteTag]] = relationship(cascade="all, delete-orphan")


class NoteTag(Base):
    """A word that a note is found by."""

    __tablename__ = "note_tag"

    note_id: Mapped[int] = mapped_column(ForeignKey("note.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


notes = Blueprint("notes", __name__)


def paginate(statement: Select[Any]) -> tuple[list[Any], dict[str, int]]:
    """Return a page of the rows, and where it is among how many; an empty page is a 404, but for the first."""
    number = request.args.get("page", 1, type=int)
    size = min(request.args.get("per_page", 20, type=int), 100)
    if number < 1 or size < 1:
        abort(404)
    rows = list(Session.scalars(statement.limit(size).offset((number - 1) * size)))
    if not rows and number != 1:
        abort(404)
    total = Session.scalar(select(func.count()).select_from(statement.order_by(None).subquery())) or 0
    return rows, {"page": number, "pages": -(-total // size), "total": total}


@notes.get("/notes")
def show() -> dict[str, Any]:
    """Show a page of notes: ``/notes?page=2&per_page=10``."""
    page, position = paginate(select(Note).order_by(Note.id))
    return {"notes": [note.text for note in page], **position}


@notes.post("/notes")
def add() -> tuple[dict[str, Any], int]:
    """Add notes, all of them or none."""
    for text in request.get_json()["notes"]:
        if not text:
            return {"error": "A note needs a text."}, 400
        Session.add(Note(text=text, tags=[NoteTag(name=word) for word in text.split()[1:]]))
    Session.commit()
    return show(), 201


@notes.get("/notes/<int:note_id>")
def show_one(note_id: int) -> dict[str, Any]:
    """Show a note."""
    note = Session.get(Note, note_id) or abort(404)
    return {"text": note.text, "tags": sorted(tag.name for tag in note.tags)}


@notes.put("/notes/<int:note_id>")
def change(note_id: int) -> dict[str, Any]:
    """Change the text of a note."""
    note = Session.get(Note, note_id) or abort(404)
    note.text = request.get_json()["text"]
    Session.commit()
    return show_one(note_id)


@notes.delete("/notes/<int:note_id>")
def remove(note_id: int) -> tuple[str, int]:
    """Remove a note."""
    Session.delete(Session.get(Note, note_id) or abort(404))
    Session.commit()
    return "", 204


@notes.get("/notes/tagged/<name>")
def show_first_tagged(name: str) -> dict[str, Any]:
    """Show the first note that has a tag."""
    tagged = select(Note).join(NoteTag).filter_by(name=name).order_by(Note.id)
    note = Session.scalars(tagged).first() or abort(404)
    return {"text": note.text}


@notes.get("/notes/export")
def export() -> Response:
    """Stream the notes, one a line."""
    texts = Session.scalars(select(Note.text).order_by(Note.id))
    return Response((f"{text}\n" for text in texts), mimetype="text/plain")


@notes.app_errorhandler(IntegrityError)
def refuse(error: IntegrityError) -> tuple[dict[str, Any], int]:
    """Say that the database has refused a note."""
    Session.rollback()
    return {"error": "There is such a note already."}, 409


@notes.cli.command()
@click.argument("texts", nargs=-1)
@session_scope(Session)
def insert(texts: tuple[str, ...]) -> None:
    """Add notes, by ``flask notes insert milk bread``."""
    Session.add_all(Note(text=text) for text in texts)


@notes.cli.command()
@session_scope(Session)
def clear() -> None:
    """Remove all notes, by ``flask notes clear``."""
    for note in Session.scalars(select(Note)):
        Session.delete(note)


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the application."""
    app = Flask(__name__)
    in_instance = f"sqlite:///{app.instance_path}/notes.db"
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ.get("DATABASE_URL", in_instance)
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_pre_ping": True}
    app.config.update(config or {})
    app.register_blueprint(notes)
    Path(app.instance_path).mkdir(parents=True, exist_ok=True)
    engine = create_engine(app.config["SQLALCHEMY_DATABASE_URI"], **app.config["SQLALCHEMY_ENGINE_OPTIONS"])
    Session.configure(bind=engine)
    app.wsgi_app = SessionMiddleware(app.wsgi_app, Session, commit=never)  # type: ignore[method-assign]
    Base.metadata.create_all(engine)
    return app
