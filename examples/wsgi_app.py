"""No framework: the session is ``environ["sqlalchemy.session"]``, and what a call of the registry returns.

``commit=on_unsafe_success``: the application adds and changes, and does not commit. What a POST, PUT, PATCH or
DELETE has done is committed before the first byte of its answer is sent. A status from 400 on is no success,
and neither is an exception: both are rolled back. ::

    gunicorn wsgi_app:application
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from sqlalchemy import select

from notes import Note, Session
from wsgi_session import SessionMiddleware, on_unsafe_success


def notes(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request."""
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/notes":
            return answer(start_response, HTTPStatus.OK, show())
        case "POST", "/notes":
            return answer(start_response, *add(environ))
        case "GET", "/notes/export":
            start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
            return export()
        case _:
            return answer(start_response, HTTPStatus.NOT_FOUND, {"error": "There is no such page."})


def show() -> dict[str, Any]:
    """Show all notes; a function that is given no environ asks the registry."""
    return {"notes": list(Session().scalars(select(Note.text).order_by(Note.id)))}


def add(environ: WSGIEnvironment) -> tuple[HTTPStatus, dict[str, Any]]:
    """Add notes, all of them or none."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    for text in json.loads(body)["notes"]:
        if not text:
            return HTTPStatus.BAD_REQUEST, {"error": "A note needs a text."}
        environ["sqlalchemy.session"].add(Note(text=text))
    return HTTPStatus.CREATED, show()


def export() -> Iterable[bytes]:
    """Stream the notes, one a line: the session lives until the last of them is sent."""
    in_order = select(Note.text).order_by(Note.id)
    for text in Session().scalars(in_order, execution_options={"yield_per": 100}):
        yield f"{text}\n".encode()


def answer(start_response: StartResponse, status: HTTPStatus, content: dict[str, Any]) -> list[bytes]:
    """Send JSON; a list is handed to the server as it is, after the end of the session."""
    body = json.dumps(content).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]


application = SessionMiddleware(notes, Session, commit=on_unsafe_success)
