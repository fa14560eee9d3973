"""After: the middleware commits, outside of Pyramid."""

from __future__ import annotations

import os
from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
from sqlalchemy import create_engine, orm, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from wsgi_session import RequestScopedSession, SessionMiddleware, current_scope, on_unsafe_success, session_scope


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Note(Base):
    """A note."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///notes.db"))
Session = RequestScopedSession(sessionmaker(engine))
Base.metadata.create_all(engine)


def dbsession(request: Request) -> orm.Session:
    """Let views write ``request.dbsession``."""
    return request.environ["sqlalchemy.session"]


@view_config(route_name="notes", request_method="GET", renderer="json")
def show(request: Request) -> dict[str, Any]:
    """Show all notes."""
    return {"notes": list(request.dbsession.scalars(select(Note.text).order_by(Note.id)))}


@view_config(route_name="notes", request_method="POST", renderer="json")
def add(request: Request) -> dict[str, Any]:
    """Add notes, all of them or none; or only try to."""
    for note in request.json_body["notes"]:
        if not note:
            raise HTTPBadRequest("A note needs a text.")
        request.dbsession.add(Note(text=note))
    if "try" in request.params:
        current_scope().doom()
    request.response.status = 201
    return show(request)


@view_config(route_name="notes", request_method="DELETE", renderer="json")
def clear(request: Request) -> dict[str, Any]:
    """Remove all notes."""
    request.dbsession.execute(text("DELETE FROM note"))
    return show(request)


@exception_view_config(IntegrityError, renderer="json")
def refuse(error: IntegrityError, request: Request) -> dict[str, Any]:
    """Say that the database has refused a note."""
    request.response.status = 409
    return {"error": str(error.orig)}


@view_config(route_name="export")
def export(request: Request) -> Response:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    notes = request.dbsession.scalars(select(Note.text).order_by(Note.id))
    lines = (f"{note}\n".encode() for note in notes)
    return Response(app_iter=lines, content_type="text/plain")


def import_notes(notes: list[str]) -> None:
    """Add notes, from a script."""
    with session_scope(Session) as session:
        session.add_all(Note(text=note) for note in notes)


with Configurator() as config:
    config.add_request_method(dbsession, reify=True)
    config.add_route("notes", "/notes")
    config.add_route("export", "/notes/export")
    config.scan(__name__)
    app = config.make_wsgi_app()
    application = SessionMiddleware(app, Session, commit=on_unsafe_success)
