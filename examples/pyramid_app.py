"""Pyramid: the session is ``request.dbsession``.

``commit=on_unsafe_success``: views add and change, none commits. What a POST, PUT, PATCH or DELETE has done is
committed before the first byte of its answer is sent. The answers that Pyramid makes of an exception, one of
``pyramid.httpexceptions`` or one with an exception view, are no successes: they are rolled back. ::

    gunicorn pyramid_app:application
"""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
from sqlalchemy import orm, select
from sqlalchemy.exc import IntegrityError

from notes import Note, Session
from wsgi_session import SessionMiddleware, on_unsafe_success, session_of


def dbsession(request: Request) -> orm.Session:
    """Let views write ``request.dbsession``."""
    return session_of(request.environ, Session)


@view_config(route_name="notes", request_method="GET", renderer="json")
def show(request: Request) -> dict[str, Any]:
    """Show all notes."""
    return {"notes": list(request.dbsession.scalars(select(Note.text).order_by(Note.id)))}


@view_config(route_name="notes", request_method="POST", renderer="json")
def add(request: Request) -> dict[str, Any]:
    """Add notes, all of them or none."""
    for text in request.json_body["notes"]:
        if not text:
            raise HTTPBadRequest("A note needs a text.")
        request.dbsession.add(Note(text=text))
    request.response.status = 201
    return show(request)


@exception_view_config(IntegrityError, renderer="json")
def refuse(error: IntegrityError, request: Request) -> dict[str, Any]:
    """Say that the database has refused a note."""
    request.response.status = 409
    return {"error": str(error.orig)}


@view_config(route_name="export")
def export(request: Request) -> Response:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    in_order = select(Note.text).order_by(Note.id)
    texts = request.dbsession.scalars(in_order, execution_options={"yield_per": 100})
    lines = (f"{text}\n".encode() for text in texts)
    return Response(app_iter=lines, content_type="text/plain")


with Configurator() as config:
    config.add_request_method(dbsession, reify=True)
    config.add_route("notes", "/notes")
    config.add_route("export", "/notes/export")
    config.scan(__name__)
    app = config.make_wsgi_app()
    application = SessionMiddleware(app, Session, commit=on_unsafe_success)
