"""The application whose processes fork, are stopped and are killed: on PostgreSQL, with a pool of one connection.

The engine is used where the module is imported, so that a server that forks afterwards has children with a parent's
connection. ``SERVED_DATABASE`` is the address of the database.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from wsgi_session import RequestScopedSession, Scope, SessionMiddleware, session_scope

from .journal import note, wait

engine = create_engine(os.environ["SERVED_DATABASE"], pool_size=1, max_overflow=0, pool_timeout=1, pool_pre_ping=True)
Session = RequestScopedSession(sessionmaker(engine))


def backend(session: SQLAlchemySession) -> int:
    """Ask which of PostgreSQL's processes the session speaks to."""
    return int(session.scalars(text("SELECT pg_backend_pid()")).one())


def note_own_backend(step: str) -> None:
    """Use the engine outside of requests, and log which connection that was."""
    with session_scope(Session) as session:
        note("process", step, pid=os.getpid(), backend=backend(session))


@event.listens_for(engine, "invalidate")
def note_invalidated(driver: Any, record: object, error: BaseException | None) -> None:
    """Log a connection that is thrown away."""
    note("pool", "invalidated", backend=driver.info.backend_pid)


class Stream:
    """A body that writes, waits in the middle, and uses the session again."""

    def __init__(self, name: str, session: SQLAlchemySession) -> None:
        """Send two chunks."""
        self._chunks = self._generate(name, session)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def _generate(self, name: str, session: SQLAlchemySession) -> Iterator[bytes]:
        yield str(backend(session)).encode() + b" "
        wait(name)
        yield str(backend(session)).encode()


def behave(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Do what the path says; all but the report leave a row that is not committed."""
    path, name = environ["PATH_INFO"], environ["QUERY_STRING"]
    session: SQLAlchemySession = environ["sqlalchemy.session"]
    if path in ("/sleep", "/wait", "/stream"):
        note(name, "call", pid=os.getpid(), backend=backend(session))
        session.execute(text("INSERT INTO word (text) VALUES (:name)"), {"name": name})
    if path == "/sleep":
        session.execute(text("SELECT pg_sleep(30)"))
    if path == "/wait":
        wait(name)
        backend(session)
    headers = [("Content-Type", "application/json")]
    if path == "/stream":
        start_response("200 OK", headers)
        return Stream(name, session)
    out = engine.pool.checkedout()  # type: ignore[attr-defined]
    rows = session.scalars(text("SELECT count(*) FROM word")).one()
    start_response("200 OK", headers)
    return [json.dumps({"pid": os.getpid(), "backend": backend(session), "rows": rows, "out before": out}).encode()]


application = SessionMiddleware(behave, Session)


@application.on_request_end
def note_end(scope: Scope) -> None:
    """Log the end of a request."""
    assert scope.environ is not None
    note(scope.environ["QUERY_STRING"], "end")


note_own_backend("imported")
