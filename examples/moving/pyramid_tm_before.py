"""Before: pyramid_tm commits, and zope.sqlalchemy has the session join its transaction."""

from __future__ import annotations

import os
from typing import Any

import transaction
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
from sqlalchemy import create_engine, orm, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from zope.sqlalchemy import mark_changed, register


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Note(Base):
    """A note."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///notes.db"))
Session = sessionmaker(engine)
Base.metadata.create_all(engine)


def joined(manager: transaction.TransactionManager) -> orm.Session:
    """Make a session that joins the manager's transaction."""
    session = Session()
    register(session, transaction_manager=manager)
    return session


def dbsession(request: Request) -> orm.Session:
    """Let views write ``request.dbsession``."""
    return joined(request.tm)


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
        request.tm.doom()
    request.response.status = 201
    return show(request)


@view_config(route_name="notes", request_method="DELETE", renderer="json")
def clear(request: Request) -> dict[str, Any]:
    """Remove all notes."""
    request.dbsession.execute(text("DELETE FROM note"))
    mark_changed(request.dbsession)
    return show(request)


@exception_view_config(IntegrityError, renderer="json")
def refuse(error: IntegrityError, request: Request) -> dict[str, Any]:
    """Say that the database has refused a note."""
    request.response.status = 409
    return {"error": str(error.orig)}


@view_config(route_name="export")
def export(request: Request) -> Response:
    """Send the notes, one a line: all of them at once, for the session is closed before the body is sent."""
    notes = request.dbsession.scalars(select(Note.text).order_by(Note.id))
    return Response("".join(f"{note}\n" for note in notes), content_type="text/plain")


def import_notes(notes: list[str]) -> None:
    """Add notes, from a script."""
    with transaction.manager:
        joined(transaction.manager).add_all(Note(text=note) for note in notes)


SETTINGS = {"tm.manager_hook": "pyramid_tm.explicit_manager", "tm.commit_veto": "pyramid_tm.default_commit_veto"}

with Configurator(settings=SETTINGS) as config:
    config.include("pyramid_tm")
    config.add_request_method(dbsession, reify=True)
    config.add_route("notes", "/notes")
    config.add_route("export", "/notes/export")
    config.scan(__name__)
    application = config.make_wsgi_app()
