"""Guarantee 10: clean-up never hides the error, and never stops half-way."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import Exchange, answer, is_clean, request
from wsgi_session import RequestScopedSession, SessionMiddleware, current_scope, never, session_scope

KEY = "sqlalchemy.session"


class WorkerTimeoutError(BaseException):
    """What a server raises in a worker that takes too long."""


class Stop(Exception):  # noqa: N818
    """What clean-up raises."""


@pytest.mark.parametrize("name", ["close", "rollback"])
def test_a_session_that_cannot_be_closed(engine: Engine, name: str, caplog: Any) -> None:
    """What a session's own clean-up raises is logged, the connection is thrown away, and nobody is told but the log."""

    def fail(self: Any) -> None:
        raise Stop(name)

    Broken = type("Broken", (SQLAlchemySession,), {name: fail})
    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Broken))
    ends: list[Any] = []
    for status in ("200 OK", "500 Internal Server Error"):

        def app(environ: Any, start_response: Any, status: str = status) -> Any:
            environ[KEY].execute(text("SELECT 1"))
            answer(start_response, status)
            return iter([b"x"])

        wrapped = SessionMiddleware(app, Session, commit=never)
        wrapped.on_request_end(ends.append)
        for _ in range(50):
            assert request(wrapped).body == b"x"
            assert is_clean(engine)
    assert len(ends) == 100
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    assert "could not be ended cleanly" in caplog.text


def test_a_failing_clean_up_does_not_hide_the_error(engine: Engine, caplog: Any) -> None:
    """The application's error is the caller's, whatever close, rollback and hooks raise; every hook runs."""

    class Broken(SQLAlchemySession):
        def close(self) -> None:
            raise Stop("close")

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Broken))
    ran: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        raise LookupError("the application's")

    def fail(scope: Any) -> None:
        ran.append("failing")
        raise Stop("hook")

    app = SessionMiddleware(app, Session)
    app.on_request_end(fail)
    app.on_request_end(lambda scope: ran.append("last"))
    with pytest.raises(LookupError, match="the application's"):
        request(app)

    assert ran == ["failing", "last"]
    assert "End hook" in caplog.text
    assert is_clean(engine)


def test_a_base_exception_in_a_hook_stops_nothing(Session: Any, engine: Engine) -> None:
    """Every session is closed and every hook runs before it goes on its way."""
    ran: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        current_scope().on_end(lambda scope: ran.append("last"))
        answer(start_response)
        return [b""]

    def fail(scope: Any) -> None:
        raise WorkerTimeoutError("hook")

    app = SessionMiddleware(app, Session)
    app.on_request_end(fail)
    with pytest.raises(WorkerTimeoutError):
        request(app)

    assert ran == ["last"]
    assert is_clean(engine)


def test_all_sessions_are_closed_whatever_one_raises(new_engine: Any) -> None:
    """A session that cannot be closed, even by a `BaseException`, keeps no other from being closed."""
    first, second = new_engine(), new_engine()

    class Broken(SQLAlchemySession):
        def close(self) -> None:
            raise WorkerTimeoutError("close")

    A: Any = RequestScopedSession(sessionmaker(first, class_=Broken))
    B: Any = RequestScopedSession(sessionmaker(second))

    def app(environ: Any, start_response: Any) -> Any:
        A.execute(text("SELECT 1"))
        B.execute(text("SELECT 1"))
        answer(start_response)
        return [b""]

    with pytest.raises(WorkerTimeoutError):
        request(SessionMiddleware(app, B))

    assert first.pool.checkedout() == 0
    assert second.pool.checkedout() == 0


@pytest.mark.system("postgresql")
def test_close_never_raises_because_of_the_database(postgresql_engine: Engine) -> None:
    """A connection that the server has cut is found out at the end, and only the log is told."""
    Session = RequestScopedSession(sessionmaker(postgresql_engine))
    killer = postgresql_engine.dialect.connect(
        **postgresql_engine.dialect.create_connect_args(postgresql_engine.url)[1]
    )
    killer.autocommit = True

    def app(environ: Any, start_response: Any) -> Any:
        number = environ[KEY].scalar(text("SELECT pg_backend_pid()"))
        answer(start_response)
        killer.execute("SELECT pg_terminate_backend(%s)", (number,))
        return iter([b"x"])

    app = SessionMiddleware(app, Session)
    for _ in range(5):
        exchange = Exchange(app)
        exchange.read().close()

        assert is_clean(postgresql_engine)
    killer.close()


def test_a_connection_that_cannot_be_rolled_back_is_thrown_away(engine: Engine, caplog: Any) -> None:
    """A rollback that fails in the driver costs the pool that connection, and nothing else."""
    Session = RequestScopedSession(sessionmaker(engine))
    closed: list[object] = []
    event.listen(engine, "close", lambda *args: closed.append(args))

    def refuse(connection: Any) -> None:
        raise engine.dialect.dbapi.OperationalError("no rollback")  # type: ignore[union-attr]

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        return [b""]

    event.listen(engine, "rollback", refuse)
    for _ in range(3):
        request(SessionMiddleware(app, Session))
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    event.remove(engine, "rollback", refuse)
    request(SessionMiddleware(app, Session))

    assert is_clean(engine)
    assert "could not be ended cleanly" in caplog.text


def test_in_a_block_too(engine: Engine) -> None:
    """A block's error is the caller's, whatever its clean-up raises."""

    class Broken(SQLAlchemySession):
        def close(self) -> None:
            raise Stop("close")

    Session: Any = RequestScopedSession(sessionmaker(engine, class_=Broken))
    with pytest.raises(LookupError), session_scope(Session):
        Session.execute(text("SELECT 1"))
        raise LookupError
    with pytest.raises(DBAPIError), session_scope(Session):
        Session.execute(text("SELECT nonsense"))

    assert is_clean(engine)
