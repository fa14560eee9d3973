"""The application under test: it adds words and shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import App, add_words, all_words, answer, request
from wsgi_session import RequestScopedSession, SessionMiddleware, on_unsafe_success


def shop(registry: Any, work: Callable[[Any], Iterable[bytes] | None] = lambda session: None) -> App:
    """Return an application that does *work* with the session of each request, and shows all words.

    A POST adds the word of its path; what *work* returns is the body, if it is not None.
    """

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        session = environ["sqlalchemy.session"]
        if environ["REQUEST_METHOD"] == "POST":
            add_words(session, environ["PATH_INFO"][1:])
        body = work(session)
        answer(start_response)
        return [",".join(all_words(session)).encode()] if body is None else body

    return SessionMiddleware(app, registry, commit=on_unsafe_success)


def registry_on(engine: Engine, **options: Any) -> RequestScopedSession[SQLAlchemySession]:
    """Return a registry on *engine*."""
    return RequestScopedSession(sessionmaker(engine, **options))


def text_of(app: App, method: str = "GET", path: str = "/") -> str:
    """Make a request, and return the text of the response."""
    return b"".join(request(app, method, path).chunks).decode()
