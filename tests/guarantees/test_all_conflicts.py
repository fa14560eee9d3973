"""True conflicts: two requests that want the same, on each database, in frameworks' hands, and in two phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from tests import postgresql
from tests.conflicts import Meeting, increment
from tests.drivers import DRIVERS, needs_mariadb, needs_postgresql
from tests.guarantees.test_all_databases import cut
from tests.helpers import Base, Word, add_words, answer, beside, is_clean, orphan, request, words
from wsgi_session import (
    PartialCommitError,
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    is_retryable,
    never,
    on_commit,
    on_success,
    retrying,
    session_scope,
)

KEY = "sqlalchemy.session"


# What is a conflict.


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_driver_says_in_a_conflict(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A serialization failure, or a lock that is not to be had, is known by its code, whatever the driver."""
    engine = engine_by(driver)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO word (id, text) VALUES (1, 'x')"))
    change = "UPDATE word SET text = 'y' WHERE id = 1"

    if engine.dialect.name == "postgresql":
        engine = create_engine(engine.url, isolation_level="REPEATABLE READ")
        with engine.connect() as first, engine.connect() as second:
            first.execute(text("SELECT text FROM word")).all()
            second.execute(text("SELECT text FROM word")).all()
            first.execute(text(change))
            first.commit()
            with pytest.raises(DBAPIError) as caught:
                second.execute(text(change))
    else:
        options = {"connect_args": {"timeout": 0}} if engine.dialect.name == "sqlite" else {}
        engine = create_engine(engine.url, **options)
        with engine.connect() as first, engine.connect() as second:
            if not options:
                second.execute(text("SET innodb_lock_wait_timeout = 1"))
            first.execute(text(change))
            with pytest.raises(DBAPIError) as caught:
                second.execute(text(change))
    engine.dispose()

    assert is_retryable(caught.value)
    assert caught.value.orig is not None
    assert is_retryable(caught.value.orig)


@pytest.mark.parametrize("driver", DRIVERS)
def test_other_errors_are_none(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A duplicate key, an unknown column and a connection that was cut are no conflicts."""
    engine = engine_by(driver)
    with sessionmaker(engine)() as session:
        session.execute(text("INSERT INTO word (id, text) VALUES (1, 'x')"))
        for statement in ("INSERT INTO word (id, text) VALUES (1, 'x')", "SELECT no_such_column FROM word"):
            with pytest.raises(DBAPIError) as caught, session.begin_nested():
                session.execute(text(statement))
            assert not is_retryable(caught.value)
        if engine.dialect.name == "sqlite":
            return
        cut(session)
        with pytest.raises(DBAPIError) as caught:
            session.execute(text("SELECT 1"))
        assert not is_retryable(caught.value)
        session.invalidate()


def test_what_is_raised_from_a_conflict_is_one(engine_by: Callable[..., Engine]) -> None:
    """An application's own error, raised ``from`` a conflict, is one; one that is raised beside it is not."""
    engine = engine_by("sqlite", connect_args={"timeout": 0})
    with beside(engine).connect() as first, engine.connect() as second:
        first.execute(text("INSERT INTO word (text) VALUES ('x')"))
        try:
            second.execute(text("INSERT INTO word (text) VALUES ('x')"))
        except DBAPIError as conflict:
            own, beside_it, partial = KeyError("own"), KeyError("beside"), PartialCommitError("half of it")
            own.__cause__ = beside_it.__context__ = partial.__cause__ = conflict
        first.rollback()

    assert is_retryable(own)
    assert not is_retryable(beside_it)
    assert not is_retryable(partial)
    assert not is_retryable(ValueError("40001"))


# Two requests.


def counting(meeting: Meeting) -> Any:
    """Make an application that increments one word; two that meet have read the same number."""

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        session.get(Word, 1)
        meeting.wait(environ["retry.attempt"])
        increment(session, 1)
        answer(start_response)
        return [b"done"]

    return app


def increment_locked(session: Any, number: int) -> None:
    """Increment a word that nobody else may change meanwhile: at READ COMMITTED the read alone keeps nobody from it."""
    session.get(Word, number, with_for_update=True)
    increment(session, number)
    session.flush()


def crossing(meeting: Meeting) -> Any:
    """Make an application that increments two words, in the order of the path; two that meet lock each other out."""

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        first, second = map(int, environ["PATH_INFO"].strip("/").split("-"))
        increment_locked(session, first)
        meeting.wait(environ["retry.attempt"])
        increment_locked(session, second)
        answer(start_response)
        return [b"done"]

    return app


def two_requests(engine: Engine, app: Any, *, commit: Any = on_success, **options: Any) -> list[Any]:
    """Send two at once, and return what the hook was told."""
    with sessionmaker(engine).begin() as session:
        session.add_all([Word(id=1, text="0"), Word(id=2, text="0")])
    told: list[Any] = []
    registry = RequestScopedSession(sessionmaker(engine))
    app = RetryMiddleware(
        SessionMiddleware(app, registry, commit=commit), attempts=10, on_failed_attempt=told.append, **options
    )
    with ThreadPoolExecutor(2) as threads:
        exchanges = list(threads.map(lambda path: request(app, "POST", path), ["/1-2", "/2-1"]))
    assert [exchange.status[:3] for exchange in exchanges] == ["200", "200"]
    return told


@pytest.fixture
def two(engine_by: Callable[..., Engine]) -> Callable[..., Engine]:
    """Return a function that makes an engine with two connections."""
    return lambda driver, **options: engine_by(driver, pool_size=2, pool_timeout=20, **options)


@needs_postgresql
def test_a_serialization_failure(two: Callable[..., Engine]) -> None:
    """PostgreSQL, SERIALIZABLE: two that have read the same number count to two."""
    engine = two("postgresql+psycopg", isolation_level="SERIALIZABLE")

    told = two_requests(engine, counting(Meeting()))

    assert {failed.error.orig.sqlstate for failed in told} == {"40001"}
    assert words(engine) == ["2", "0"]
    assert is_clean(engine)


@pytest.mark.parametrize(
    "driver",
    [
        pytest.param("postgresql+psycopg", marks=needs_postgresql),
        pytest.param("mariadb+pymysql", marks=needs_mariadb),
    ],
)
def test_a_deadlock(driver: str, two: Callable[..., Engine]) -> None:
    """PostgreSQL and MariaDB: two that have locked each other out are both done."""
    engine = two(driver)

    told = two_requests(engine, crossing(Meeting()))

    assert len(told) >= 1
    assert words(engine) == ["2", "2"]
    assert is_clean(engine)


def test_a_busy_database(two: Callable[..., Engine]) -> None:
    """SQLite: the one that finds the file locked comes after the other."""
    engine = two("sqlite", connect_args={"timeout": 0})
    meeting = Meeting()

    def app(environ: Any, start_response: Any) -> Any:
        meeting.wait(environ["retry.attempt"])
        environ[KEY].execute(text("UPDATE word SET text = CAST(text AS INTEGER) + 1 WHERE id = 1"))
        answer(start_response)
        return [b"done"]

    two_requests(engine, app)

    assert words(engine) == ["2", "0"]
    assert is_clean(engine)


@needs_postgresql
def test_jobs(two: Callable[..., Engine]) -> None:
    """Two jobs in each other's way are both done, and so are a job and a request."""
    engine = two("postgresql+psycopg", isolation_level="SERIALIZABLE")
    with sessionmaker(engine).begin() as session:
        session.add(Word(id=1, text="0"))
    Session = RequestScopedSession(sessionmaker(engine))
    meeting = Meeting()
    told: list[Any] = []

    @retrying(Session, on_failed_attempt=told.append)
    def job(attempts: Iterator[int]) -> None:
        Session().get(Word, 1)
        meeting.wait(next(attempts))
        increment(Session(), 1)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(job, [iter(range(9)), iter(range(9))]))

    assert len(told) == 1
    assert words(engine) == ["2"]
    assert is_clean(engine)


@needs_postgresql
def test_a_connection_that_is_lost_in_commit(engine_by: Callable[..., Engine]) -> None:
    """Nobody knows whether it was committed, so the request is not repeated, whatever the user counts as a conflict."""
    engine = engine_by("postgresql+psycopg")
    with engine.begin() as connection:
        connection.execute(text(CUT_IN_COMMIT))
    told: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "cut")
        answer(start_response)
        return [b"done"]

    wrapped = SessionMiddleware(app, RequestScopedSession(sessionmaker(engine)), commit=on_success)
    wrapped_ = RetryMiddleware(wrapped, is_retryable=lambda error: True, on_failed_attempt=told.append)
    try:
        with pytest.raises(DBAPIError):
            request(wrapped_, "POST")
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION cut() CASCADE"))

    assert [failed.obstacle for failed in told] == ["something was committed, or may have been"]
    assert is_clean(engine)


CUT_IN_COMMIT = """
    CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(1);
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON word DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.text = 'cut') EXECUTE FUNCTION cut()
"""
"""Has the server end the connection while a COMMIT runs."""


# Two phases.


@pytest.fixture(scope="module")
def two_phase_url() -> Iterator[Any]:
    """Return the address of a PostgreSQL that knows of prepared transactions."""
    with postgresql.server(max_prepared_transactions=10) as server:
        yield server.url


TWO_PHASE = [
    pytest.param("postgresql", marks=pytest.mark.system("postgresql-server")),
    pytest.param("mariadb", marks=needs_mariadb),
]


@pytest.fixture
def two_phase(request: pytest.FixtureRequest, database: str) -> Iterator[Engine]:
    """Return an engine with two connections, on a database for two-phase sessions, and empty tables."""
    url = request.getfixturevalue({"postgresql": "two_phase_url", "mariadb": "mariadb_url"}[database])
    engine = create_engine(url, pool_size=2, max_overflow=0, pool_timeout=20)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def two_phase_registry(engine: Engine) -> Any:
    """Make a registry of two-phase sessions."""
    return RequestScopedSession(sessionmaker(engine, twophase=True))


@pytest.mark.parametrize("database", TWO_PHASE)
def test_two_phases_under_a_rule(two_phase: Engine) -> None:
    """A rule commits a two-phase session as any other, and calls what waits for that."""
    called: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], environ["PATH_INFO"])
        savepoint = environ[KEY].begin_nested()
        on_commit(environ[KEY], lambda: called.append("dropped"))
        savepoint.rollback()
        on_commit(environ[KEY], lambda: called.extend(words(two_phase)))
        answer(start_response, "200 OK" if environ["PATH_INFO"] == "/yes" else "400 No")
        return [b""]

    wrapped = SessionMiddleware(app, two_phase_registry(two_phase), commit=on_success)
    request(wrapped, "POST", "/yes")
    request(wrapped, "POST", "/no")

    assert words(two_phase) == ["/yes"]
    assert called == ["/yes"]
    assert is_clean(two_phase)


@pytest.mark.parametrize("database", TWO_PHASE)
def test_two_phases_in_a_block_and_in_the_handler(two_phase: Engine) -> None:
    """So do a block and the application itself; what is not committed is rolled back."""
    Session = two_phase_registry(two_phase)

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "handler")
        environ[KEY].commit()
        add_words(environ[KEY], "lost")
        environ[KEY].flush()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, commit=never), "POST")
    with session_scope(Session) as session:
        add_words(session, "block")

    assert sorted(words(two_phase)) == ["block", "handler"]
    assert is_clean(two_phase)


@pytest.mark.parametrize("database", TWO_PHASE)
def test_two_phases_repeated(two_phase: Engine) -> None:
    """A conflict of two-phase transactions is repeated."""
    with sessionmaker(two_phase).begin() as session:
        session.add_all([Word(id=1, text="0"), Word(id=2, text="0")])
    told: list[Any] = []
    app = RetryMiddleware(
        SessionMiddleware(crossing(Meeting()), two_phase_registry(two_phase), commit=on_success),
        attempts=10,
        on_failed_attempt=told.append,
    )

    with ThreadPoolExecutor(2) as threads:
        exchanges = list(threads.map(lambda path: request(app, "POST", path), ["/1-2", "/2-1"]))

    assert [exchange.body for exchange in exchanges] == [b"done", b"done"]
    assert len(told) >= 1
    assert words(two_phase) == ["2", "2"]
    assert is_clean(two_phase)


@pytest.mark.parametrize("database", [TWO_PHASE[0]])
def test_a_first_phase_that_fails(two_phase: Engine) -> None:
    """What the first phase refuses is a 500, and nothing of it is left."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].add(orphan())
        answer(start_response)
        return [b""]

    with pytest.raises(SQLAlchemyError):  # 2.0.31 has an error of its own in place of the driver's
        request(SessionMiddleware(app, two_phase_registry(two_phase), commit=on_success), "POST")

    assert is_clean(two_phase)
    with two_phase.connect() as connection:
        assert connection.recover_twophase() == []


def test_a_database_without_two_phases(engine_by: Callable[..., Engine]) -> None:
    """On SQLite SQLAlchemy's error passes through."""
    engine = engine_by("sqlite")

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        answer(start_response)
        return [b""]

    with pytest.raises(NotImplementedError):
        request(SessionMiddleware(app, two_phase_registry(engine), commit=on_success), "POST")

    assert is_clean(engine)
