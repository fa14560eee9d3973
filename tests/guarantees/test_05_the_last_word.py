"""5: the database has the last word, on every database, with every driver, whoever commits."""

from __future__ import annotations

import inspect
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool.base import _AdhocProxiedConnection
from sqlalchemy.schema import CreateTable

from tests import mariadb, postgresql
from tests.drivers import MARIADB
from tests.helpers import Base, Word, add_words, answer, beside, is_clean, request, words
from wsgi_session import (
    RequestScopedSession,
    SessionMiddleware,
    TransactionLostError,
    is_retryable,
    never,
    on_commit,
    on_unsafe_success,
    retrying,
    session_scope,
)
from wsgi_session._session import traces
from wsgi_session._session.codes import code_of
from wsgi_session.testing import IsolationError, isolated

KEY = "sqlalchemy.session"
SECRET = "hunter2"  # what no message may repeat

postgresql_only = pytest.mark.system("postgresql")
mariadb_only = pytest.mark.system("mariadb")


def engine_of(session: Any) -> Engine:
    """Return the engine of a session, or of a connection."""
    engine: Engine = (session if isinstance(session, Connection) else session.get_bind()).engine
    return engine


# Ways to lose a transaction. Each has written "before" when it begins, and handles the error.


@contextmanager
def handled() -> Iterator[None]:
    """Do what an application does that goes on."""
    with pytest.raises(DBAPIError):
        yield


def a_failed_query(session: Any) -> None:
    """A query fails."""
    with handled():
        session.execute(text(f"SELECT '{SECRET}' FROM no_such_table"))


def a_refused_insert(session: Any) -> None:
    """A row is there already."""
    with handled():
        session.execute(text(f"INSERT INTO word (id, text) VALUES (1001, '{SECRET}')"))


def a_timeout(session: Any) -> None:
    """A statement takes too long."""
    session.execute(text("SET LOCAL statement_timeout = '5ms'"))
    with handled():
        session.execute(text(f"SELECT pg_sleep(20), '{SECRET}'"))


def an_exception_of_a_function(session: Any) -> None:
    """A function of the database raises."""
    with handled():
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}'; END $$"))


def a_savepoint_that_was_released(session: Any) -> None:
    """A savepoint before the error heals nothing."""
    with session.begin_nested():
        add_words(session, "in a savepoint")
    a_failed_query(session)


def a_serialization_failure(session: Any) -> None:
    """Somebody else has changed the row meanwhile."""
    session.rollback()
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    add_words(session, "before")
    session.flush()
    session.scalars(select(Word.text)).all()
    with beside(engine_of(session)).begin() as other:
        other.execute(update(Word).where(Word.id == 1001).values(text="there"))
    with handled():
        session.execute(update(Word).where(Word.id == 1001).values(text=SECRET))


def a_deadlock(session: Any) -> None:
    """Two wait for each other, and this one is to give way."""
    with handled():
        meet_a_deadlock(session)


def meet_a_deadlock(session: Any, then: Callable[[Any], object] = id) -> None:
    """Wait for somebody who waits for this one, and raise the error of the database.

    Args:
        session: The one that is to give way.
        then: Is called with it when it has written.
    """
    engine = engine_of(session)
    ours, theirs = (text(f"UPDATE word SET text = text WHERE id = {number}") for number in (1001, 1002))
    session.execute(ours)
    then(session)
    with beside(engine).connect() as other:
        if engine.dialect.name == "postgresql":  # the victim is who looks first
            session.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
            other.execute(text("SET LOCAL deadlock_timeout = '20s'"))
        else:  # the victim is who has written less
            other.execute(text("INSERT INTO letter (word_id) VALUES " + ", ".join(["(1002)"] * 20)))
        other.execute(theirs)
        waiting = threading.Thread(target=other.execute, args=[ours])
        waiting.start()
        wait_for_a_lock(engine)
        try:
            session.execute(theirs)
        finally:
            waiting.join(20)
            other.rollback()


def wait_for_a_lock(engine: Engine) -> None:
    """Wait until somebody waits for a lock in the database of *engine*."""
    for _ in range(1000):
        with beside(engine).connect() as connection:
            if LOCK_WAITERS[engine.dialect.name](connection):
                return
        time.sleep(0.01)
    raise AssertionError("Nobody waits for a lock.")


def lock_waiters_of_postgresql(connection: Connection) -> set[int]:
    """Return who waits for a lock."""
    waiting = "wait_event_type = 'Lock' AND datname = current_database()"
    return set(connection.scalars(text(f"SELECT pid FROM pg_stat_activity WHERE {waiting}")))


def lock_waiters_of_mariadb(connection: Connection) -> set[int]:
    """Return who waits for a lock; `innodb_trx` would stay as it is for as long as it is asked ten times a second."""
    status = connection.execute(text("SHOW ENGINE INNODB STATUS")).one().Status
    _, _, transactions = status.partition("\nTRANSACTIONS\n")
    waiting = {int(number) for number in re.findall(r"^LOCK WAIT .*\n.*thread id (\d+),", transactions, re.MULTILINE)}
    here = text("SELECT id FROM information_schema.processlist WHERE db = DATABASE()")
    return waiting.intersection(connection.scalars(here))


LOCK_WAITERS = {
    "postgresql": lock_waiters_of_postgresql,
    "mariadb": lock_waiters_of_mariadb,
}


def a_deadlock_and_a_second_half(session: Any) -> None:
    """What is written after the error begins a transaction of its own."""
    a_deadlock(session)
    add_words(session, "after")
    session.flush()


def a_deadlock_in_a_savepoint(session: Any) -> None:
    """The savepoint is gone, too, and its end says only that."""
    with suppress(DBAPIError), session.begin_nested():
        a_deadlock(session)
        session.execute(text("SAVEPOINT of_mine"))
    with suppress(DBAPIError), session.begin_nested():
        add_words(session, "after")
        session.flush()


def a_snapshot_that_is_too_old(session: Any) -> None:
    """A row has changed since it was read, under ``innodb_snapshot_isolation``."""
    session.rollback()
    session.execute(text("SET innodb_snapshot_isolation = ON"))
    session.commit()
    session.scalars(select(Word.text)).all()
    add_words(session, "before")
    session.flush()
    with beside(engine_of(session)).begin() as other:
        other.execute(update(Word).where(Word.id == 1001).values(text="changed"))
        other.execute(update(Word).where(Word.id == 1001).values(text="there"))
    with handled():
        session.execute(update(Word).where(Word.id == 1001).values(text=SECRET))


def or_rollback(session: Any) -> None:
    """A statement asks for it."""
    with handled():
        session.execute(text(f"INSERT OR ROLLBACK INTO word (id, text) VALUES (1001, '{SECRET}')"))


def or_rollback_and_a_second_half(session: Any) -> None:
    """What is written after it begins a transaction of its own."""
    or_rollback(session)
    add_words(session, "after")
    session.flush()


def a_trigger_that_rolls_back(session: Any) -> None:
    """A trigger asks for it."""
    session.rollback()
    session.execute(
        text(
            "CREATE TRIGGER IF NOT EXISTS refused BEFORE UPDATE ON word WHEN NEW.text = 'refused'"
            f" BEGIN SELECT RAISE(ROLLBACK, '{SECRET}'); END"
        )
    )
    session.commit()
    add_words(session, "before")
    session.flush()
    with handled():
        session.execute(text("UPDATE word SET text = 'refused'"))


def rollback_as_text(session: Any) -> None:
    """The application sends it past SQLAlchemy."""
    session.execute(text("ROLLBACK"))


OF_POSTGRESQL = [
    a_failed_query,
    a_refused_insert,
    a_timeout,
    an_exception_of_a_function,
    a_savepoint_that_was_released,
    a_serialization_failure,
    a_deadlock,
]
OF_MARIADB = [a_deadlock, a_deadlock_and_a_second_half, a_deadlock_in_a_savepoint, a_snapshot_that_is_too_old]
OF_SQLITE = [or_rollback, or_rollback_and_a_second_half, a_trigger_that_rolls_back]
OF_ALL = [rollback_as_text]

DRIVERS: list[tuple[str, list[Any], list[Callable[[Any], None]]]] = [
    ("sqlite", [], OF_SQLITE),
    ("sqlite begun", [], OF_SQLITE),
    ("postgresql+psycopg", [postgresql_only], OF_POSTGRESQL),
    ("postgresql+psycopg2", [postgresql_only], OF_POSTGRESQL),
    ("postgresql+pg8000", [postgresql_only], OF_POSTGRESQL),
    ("mariadb+pymysql", [mariadb_only], OF_MARIADB),
    ("mariadb+mysqldb", [mariadb_only, pytest.mark.system("mysqlclient")], OF_MARIADB),
]
WAYS = [
    pytest.param(driver, way, marks=marks, id=f"{driver}-{way.__name__}")
    for driver, marks, ways in DRIVERS
    for way in [*ways, *OF_ALL]
]
on_postgresql = pytest.mark.parametrize("driver", [pytest.param("postgresql+psycopg", marks=postgresql_only)])
with_every_driver = pytest.mark.parametrize("driver", [pytest.param(name, marks=marks) for name, marks, _ in DRIVERS])


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one, by the driver of the test, and two words."""
    name, _, is_begun = driver.partition(" ")
    engine = engine_by(name)
    if is_begun:
        begin_at_once(engine)
    with sessionmaker(engine).begin() as session:
        session.add_all([Word(id=1001, text="there"), Word(id=1002, text="there too")])
    return engine


def begin_at_once(engine: Engine) -> None:
    """Have SQLite begin for real, as SQLAlchemy's documentation shows it."""

    def on_connect(connection: Any, _entry: object) -> None:
        connection.isolation_level = None

    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    engine.dispose()


# Who commits. Each runs the way, and lets its commit's error out.

Way = Callable[[Any], None]


def written(session: Any, way: Way, told: list[str]) -> None:
    """Write, and lose it."""
    on_commit(session, lambda: told.append("committed"))
    add_words(session, "before")
    session.flush()
    way(session)


def a_rule(Session: Any, way: Way, told: list[str]) -> None:
    """A commit rule."""

    def app(environ: Any, start_response: Any) -> Any:
        written(environ[KEY], way, told)
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, Session, commit=on_unsafe_success), "POST")


def a_rule_for_a_generator(Session: Any, way: Way, told: list[str]) -> None:
    """A commit rule, before the first chunk."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        written(environ[KEY], way, told)
        answer(start_response)
        yield b"saved"

    request(SessionMiddleware(app, Session, commit=on_unsafe_success), "POST")


def the_view(Session: Any, way: Way, told: list[str]) -> None:
    """The application itself."""

    def app(environ: Any, start_response: Any) -> Any:
        written(environ[KEY], way, told)
        environ[KEY].commit()
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, Session, commit=never), "POST")


def a_block(Session: Any, way: Way, told: list[str]) -> None:
    """A block of `session_scope`."""
    with session_scope(Session) as session:
        written(session, way, told)


def a_job(Session: Any, way: Way, told: list[str]) -> None:
    """A job that would be done again."""

    @retrying(Session, attempts=1)
    def job() -> None:
        written(Session(), way, told)

    job()


COMMITTERS = [a_rule, a_rule_for_a_generator, the_view, a_block, a_job]


@pytest.mark.parametrize(("driver", "way"), WAYS)
@pytest.mark.parametrize("commits", COMMITTERS, ids=lambda commits: commits.__name__)
def test_nothing_is_called_committed_that_is_not(way: Way, commits: Any, engine: Engine) -> None:
    """Whoever commits is told that the transaction is lost, and why; nothing is saved, and no callback runs."""
    Session = RequestScopedSession(sessionmaker(engine))
    told: list[str] = []

    with pytest.raises(TransactionLostError) as raised:
        commits(Session, way, told)

    assert set(words(engine)) == {"there", "there too"}
    assert told == []
    assert SECRET not in str(raised.value)
    assert_well(engine)


BY_TEXT = [a_failed_query, a_refused_insert, a_timeout, a_deadlock, or_rollback, rollback_as_text]


@pytest.mark.parametrize(("driver", "way"), [one for one in WAYS if one.values[1] in BY_TEXT])
def test_core_is_told_too(way: Way, engine: Engine) -> None:
    """A transaction of SQLAlchemy's Core, on an engine on which a session of ours has begun, is told as well."""
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        session.scalars(select(Word.text)).all()

    with engine.connect() as connection:
        connection.execute(insert(Word).values(id=1003, text="before"))
        way(connection)
        with pytest.raises(TransactionLostError):
            connection.commit()

    assert set(words(engine)) == {"there", "there too"}
    assert_well(engine)


OF_ALL_DRIVERS = [
    one
    for one in WAYS
    if one.values[1] in (a_failed_query, a_deadlock, or_rollback) and one.values[0] != "sqlite begun"
]


@pytest.mark.parametrize(("driver", "way"), OF_ALL_DRIVERS)
def test_a_rollback_heals_what_goes_on_on_the_same_connection(way: Way, engine: Engine) -> None:
    """What is written after it is committed, though the pool has not had the connection meanwhile."""
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        session.scalars(select(Word.text)).all()

    with engine.connect() as connection:
        connection.execute(insert(Word).values(id=1003, text="before"))
        way(connection)
        connection.rollback()
        connection.execute(insert(Word).values(id=1004, text="after"))
        connection.commit()

    assert set(words(engine)) == {"there", "there too", "after"}
    assert_well(engine)


@on_postgresql
def test_a_conflict_of_what_had_only_read(engine: Engine) -> None:
    """It is to be repeated, though nothing was written that is lost: what comes of the reads may be wrong."""
    Session: Any = RequestScopedSession(sessionmaker(engine))
    with pytest.raises(TransactionLostError, match="40001"), session_scope(Session) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        session.scalars(select(Word.text)).all()
        with beside(engine).begin() as other:
            other.execute(update(Word).where(Word.id == 1001).values(text="theirs"))
        with handled():
            session.execute(update(Word).where(Word.id == 1001).values(text="ours"))

    assert set(words(engine)) == {"theirs", "there too"}
    assert_well(engine)


# Where nothing is lost, nothing is said.


@contextmanager
def refused() -> Iterator[None]:
    """Handle an error of a database."""
    with pytest.raises(DBAPIError):
        yield


def nothing(session: Any) -> None:
    """Nothing is sent."""


def a_read(session: Any) -> None:
    """Rows are read."""
    session.scalars(select(Word.text)).all()


def a_savepoint_around_the_error(session: Any) -> None:
    """A savepoint is what heals."""
    add_words(session, "kept")
    with refused(), session.begin_nested():
        session.execute(text("INSERT INTO word (id, text) VALUES (1001, 'twice')"))


def a_savepoint_that_came_first(session: Any) -> None:
    """Also as the first thing that a session does."""
    with refused(), session.begin_nested():
        session.execute(text("INSERT INTO word (id, text) VALUES (1001, 'twice')"))
    add_words(session, "kept")


def a_rollback_and_anew(session: Any) -> None:
    """The application rolls back itself, and begins anew."""
    add_words(session, "gone")
    session.flush()
    with refused():
        session.execute(text("SELECT * FROM no_such_table"))
    session.rollback()
    add_words(session, "kept")


def the_first_insert(session: Any) -> None:
    """The only thing that a transaction has tried is a row that is there already: nothing else is lost."""
    with refused():
        session.execute(text("INSERT INTO word (id, text) VALUES (1001, 'twice')"))


def a_query_after_reading(session: Any) -> None:
    """A query fails where only rows were read."""
    session.scalars(select(Word.text)).all()
    with refused():
        session.execute(text("SELECT * FROM no_such_table"))


def a_twice_refused_insert(session: Any) -> None:
    """A row that is there already undoes nothing else, on SQLite and MariaDB."""
    add_words(session, "kept")
    session.flush()
    with refused():
        session.execute(text("INSERT INTO word (id, text) VALUES (1001, 'twice')"))


def a_lock_of_the_users(session: Any) -> None:
    """A deadlock of ``GET_LOCK()`` has the code of one in the tables, and rolls nothing back."""
    add_words(session, "kept")
    session.flush()
    engine = engine_of(session)
    with beside(engine).connect() as other:
        session.execute(text("SELECT GET_LOCK('wsgi_session_a', 10)"))
        other.execute(text("SELECT GET_LOCK('wsgi_session_b', 10)"))
        waiting = threading.Thread(target=other.execute, args=[text("SELECT GET_LOCK('wsgi_session_a', 10)")])
        waiting.start()
        time.sleep(0.3)
        with refused():
            session.execute(text("SELECT GET_LOCK('wsgi_session_b', 10)"))
        session.execute(text("SELECT RELEASE_ALL_LOCKS()"))
        waiting.join(20)


def a_refused_table(session: Any) -> None:
    """A statement that changes a table has committed, also where it fails."""
    session.execute(text("CREATE TABLE IF NOT EXISTS of_mine (id INTEGER)"))
    with refused():
        session.execute(text("CREATE TABLE of_mine (id INTEGER)"))


def a_commit_as_text(session: Any) -> None:
    """The application has committed itself, past SQLAlchemy."""
    add_words(session, "kept")
    session.flush()
    session.execute(text("COMMIT"))


ON_ALL = [nothing, a_read, a_savepoint_around_the_error, a_savepoint_that_came_first, a_rollback_and_anew]
HARMLESS: dict[str, list[Way]] = {
    "sqlite": [*ON_ALL, the_first_insert, a_query_after_reading, a_twice_refused_insert, a_commit_as_text],
    "postgresql": [*ON_ALL, the_first_insert, a_query_after_reading, a_commit_as_text],
    "mariadb": [*ON_ALL, the_first_insert, a_twice_refused_insert, a_lock_of_the_users, a_refused_table],
}


@pytest.mark.parametrize(
    ("driver", "way"),
    [
        pytest.param(driver, way, marks=marks, id=f"{driver}-{way.__name__}")
        for driver, marks, _ in DRIVERS
        for way in HARMLESS[driver.partition("+")[0].partition(" ")[0]]
    ],
)
def test_where_nothing_is_lost(way: Way, driver: str, engine: Engine) -> None:
    """The request is a success, what was written is there, and the connection is well."""

    def app(environ: Any, start_response: Any) -> Any:
        way(environ[KEY])
        answer(start_response)
        return [b"saved"]

    assert request(SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success), "POST").body == b"saved"

    source = inspect.getsource(way)
    assert ("kept" in words(engine)) == ('"kept"' in source)
    assert "gone" not in words(engine)
    assert_well(engine)


@on_postgresql
def test_a_callback_that_waits_for_nothing(engine: Engine) -> None:
    """A transaction that has written nothing is no success, either, if somebody waits for its commit."""
    told: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        on_commit(environ[KEY], lambda: told.append("committed"))
        the_first_insert(environ[KEY])
        answer(start_response)
        return [b"saved"]

    with pytest.raises(TransactionLostError):
        request(SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success), "POST")

    assert told == []
    assert_well(engine)


@with_every_driver
def test_autocommit_is_exempt(engine: Engine) -> None:
    """Where each statement is committed by itself, an error that was handled has undone nothing."""
    Session = sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"))

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "kept")
        environ[KEY].flush()
        the_first_insert(environ[KEY])
        answer(start_response)
        return [b"saved"]

    assert request(SessionMiddleware(app, Session, commit=on_unsafe_success), "POST").body == b"saved"
    assert "kept" in words(engine)


@on_postgresql
def test_a_connection_that_is_gone_meanwhile(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot even be rolled back is thrown away, and the error says what was lost all the same."""
    with pytest.raises(TransactionLostError), session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        add_words(session, "before")
        session.flush()
        number = session.scalar(text("SELECT pg_backend_pid()"))
        a_failed_query(session)
        with beside(engine).connect() as other:
            other.execute(text(f"SELECT pg_terminate_backend({number}, 5000)"))

    assert "What the database has ended could not be rolled back" in caplog.text
    assert_well(engine)


# Two phases, and what a server has to be configured for


def two_phases(Session: Any, way: Way) -> None:
    """Commit in two phases."""
    with session_scope(Session) as session:
        add_words(session, "before")
        session.flush()
        way(session)


def causes_of(error: BaseException | None) -> list[type]:
    """List the classes of an error and of those that it was raised in: 2.0.31 wraps what a preparation raises."""
    return [] if error is None else [type(error), *causes_of(error.__cause__ or error.__context__)]


@pytest.mark.system("postgresql-server")
@pytest.mark.parametrize("name", ["psycopg", "psycopg2", "pg8000"])
def test_prepare_transaction_is_refused(name: str) -> None:
    """PostgreSQL would answer PREPARE TRANSACTION, too, with ROLLBACK."""
    with postgresql.server(max_prepared_transactions=10) as server:
        engine = create_engine(server.url.set(drivername=f"postgresql+{name}"), pool_size=1, max_overflow=0)
        Base.metadata.create_all(engine)
        Session = RequestScopedSession(sessionmaker(engine, twophase=True))

        for way in (a_failed_query, rollback_as_text):
            with pytest.raises(Exception) as raised:  # noqa: PT011
                two_phases(Session, way)
            assert TransactionLostError in causes_of(raised.value)

        with engine.connect() as connection:
            transaction = connection.begin_twophase()
            connection.execute(insert(Word).values(text="before"))
            a_failed_query(connection)
            with pytest.raises(TransactionLostError):
                transaction.commit()
            connection.invalidate()
        assert words(engine) == []
        two_phases(Session, nothing)
        assert words(engine) == ["before"]
        engine.dispose()


@mariadb_only
@pytest.mark.parametrize("driver", ["mariadb+pymysql"])
def test_xa_prepare_is_refused(engine: Engine) -> None:
    """A two-phase transaction that a deadlock has ended is thrown away, with its connection."""
    Session = RequestScopedSession(sessionmaker(engine, twophase=True))

    with pytest.raises(Exception) as raised:  # noqa: PT011
        two_phases(Session, a_deadlock)

    assert is_retryable(raised.value)
    assert set(words(engine)) == {"there", "there too"}
    assert_well(engine)


@pytest.mark.system("mariadb-server")
@pytest.mark.parametrize("rolls_back", ["ON", "OFF"])
def test_a_lock_that_was_waited_for(rolls_back: str) -> None:
    """A server may roll back everything when a lock is not to be had; by default it undoes the statement alone."""
    with mariadb.server(innodb_rollback_on_timeout=rolls_back, innodb_lock_wait_timeout=1) as server:
        engine = create_engine(server.url, pool_size=1, max_overflow=0)
        Base.metadata.create_all(engine)
        with sessionmaker(engine).begin() as session:
            session.add(Word(id=1001, text="there"))

        def way(session: Any) -> None:
            with beside(engine).connect() as other:
                other.execute(select(Word).where(Word.id == 1001).with_for_update())
                with refused():
                    session.execute(update(Word).where(Word.id == 1001).values(text="mine"))

        told: list[str] = []
        with pytest.raises(TransactionLostError) if rolls_back == "ON" else nullcontext():
            a_rule(RequestScopedSession(sessionmaker(engine)), way, told)

        assert words(engine) == (["there"] if rolls_back == "ON" else ["there", "before"])
        engine.dispose()


# What fails after COMMIT


@pytest.mark.parametrize("name", ["after_commit", "after_transaction_end"])
@with_every_driver
def test_what_fails_after_commit_is_logged(engine: Engine, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A listener that raises after COMMIT under a rule is logged; the client is told of the success."""
    factory = sessionmaker(engine)
    armed = [True]

    def fail_once(_session: Any, *ended: Any) -> None:
        if armed and all(transaction.parent is None for transaction in ended):  # that of a flush has a parent
            fails(armed.pop())

    event.listen(factory, name, fail_once)
    told: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        on_commit(environ[KEY], lambda: told.append("committed"))
        add_words(environ[KEY], "kept")
        answer(start_response)
        yield b"saved"
        yield str(len(environ[KEY].scalars(select(Word.text)).all())).encode()

    exchange = request(SessionMiddleware(app, factory, commit=on_unsafe_success), "POST")

    assert exchange.chunks == [b"saved", b"3"]
    assert "kept" in words(engine)
    assert told == ["committed"]
    assert "What runs after COMMIT has failed" in caplog.text
    assert_well(engine)


@pytest.mark.parametrize("driver", ["sqlite"])
def test_a_pool_that_fails_after_commit(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A listener of the pool's that raises keeps no callback from running, for there was the COMMIT."""
    told: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        on_commit(environ[KEY], lambda: told.append("committed"))
        add_words(environ[KEY], "kept")
        event.listen(engine, "checkin", lambda *_: fails(environ), once=True)
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, engine, commit=on_unsafe_success), "POST")

    assert told == ["committed"]
    assert "kept" in words(engine)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def fails(session: Any) -> None:
    """Fail as a listener."""
    raise RuntimeError("of the listener")


@pytest.mark.parametrize("driver", ["sqlite"])
def test_what_fails_after_the_commit_of_the_application(engine: Engine) -> None:
    """The application's own ``commit()`` raises as SQLAlchemy does, and a block does after it has committed."""
    factory = sessionmaker(engine)
    event.listen(factory, "after_commit", fails)
    Session = RequestScopedSession(factory)

    with pytest.raises(RuntimeError, match="of the listener"), session_scope(Session, commit=False) as session:
        add_words(session, "by itself")
        session.commit()
    with pytest.raises(RuntimeError, match="of the listener"), session_scope(Session) as session:
        add_words(session, "by the block")

    assert words(engine)[2:] == ["by itself", "by the block"]
    assert is_clean(engine)


@pytest.mark.parametrize("driver", ["sqlite"])
def test_a_listener_that_fails_is_no_partial_commit(engine: Engine, new_engine: Any) -> None:
    """With several sessions, what fails after the COMMIT of one keeps no other from being committed."""
    factory = sessionmaker(engine)
    event.listen(factory, "after_commit", fails)
    First, Second = RequestScopedSession(factory), RequestScopedSession(sessionmaker(new_engine()))

    def app(environ: Any, start_response: Any) -> Any:
        add_words(First(), "first")
        add_words(Second(), "second")
        answer(start_response)
        return [b"saved"]

    request(SessionMiddleware(app, Second, commit=on_unsafe_success), "POST")

    assert words(engine)[2:] == ["first"]
    assert words(Second.session_factory.kw["bind"]) == ["second"]


@pytest.mark.parametrize("driver", ["sqlite"])
def test_write_of_nothing(engine: Engine) -> None:
    """``write(b"")`` sends nothing (PEP 3333), and so decides nothing: an error after it undoes everything."""

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        add_words(environ[KEY], "before")
        environ[KEY].flush()
        write(b"")
        raise RuntimeError("after it")

    with pytest.raises(RuntimeError, match="after it"):
        request(SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success), "POST")

    assert words(engine) == ["there", "there too"]


@with_every_driver
def test_the_message(engine: Engine) -> None:
    """It names the class and the code of what was handled, and what to write, and no value."""
    way = {"sqlite": or_rollback, "postgresql": a_refused_insert}.get(engine.dialect.name, a_deadlock)

    with pytest.raises(TransactionLostError) as raised:
        a_block(RequestScopedSession(sessionmaker(engine)), way, [])

    cause = raised.value.__cause__
    assert type(cause).__name__ in str(raised.value)
    assert str(code_of(cause)) in str(raised.value)
    assert "with session.begin_nested():" in str(raised.value)


# Writes that do not look like writes, and reads that do not look like reads


def a_select_that_writes(session: Any) -> None:
    """A SELECT whose WITH inserts."""
    new = insert(Word).values(text="gone").returning(Word.id).cte("new")
    session.execute(select(new.c.id)).all()


def text_with_columns(session: Any) -> None:
    """Text whose columns are named."""
    session.execute(text("INSERT INTO word (text) VALUES ('gone') RETURNING id").columns(Word.id)).all()


def several_statements(session: Any) -> None:
    """A write behind something harmless."""
    session.execute(text("SET LOCAL lock_timeout = '1s'; INSERT INTO word (text) VALUES ('gone')"))


def explained(session: Any) -> None:
    """EXPLAIN ANALYZE runs what it explains."""
    session.execute(text("EXPLAIN ANALYZE INSERT INTO word (text) VALUES ('gone')"))


def selected_into(session: Any) -> None:
    """SELECT INTO makes a table."""
    session.execute(text("SELECT 1 AS x INTO of_mine"))


@pytest.mark.parametrize(
    ("driver", "writes"),
    [
        pytest.param(driver, writes, marks=marks, id=f"{driver}-{writes.__name__}")
        for driver, marks, _ in DRIVERS
        if driver.startswith("postgresql")
        for writes in [a_select_that_writes, text_with_columns, several_statements, explained, selected_into]
        if writes is not several_statements or driver == "postgresql+psycopg2"  # the others prepare statements
    ],
)
def test_writes_that_are_hard_to_see(writes: Way, engine: Engine) -> None:
    """What may have written is a write."""
    with pytest.raises(TransactionLostError), session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        writes(session)
        a_failed_query(session)

    assert set(words(engine)) == {"there", "there too"}


READS = [
    "WITH q AS (SELECT 1 AS n) SELECT n FROM q",
    "SELECT 1 FOR UPDATE",
    "RESET lock_timeout",
    "DECLARE c CURSOR FOR SELECT 1",
    "LISTEN something",
    "EXPLAIN SELECT 1",
]


@on_postgresql
@pytest.mark.parametrize("read", READS)
def test_reads_that_are_hard_to_see(read: str, engine: Engine) -> None:
    """What changes no rows is no write: nothing is lost with it."""
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        session.execute(text(read))
        a_failed_query(session)


@on_postgresql
def test_a_table_that_could_not_be_made(engine: Engine) -> None:
    """A statement that has failed has written nothing, also one that makes a table."""
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session, handled():
        Word.__table__.create(session.connection())


@with_every_driver
def test_a_write_that_was_undone_with_its_savepoint(engine: Engine) -> None:
    """It is not lost with what comes after."""
    way = a_failed_query if engine.dialect.name == "postgresql" else nothing
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        session.scalars(select(Word.text)).all()
        with session.begin_nested() as savepoint:
            session.execute(insert(Word).values(text="undone"))
            savepoint.rollback()
        way(session)


# COMMIT as text, and sessions that commit nothing themselves


ANSWERED = {"sqlite begun": or_rollback, "postgresql+psycopg": a_failed_query, "postgresql+psycopg2": a_failed_query}
ANSWERED |= {"mariadb+pymysql": a_deadlock, "mariadb+mysqldb": a_deadlock}


@pytest.mark.parametrize(("driver", "way"), [one for one in WAYS if ANSWERED.get(one.values[0]) is one.values[1]])
def test_a_commit_as_text_of_what_is_lost(way: Way, engine: Engine) -> None:
    """PostgreSQL answers that, too, with ROLLBACK; the others save what came after."""
    told: list[str] = []

    with pytest.raises(TransactionLostError), session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        written(session, way, told)
        session.execute(text("COMMIT"))

    assert told == []
    assert "before" not in words(engine)


@on_postgresql
@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only"])
def test_a_session_in_the_transaction_of_its_owner(mode: Any, engine: Engine) -> None:
    """Its callbacks do not run for a commit that its owner cannot make any more."""
    told: list[str] = []

    with engine.connect() as connection, connection.begin():
        Session = RequestScopedSession(sessionmaker(connection, join_transaction_mode=mode))
        with pytest.raises(TransactionLostError), session_scope(Session) as session:
            written(session, a_failed_query, told)

    assert told == []


@on_postgresql
def test_several_sessions_are_asked_before_the_first_is_committed(engine: Engine, new_engine: Any) -> None:
    """What is lost in one is known before another one is committed."""
    First, Second = RequestScopedSession(sessionmaker(new_engine())), RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        add_words(First(), "first")
        written(Second(), a_failed_query, [])
        answer(start_response)
        return [b"saved"]

    with pytest.raises(TransactionLostError):
        request(SessionMiddleware(app, Second, commit=on_unsafe_success), "POST")

    assert words(First.session_factory.kw["bind"]) == []


@mariadb_only
@pytest.mark.parametrize("driver", ["mariadb+pymysql"])
def test_a_status_that_is_older_than_the_write(engine: Engine) -> None:
    """PyMySQL learns of no transaction from an INSERT that returns rows."""
    with pytest.raises(TransactionLostError), session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        session.add_all([Word(text="a"), Word(text="b")])
        session.flush()
        with beside(engine).connect() as other:
            other.execute(text("INSERT INTO letter (word_id) VALUES " + ", ".join(["(1002)"] * 20)))
            session.execute(select(Word).where(Word.id == 1001).with_for_update())
            other.execute(select(Word).where(Word.id == 1002).with_for_update())
            waiting = threading.Thread(
                target=other.execute, args=[select(Word).where(Word.id == 1001).with_for_update()]
            )
            waiting.start()
            wait_for_a_lock(engine)
            with handled():
                session.execute(select(Word).where(Word.id == 1002).with_for_update())
            waiting.join(20)
            other.rollback()
        add_words(session, "after")

    assert set(words(engine)) == {"there", "there too"}


# In tests

OF_THE_LEVEL = [a_serialization_failure, a_snapshot_that_is_too_old]
"""Ways that ask for a transaction of another kind, which a test's has to be from its beginning."""

ROLLING_BACK = [*OF_MARIADB, *OF_SQLITE]
"""Ways by which the database rolls back the test's transaction, too."""

IN_TESTS = [one for one in WAYS if one.values[1] not in (*OF_THE_LEVEL, rollback_as_text)]


@pytest.mark.parametrize(("driver", "way"), IN_TESTS)
@pytest.mark.parametrize("commits", COMMITTERS, ids=lambda commits: commits.__name__)
def test_a_test_sees_what_production_does(way: Way, commits: Any, engine: Engine) -> None:
    """In an isolated block, the one who commits is told the same, and the next request is as in production."""
    Session = RequestScopedSession(sessionmaker(engine))
    told: list[str] = []

    with complaining_of(way, engine), isolated() as isolation:
        own = isolation.session(Session)
        add_words(own, "of the test")
        own.commit()
        if way is a_trigger_that_rolls_back:
            way(own)
            own.rollback()
        with pytest.raises(TransactionLostError) as raised:
            commits(Session, way, told)
        with session_scope(Session) as session:
            add_words(session, "next")
        assert "next" in own.scalars(select(Word.text)).all()
        assert "before" not in own.scalars(select(Word.text)).all()

    assert SECRET not in str(raised.value)
    assert told == []
    assert set(words(engine)) == {"there", "there too"}
    assert_well(engine)


@with_every_driver
def test_a_test_that_is_ended_by_text_is_told(engine: Engine) -> None:
    """ROLLBACK as text ends the test's own transaction; who commits is told as in production."""
    Session = RequestScopedSession(sessionmaker(engine))

    def work() -> None:
        with pytest.raises(TransactionLostError):
            a_block(Session, rollback_as_text, [])

    with pytest.raises(IsolationError, match="was ended by the database itself"), isolated():
        work()

    assert set(words(engine)) == {"there", "there too"}


@contextmanager
def complaining_of(way: Way, engine: Engine) -> Iterator[None]:
    """See that a test is told where its own rows are gone with those of the request."""
    if way in ROLLING_BACK and engine.dialect.name != "postgresql":
        with pytest.raises(IsolationError, match="has rolled back all that the test had written"):
            yield
    else:
        yield


@pytest.mark.parametrize(
    ("driver", "way"),
    [
        pytest.param(driver, way, marks=marks, id=f"{driver}-{way.__name__}")
        for driver, marks, _ in DRIVERS
        for way in HARMLESS[driver.partition("+")[0].partition(" ")[0]]
        if way not in (a_commit_as_text, a_refused_table)
    ],
)
def test_a_test_sees_where_production_loses_nothing(way: Way, driver: str, engine: Engine) -> None:
    """In an isolated block, too, the request is a success, and what was written is there for the next."""
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        way(environ[KEY])
        answer(start_response)
        return [b"saved"]

    with isolated() as isolation:
        assert request(SessionMiddleware(app, Session, commit=on_unsafe_success), "POST").body == b"saved"
        kept = isolation.session(Session).scalars(select(Word.text)).all()

    assert ("kept" in kept) == ('"kept"' in inspect.getsource(way))
    assert "gone" not in kept
    assert set(words(engine)) == {"there", "there too"}
    assert_well(engine)


@on_postgresql
def test_a_test_sees_where_nothing_is_lost(engine: Engine) -> None:
    """A query that fails in a transaction that has written nothing is no loss in an isolated block, either."""
    Session = RequestScopedSession(sessionmaker(engine))

    with isolated() as isolation:
        own = isolation.session(Session)
        add_words(own, "of the test")
        own.commit()
        with session_scope(Session) as session:
            a_failed_query(session)
        assert "of the test" in own.scalars(select(Word.text)).all()


def assert_well(engine: Engine) -> None:
    """Assert that the connection went back clean, and that the next who has it writes what it says."""
    assert is_clean(engine)
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        add_words(session, "next")
    assert "next" in words(engine)
    assert is_clean(engine)


# What is seldom


def test_a_statement_that_only_ends(engine_by: Callable[..., Engine]) -> None:
    """A ROLLBACK as text, where nothing was written, ends nothing that anybody would miss."""
    with session_scope(RequestScopedSession(sessionmaker(engine_by("sqlite")))) as session:
        session.execute(text("SELECT 1"))
        session.connection().connection.dbapi_connection.execute("BEGIN")  # type: ignore[union-attr]
        session.execute(text("ROLLBACK"))


@pytest.mark.parametrize("driver", ["sqlite begun"])
def test_a_transaction_that_begins_with_its_loss(engine: Engine) -> None:
    """What fails first undoes nothing, and what comes after it is committed at the end, not at once."""
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        session.scalars(select(Word.text)).all()
        or_rollback(session)
        add_words(session, "after")
        session.flush()
        assert set(words(engine)) == {"there", "there too"}

    assert "after" in words(engine)


@pytest.mark.parametrize("driver", ["sqlite begun"])
def test_a_transaction_that_the_driver_has_ended(engine: Engine) -> None:
    """A COMMIT past SQLAlchemy has saved what there was; the message does not say that it was rolled back."""
    Session = RequestScopedSession(sessionmaker(engine))
    with pytest.raises(TransactionLostError, match="has ended before its COMMIT"), session_scope(Session) as session:
        add_words(session, "saved")
        session.flush()
        session.connection().connection.dbapi_connection.commit()  # type: ignore[union-attr]

    assert "saved" in words(engine)


@on_postgresql
def test_text_with_columns_that_reads(engine: Engine) -> None:
    """Text whose columns are named is a read if its words are; a second write that looks like a read is one, too."""
    Session = RequestScopedSession(sessionmaker(engine))
    with session_scope(Session) as session:
        session.execute(text("SELECT id FROM word").columns(Word.id)).all()
        a_failed_query(session)
    for number in (1, 2):
        with pytest.raises(TransactionLostError), session_scope(Session) as session:
            session.execute(text(f"INSERT INTO word (text) VALUES ('{number}') RETURNING id").columns(Word.id)).all()
            a_failed_query(session)


def makes_a_temporary_table(session: Any) -> None:
    """Define something that commits nothing."""
    session.execute(CreateTable(Table("passing", MetaData(), Column("id", Integer), prefixes=["TEMPORARY"])))


@pytest.mark.parametrize("driver", MARIADB)
@pytest.mark.parametrize(
    "then",
    [
        makes_a_temporary_table,
        lambda session: session.execute(text("UNLOCK TABLES")),
        lambda session: session.execute(text("ANALYZE SELECT 1")).all(),
    ],
    ids=["a temporary table", "UNLOCK TABLES", "ANALYZE SELECT"],
)
def test_what_commits_nothing_in_between(then: Any, engine: Engine) -> None:
    """What only looks like a statement that commits does not hide that the first half is gone."""

    def app(environ: Any, start_response: Any) -> Any:
        with handled():
            meet_a_deadlock(environ[KEY], then)
        add_words(environ[KEY], "second half")
        answer(start_response)
        return [b"saved"]

    with pytest.raises(TransactionLostError):
        request(SessionMiddleware(app, engine, commit=on_unsafe_success), "POST")

    assert "second half" not in words(engine)


@mariadb_only
@pytest.mark.parametrize("driver", ["mariadb+pymysql"])
def test_a_table_that_is_made_in_mid_transaction(engine: Engine) -> None:
    """MariaDB has committed before it, so that nothing before it can be lost."""
    table = Table("made", MetaData(), Column("id", Integer))
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        add_words(session, "saved")
        session.flush()
        table.create(session.connection())
        table.drop(session.connection())

    assert "saved" in words(engine)


def test_the_proxy_of_a_first_connect_keeps_nothing() -> None:
    """A dialect gets ready on a proxy that shows the attributes of the driver's connection for its own."""

    class Driver:
        """A driver's connection that has attributes."""

    proxy: Any = _AdhocProxiedConnection(Driver(), None)  # type: ignore[arg-type]

    traces.traces_of(proxy).is_begun = True

    assert traces.look_at(proxy) is None
    traces.forget(proxy)
    assert vars(proxy.dbapi_connection) == {}
