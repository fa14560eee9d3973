"""Guarantee 4: a clean connection goes back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import StaticPool

from tests.helpers import Base, add_words, all_words, answer, is_clean, orphan, request, words
from wsgi_session import RequestScopedSession, SessionMiddleware, on_success, retrying, session_scope

KEY = "sqlalchemy.session"


def commits(session: Any) -> None:
    """Let the application commit."""
    session.commit()


def closes_too(session: Any) -> None:
    """Handle the failure, as an application does that closes its sessions itself."""
    with pytest.raises(IntegrityError), session:
        session.commit()


def removes(session: Any) -> None:
    """Handle the failure and go on."""
    with pytest.raises(IntegrityError):
        session.commit()
    session.close()


@pytest.mark.parametrize("handle", [commits, closes_too, removes, None])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.system("postgresql"))])
def test_after_a_failed_commit(database: str, handle: Any, request: pytest.FixtureRequest) -> None:
    """Whoever's COMMIT fails, and however the session is closed, the next request's commits nothing of it."""
    engine: Engine = request.getfixturevalue("engine" if database == "sqlite" else "postgresql_engine")
    Session = RequestScopedSession(sessionmaker(engine))

    def fails(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "failed")
        environ[KEY].add(orphan())
        if handle:
            handle(environ[KEY])
        answer(start_response)
        return [b""]

    def succeeds(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "next")
        environ[KEY].commit()
        answer(start_response)
        return [b""]

    if handle in (commits, None):
        with pytest.raises(IntegrityError):
            _request(SessionMiddleware(fails, Session, commit=on_success))
    else:
        _request(SessionMiddleware(fails, Session))
    assert is_clean(engine)
    _request(SessionMiddleware(succeeds, Session))

    assert words(engine) == ["next"]


def _request(app: Any) -> Any:
    return request(app)


def test_after_a_commit_that_found_sqlite_busy(engine: Engine) -> None:
    """A COMMIT that fails because another connection reads is rolled back, too."""
    Session = RequestScopedSession(sessionmaker(engine))
    event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA busy_timeout = 0"))
    reader = sqlite3.connect(engine.url.database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM word").fetchall()

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], environ["PATH_INFO"])
        answer(start_response)
        return [b""]

    app = SessionMiddleware(app, Session, commit=on_success)
    with pytest.raises(OperationalError, match="locked"):
        request(app, path="/busy")
    reader.execute("ROLLBACK")
    assert is_clean(engine)
    request(app, path="/next")
    reader.close()

    assert words(engine) == ["/next"]


def test_after_a_base_exception_the_connection_is_invalidated(Session: Any, engine: Engine) -> None:
    """What may have struck in the middle of a statement leaves a connection that is not used again."""
    connects: list[object] = []
    event.listen(engine, "connect", lambda connection, record: connects.append(connection))

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        if environ["PATH_INFO"] != "/":
            raise {"/exit": SystemExit, "/generator": GeneratorExit, "/error": ValueError}[environ["PATH_INFO"]]
        answer(start_response)
        return [b""]

    app = SessionMiddleware(app, Session)
    numbers = []
    for path, error in (("/generator", GeneratorExit), ("/error", ValueError), ("/exit", SystemExit)):
        with pytest.raises(error):
            request(app, path=path)
        request(app)
        numbers.append(len(connects))

    assert numbers[1] == numbers[0]
    assert numbers[2] == numbers[0] + 1
    assert is_clean(engine)


def test_in_a_step_the_session_stays_usable_after_a_base_exception(new_engine: Any) -> None:
    """Its connection is gone at once, and its pending objects; another is taken when it is used again."""
    engine = new_engine()
    Session: Any = RequestScopedSession(sessionmaker(engine, close_resets_only=False))

    class Body:
        def __iter__(self) -> Body:
            return self

        def __next__(self) -> bytes:
            add_words(Session, "lost")
            Session.flush()
            add_words(Session, "pending")
            raise SystemExit

        def close(self) -> None:
            assert engine.pool.checkedout() == 0
            add_words(Session, "kept")
            Session.commit()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    with pytest.raises(SystemExit):
        request(SessionMiddleware(app, Session))

    assert words(engine) == ["kept"]


def test_a_pool_that_is_the_database_is_rolled_back(new_engine: Callable[..., Engine]) -> None:
    """An in-memory database survives a `BaseException`; what the request wrote does not."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    Session = RequestScopedSession(sessionmaker(engine))
    with session_scope(Session):
        add_words(Session, "kept")

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "lost")
        Session.flush()
        raise SystemExit

    with pytest.raises(SystemExit):
        request(SessionMiddleware(app, Session))

    with session_scope(Session):
        assert all_words(Session) == ["kept"]
    engine.dispose()


@pytest.mark.parametrize("error", [None, ValueError, SystemExit])
def test_a_connection_of_the_users_survives(engine: Engine, error: Any) -> None:
    """A session that is bound to a `Connection` never closes or invalidates it, whatever the exit."""
    with engine.connect() as connection:
        Session: Any = RequestScopedSession(sessionmaker(connection, join_transaction_mode="create_savepoint"))
        outer = connection.begin()
        driver = connection.connection.driver_connection

        def app(environ: Any, start_response: Any) -> Any:
            add_words(Session, "x")
            Session.flush()
            if error:
                raise error
            answer(start_response)
            return iter([b"x"])

        for _ in range(3):
            if error:
                with pytest.raises(error):
                    request(SessionMiddleware(app, Session))
            else:
                request(SessionMiddleware(app, Session))
            assert connection.scalar(text("SELECT count(*) FROM word")) == 0
        assert connection.connection.driver_connection is driver
        assert outer.is_active
        outer.rollback()


def test_a_failed_commit_on_a_connection_of_the_users(engine: Engine) -> None:
    """It is rolled back at once, though no session has the connection to give back."""
    with engine.connect() as connection:
        Session: Any = RequestScopedSession(sessionmaker(connection))
        outer = connection.begin()
        with session_scope(Session):
            Session.add(orphan())

        with pytest.raises(DBAPIError, match="FOREIGN KEY"):
            outer.commit()

        assert not connection.connection.driver_connection.in_transaction  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(lambda registry: session_scope(registry), id="in a block"),
        pytest.param(lambda registry: retrying(registry), id="in an attempt"),
    ],
)
def test_a_rollback_that_fails_after_a_failed_commit_is_logged(block: Any, engine: Engine, caplog: Any) -> None:
    """The error of COMMIT is the one that the caller sees, and the connection is not used again."""
    Session: Any = RequestScopedSession(sessionmaker(engine))

    class Stubborn(sqlite3.Connection):
        def rollback(self) -> None:
            if self.in_transaction:
                super().rollback()
                raise sqlite3.OperationalError("no rollback")

    stubborn = create_engine(engine.url, connect_args={"factory": Stubborn}, pool_size=1, max_overflow=0)
    event.listen(stubborn, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys = ON"))
    Session.configure(bind=stubborn)

    @block(Session)
    def fail() -> None:
        Session.add(orphan())

    with pytest.raises(DBAPIError, match="FOREIGN KEY"):
        fail()

    assert "A failed COMMIT could not be rolled back" in caplog.text
    assert is_clean(stubborn)
    stubborn.dispose()


def test_an_application_that_translates_errors(Session: Any, engine: Engine) -> None:
    """A failed COMMIT leaves a clean connection, also where a listener of the application raises its own error."""

    @event.listens_for(engine, "handle_error")
    def translate(context: Any) -> None:
        raise LookupError("its own") from context.original_exception

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/fails":
            environ[KEY].add(orphan())
        answer(start_response)
        return [b""]

    wrapped = SessionMiddleware(app, Session, commit=on_success)
    with pytest.raises(LookupError):
        request(wrapped, path="/fails")

    assert is_clean(engine)
    request(wrapped, path="/next")
    assert words(engine) == ["/next"]
