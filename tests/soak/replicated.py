"""An application over a primary and its replicas, to be served by several processes: it writes, reads and says where.

``POST /?client=7&number=3`` writes a pair of marks, in one transaction; ``GET /?client=7`` counts those of a client.
The answer is of JSON: what was read, from which server's port, and what this process has sent where.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy import URL, create_engine, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    gateway_timeout,
    on_unsafe_success,
    service_unavailable,
)
from wsgi_session.replicas import Replicas

VARIABLE = "REPLICATED"
"""The variable of the environment with the servers' addresses."""

SECRET = "of these tests alone"
THREADS = 8
"""Of each process."""


class Base(DeclarativeBase):
    """The tables."""


class Mark(Base):
    """Half of what a request has written."""

    __tablename__ = "mark"
    id: Mapped[int] = mapped_column(primary_key=True)
    client: Mapped[int] = mapped_column(index=True)
    number: Mapped[int]
    half: Mapped[int]


Session = RequestScopedSession(sessionmaker())


def environment(primary: URL, replicas: Iterable[URL], *, wait: float, max_age: int = 60) -> dict[str, str]:
    """Return the variable for processes that use these servers."""
    addresses = [url.render_as_string(hide_password=False) for url in (primary, *replicas)]
    return {VARIABLE: json.dumps({"addresses": addresses, "wait": wait, "max_age": max_age})}


def application() -> Any:
    """Make the application, as ``docs/replicas.md`` says."""
    settings = json.loads(os.environ[VARIABLE])
    options = {"connect_args": {"connect_timeout": 2}, "pool_size": THREADS, "max_overflow": 2, "pool_timeout": 2}
    primary, *standbys = [create_engine(address, **options) for address in settings["addresses"]]
    Session.configure(bind=primary)
    replicas = Replicas(primary, standbys, wait=settings["wait"])

    def marks(environ: Any, start_response: Any) -> Any:
        asked = dict(parse_qsl(environ["QUERY_STRING"]))
        client = int(asked["client"])
        if environ["REQUEST_METHOD"] == "POST" or "writes" in asked:
            Session.add_all([Mark(client=client, number=int(asked["number"]), half=half) for half in (0, 1)])
            Session.flush()
            found = None
        else:
            found = Session.scalar(select(func.count()).where(Mark.client == client))
        port = Session().connection().connection.driver_connection.info.port
        body = json.dumps({"found": found, "port": port, "pid": os.getpid(), **sent_where(replicas)})
        if "writes" in asked:
            Session.commit()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body.encode()]

    inner = SessionMiddleware(marks, Session, commit=on_unsafe_success, bind=replicas)
    carrying = replicas.middleware(inner, SECRET, max_age=settings["max_age"])
    return in_doubt(
        RetryMiddleware(
            carrying,
            is_retryable=replicas.is_retryable,
            retry_disconnects=True,
            exhausted=service_unavailable,
            deadline=10,
            timed_out=gateway_timeout,
        )
    )


def sent_where(replicas: Replicas) -> dict[str, Any]:
    """Return what this process has asked, and what it has sent where."""
    gauges = replicas.gauges()
    return {
        "polls": sum(server.polls for server in gauges.servers),
        "on_replicas": gauges.on_replicas,
        "to_primary": gauges.to_primary,
    }


def in_doubt(app: Any) -> Any:
    """Answer 503 where a connection was lost in COMMIT, so that nobody knows what became of it."""

    def answered(environ: Any, start_response: Any) -> Any:
        try:
            return app(environ, start_response)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            start_response("503 Service Unavailable", [("Content-Length", "0"), ("X-Outcome", "unknown")])
            return []

    return answered
