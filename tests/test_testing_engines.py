"""The isolated block, where several engines are on one database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies
from sqlalchemy import Engine, create_engine, delete, event, insert, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.drivers import MARIADB, POSTGRESQL, with_every_driver
from tests.helpers import Word, add_words, all_words, answer, enforce_foreign_keys, is_clean, request, words
from tests.words_application import registry_on, shop, text_of
from wsgi_session import (
    RequestScopedSession,
    SessionMiddleware,
    TransactionLostError,
    on_commit,
    on_unsafe_success,
    session_scope,
)
from wsgi_session.testing import IsolationError, isolated

KEY = "sqlalchemy.session"
POOL = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2}

SERVERS = [POSTGRESQL[0], MARIADB[0]]
on_all = pytest.mark.parametrize("driver", ["sqlite", *SERVERS])
on_postgresql = pytest.mark.parametrize("driver", POSTGRESQL[:1])


@pytest.fixture
def writer(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return the engine that writes."""
    return engine_by(driver)


@pytest.fixture
def another(writer: Engine) -> Iterator[Callable[..., Engine]]:
    """Return a function that makes another engine on the database of the writer."""
    engines: list[Engine] = []

    def make(url: Any = None, **options: Any) -> Engine:
        engine = create_engine(writer.url if url is None else url, **(POOL | options))
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", enforce_foreign_keys)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def reader(another: Callable[..., Engine]) -> Engine:
    """Return an engine that reads the same database."""
    return another()


# What one commits the others see


@with_every_driver
def test_what_is_written_by_one_engine_is_read_by_the_other(writer: Engine, reader: Engine) -> None:
    """The row of a POST is in the next GET, though that reads by another engine."""
    with isolated() as isolation:
        assert text_of(shop(registry_on(reader))) == ""
        assert text_of(shop(registry_on(writer)), "POST", "/ada") == "ada"
        assert text_of(shop(registry_on(reader))) == "ada"
        assert all_words(isolation.session(registry_on(reader))) == ["ada"]

    assert words(writer) == []
    assert is_clean(writer)
    assert is_clean(reader)


@on_all
def test_a_session_that_finds_its_engine_by_itself(writer: Engine, reader: Engine) -> None:
    """A session that flushes by one engine and reads by the other is in one transaction."""

    class Routing(SQLAlchemySession):
        def get_bind(self, mapper: Any = None, **kw: Any) -> Engine:
            return writer if self._flushing else reader

    Session = RequestScopedSession(sessionmaker(class_=Routing))

    with isolated():
        assert text_of(shop(Session), "POST", "/ada") == "ada"
        assert text_of(shop(Session)) == "ada"

    assert words(writer) == []


def test_the_same_file_by_another_path(writer: Engine, another: Callable[..., Engine], tmp_path: Any) -> None:
    """A file is known by itself, not by what it is called."""
    (tmp_path / "link").symlink_to(tmp_path)
    linked = another(f"sqlite:///{tmp_path}/link/{os.path.basename(writer.url.database or '')}")

    with isolated():
        text_of(shop(registry_on(writer)), "POST", "/ada")
        assert text_of(shop(registry_on(linked))) == "ada"


@on_postgresql
def test_the_same_server_by_another_address(writer: Engine, another: Callable[..., Engine]) -> None:
    """A server is asked which one it is, for its address says little."""
    import psycopg

    url = writer.url.set(drivername="postgresql").render_as_string(hide_password=False)
    anonymous = another("postgresql+psycopg://", creator=lambda: psycopg.connect(url))

    with isolated():
        text_of(shop(registry_on(writer)), "POST", "/ada")
        assert text_of(shop(registry_on(anonymous))) == "ada"


def test_databases_in_memory_are_apart() -> None:
    """Each connection of SQLite's in memory is a database."""
    first, second = create_engine("sqlite://"), create_engine("sqlite://")
    for engine in (first, second):
        Word.metadata.create_all(engine)

    with isolated():
        text_of(shop(registry_on(first)), "POST", "/ada")
        assert text_of(shop(registry_on(second))) == ""

    for engine in (first, second):
        engine.dispose()


def test_a_database_in_memory_that_has_a_name(another: Callable[..., Engine]) -> None:
    """One that connections share is one."""
    url = "sqlite:///file:of_the_test?mode=memory&cache=shared&uri=true"
    from sqlalchemy.pool import QueuePool

    first, second = another(url, poolclass=QueuePool), another(url, poolclass=QueuePool)
    Word.metadata.create_all(first)

    with isolated():
        text_of(shop(registry_on(first)), "POST", "/ada")
        assert text_of(shop(registry_on(second))) == "ada"


# What cannot be joined is refused


@on_postgresql
@pytest.mark.parametrize(
    ("drivername", "options", "reason"),
    [
        ("postgresql+pg8000", {}, "driver='pg8000', and the first one had 'psycopg'"),
        ("postgresql+psycopg", {"isolation_level": "SERIALIZABLE"}, "isolation_level='SERIALIZABLE', and the first"),
        (
            "postgresql+psycopg",
            {"connect_args": {"options": "-c search_path=elsewhere"}},
            "search_path='elsewhere', and the first",
        ),
        (
            "postgresql+psycopg",
            {"connect_args": {"options": "-c default_transaction_read_only=on"}},
            "transaction_read_only='on', and the first",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(
    writer: Engine, another: Callable[..., Engine], drivername: str, options: Any, reason: str
) -> None:
    """Where the engines want different things of their connection, the error says which."""
    other = another(writer.url.set(drivername=drivername), **options)
    assert_refused(writer, other, reason)


def test_what_cannot_be_joined_on_sqlite_is_refused(writer: Engine, another: Callable[..., Engine]) -> None:
    """A connection that checks no foreign keys is another one, and so is one that may only read."""
    lax = another()
    event.listen(lax, "connect", lambda connection, record: connection.execute("PRAGMA foreign_keys = OFF"))
    assert_refused(writer, lax, "foreign_keys=0, and the first one had 1")
    read_only = another(f"sqlite:///file:{writer.url.database}?mode=ro&uri=true")
    assert_refused(writer, read_only, "mode='ro', and the first one had None")


@pytest.mark.parametrize("driver", MARIADB[:1])
def test_what_cannot_be_joined_on_mariadb_is_refused(writer: Engine, another: Callable[..., Engine]) -> None:
    """Nor is one in another SQL mode."""
    ansi = another(connect_args={"sql_mode": "ANSI"})
    assert_refused(writer, ansi, "sql_mode='REAL_AS_FLOAT")


class Unknown(SQLiteDialect_pysqlite):
    """A dialect that is asked nothing."""

    name = "unknown"
    supports_statement_cache = True


registry.register("unknown", __name__, "Unknown")


def test_what_cannot_be_told_apart_is_refused(tmp_path: Any) -> None:
    """Of other databases there is the address; where two have none, they may be one."""
    first, second, third, nowhere = (create_engine(f"unknown://{path}") for path in ("/a", "/b", "/a", ""))
    for engine in (first, second, third, nowhere):
        engine.dialect.connect = lambda *args, **kw: Unknown.import_dbapi().connect(":memory:")  # type: ignore[method-assign]

    with isolated() as isolation:
        for engine in (first, second, third):
            isolation.session(registry_on(engine)).execute(text("SELECT 1"))
        with pytest.raises(IsolationError, match="nobody can tell"):
            isolation.session(registry_on(nowhere)).execute(text("SELECT 1"))
        with pytest.raises(IsolationError):
            isolation.check()

    for engine in (first, second, third, nowhere):
        engine.dispose()


def assert_refused(writer: Engine, other: Engine, reason: str) -> None:
    """See that sessions on *other* cannot be with those of *writer* for a *reason*."""
    with isolated() as isolation:
        isolation.session(registry_on(writer)).execute(select(1))
        with pytest.raises(IsolationError, match=reason):
            isolation.session(registry_on(other)).execute(select(1))
        with pytest.raises(IsolationError):
            isolation.check()
    assert is_clean(other)


# Two sessions at once: each ends as if it had a transaction of its own

Step = Callable[[Any, Any], object]
STEPS: dict[str, Step] = {
    "a block of the reader": lambda reads, writes: reads.begin(),
    "read": lambda reads, writes: reads.scalars(select(Word.text)).all(),
    "write": lambda reads, writes: writes.execute(insert(Word).values(text="kept")),
    "reader commits": lambda reads, writes: reads.commit(),
    "reader rolls back": lambda reads, writes: reads.rollback(),
    "reader closes": lambda reads, writes: reads.close(),
    "reader begins a savepoint": lambda reads, writes: reads.begin_nested(),
    "reader ends a savepoint": lambda reads, writes: reads.get_nested_transaction().rollback(),
    "reader fails": lambda reads, writes: fail(reads),
    "writer commits": lambda reads, writes: writes.commit(),
    "writer begins a savepoint": lambda reads, writes: writes.begin_nested(),
    "writer ends a savepoint": lambda reads, writes: writes.get_nested_transaction().commit(),
}
WRITES = ["write", "writer commits"]
KEPT = [
    ["a block of the reader", "read", *WRITES, "reader rolls back"],
    ["a block of the reader", "read", *WRITES, "reader commits"],
    ["a block of the reader", "read", *WRITES, "reader closes"],
    ["a block of the reader", "read", *WRITES, "read", "reader fails", "reader rolls back"],
    ["a block of the reader", "read", "write", "reader rolls back", "writer commits"],
    ["a block of the reader", "read", "write", "reader commits", "writer commits"],
    ["a block of the reader", "read", "write", "read", "writer commits", "read", "reader rolls back"],
    ["a block of the reader", "read", "write", "reader fails", "reader rolls back", "writer commits"],
    ["a block of the reader", "read", "reader begins a savepoint", "read", *WRITES, "reader ends a savepoint", "read"],
    ["reader begins a savepoint", "read", "write", "reader ends a savepoint", "writer commits", "reader rolls back"],
    ["read", "write", "read", "writer commits", "reader rolls back"],
    ["write", "read", "writer commits", "read", "reader commits"],
    ["write", "a block of the reader", "read", "writer commits", "read", "reader rolls back"],
    ["write", "read", "reader rolls back", "writer commits"],
    ["write", "read", "reader fails", "reader rolls back", "writer commits"],
    ["writer begins a savepoint", "write", "read", "writer ends a savepoint", "writer commits", "reader rolls back"],
    ["writer begins a savepoint", "a block of the reader", "read", *WRITES[:1], "reader rolls back", "writer commits"],
]


def fail(session: Any) -> None:
    """Have a statement fail, and handle that."""
    with pytest.raises(DBAPIError):
        session.execute(text("SELECT * FROM no_such_table"))


def take(steps: list[str], reads: Any, writes: Any) -> None:
    """Take *steps* with two sessions of one request."""
    for step in steps:
        STEPS[step](reads, writes)


@on_all
@pytest.mark.parametrize("steps", KEPT, ids=", ".join)
def test_what_the_writer_commits_stays(steps: list[str], writer: Engine, reader: Engine) -> None:
    """However the session of the reader ends, it undoes nothing of the writer's."""
    Reader, Writer = registry_on(reader), registry_on(writer)

    with isolated() as isolation:
        with session_scope(Writer), session_scope(Reader):
            take(steps, Reader(), Writer())
        assert all_words(isolation.session(Reader)) == ["kept"]

    assert words(writer) == []


LOST = [
    ["a block of the reader", "read", "write", "writer rolls back", "read", "reader commits"],
    ["write", "a block of the reader", "read", "writer rolls back", "read", "reader rolls back"],
    ["write", "read", "writer rolls back", "reader begins a savepoint", "read", "reader rolls back"],
]


@on_all
@pytest.mark.parametrize("steps", LOST, ids=", ".join)
def test_what_the_writer_rolls_back_is_gone(steps: list[str], writer: Engine, reader: Engine) -> None:
    """Nor does the reader's keep what the writer has rolled back; the reader reads on."""
    Reader, Writer = registry_on(reader), registry_on(writer)
    STEPS.setdefault("writer rolls back", lambda reads, writes: writes.rollback())

    with isolated() as isolation:
        with session_scope(Writer), session_scope(Reader):
            take(steps, Reader(), Writer())
        assert all_words(isolation.session(Reader)) == []


@on_all
def test_two_writers_in_turn(writer: Engine, reader: Engine) -> None:
    """Of two sessions that both write, the one that began first may commit first, and the other roll back."""
    First, Second = registry_on(writer), registry_on(reader)

    with isolated() as isolation:
        with session_scope(First) as first, session_scope(Second) as second:
            add_words(first, "first")
            first.flush()
            add_words(second, "second")
            second.flush()
            first.commit()
            second.rollback()
        assert all_words(isolation.session(First)) == ["first"]


@on_all
def test_what_cannot_be_kept_apart_is_an_error(writer: Engine, reader: Engine) -> None:
    """Who rolls back what was written before another one wrote undoes that, too; its commit is refused."""
    First, Second = registry_on(writer), registry_on(reader)

    def work() -> None:
        with session_scope(First) as first, session_scope(Second) as second:
            add_words(first, "first")
            first.flush()
            add_words(second, "second")
            second.flush()
            first.rollback()
            second.commit()

    with pytest.raises(IsolationError, match=r"A rollback of .* has undone what was written by"), isolated():
        work()


@on_all
def test_sessions_that_are_both_rolled_back_are_no_error(writer: Engine, reader: Engine) -> None:
    """Nothing is lost that was to be kept."""
    First, Second = registry_on(writer), registry_on(reader)

    with isolated() as isolation:
        with suppress(ZeroDivisionError), session_scope(Second) as second, session_scope(First) as first:
            add_words(second, "second")
            second.flush()
            add_words(first, "first")
            first.flush()
            second.rollback()
            1 / 0  # noqa: B018
        assert all_words(isolation.session(First)) == []


@on_postgresql
def test_a_writer_that_has_failed_is_told_so(writer: Engine, reader: Engine) -> None:
    """What PostgreSQL has aborted in one session leaves the other as it was, and cannot be committed."""
    Reader, Writer = registry_on(reader), registry_on(writer)

    with isolated() as isolation:
        with session_scope(Writer) as writes:
            add_words(writes, "lost")
            writes.flush()
            with session_scope(Reader) as reads:
                reads.scalars(select(Word.text)).all()
                fail(writes)
            with pytest.raises(TransactionLostError):
                writes.commit()
            writes.rollback()
        assert all_words(isolation.session(Reader)) == []


@on_postgresql
def test_a_loss_is_that_of_the_session_that_had_written(writer: Engine, reader: Engine) -> None:
    """What one has written before another one began is remembered: a failure that was handled loses it."""
    Reader = registry_on(reader)

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "lost")
        environ[KEY].flush()
        with session_scope(Reader) as own:
            all_words(own)
        fail(environ[KEY])
        answer(start_response)
        return [b"saved"]

    with isolated() as isolation:
        with pytest.raises(TransactionLostError):
            request(SessionMiddleware(app, registry_on(writer), commit=on_unsafe_success), "POST")
        assert all_words(isolation.session(Reader)) == []


@on_all
def test_what_one_has_sent_is_not_forgotten_for_another(
    writer: Engine, reader: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that loses a write is told so, though somebody else has used the connection after it."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(insert(Word).values(text="lost"))
        with session_scope(registry_on(reader)) as own:
            all_words(own)
        answer(start_response)
        return [b"saved"]

    with isolated():
        request(SessionMiddleware(app, registry_on(writer)))

    assert ["what was sent directly, not committed" in message for message in caplog.messages] == [True]


# Any order: what is committed in a test is what is committed in production

SESSION_STEPS = ["write", "flush", "read", "wait", "fail", "begin a savepoint", "undo", "keep", "commit", "roll back"]
PLANS = strategies.lists(strategies.tuples(strategies.booleans(), strategies.sampled_from(SESSION_STEPS)), max_size=14)


class Player:
    """A session that takes its steps as far as they make sense, and says how its commits went."""

    def __init__(self, session: Any, name: str) -> None:
        """Play with *session*."""
        self.name = name
        self.session = session
        self.has_failed = False
        self.outcomes: list[str] = []
        self.written = 0

    def take(self, step: str) -> None:
        """Take a *step*."""
        nested = self.session.get_nested_transaction()
        if step == "undo" and nested is not None:
            nested.rollback()
            self.has_failed = False
        elif step == "roll back":
            self.session.rollback()
            self.has_failed = False
        elif step == "commit" and not (self.has_failed and nested):  # its RELEASE fails by itself
            self._commit()
        elif not self.has_failed:
            self._work(step, nested)

    def _commit(self) -> None:
        try:
            self.session.commit()
        except TransactionLostError:
            self.outcomes.append("lost")
            self.session.rollback()
        else:
            self.outcomes.append("committed")
        self.has_failed = False

    def _work(self, step: str, nested: Any) -> None:
        if step in {"write", "flush"}:
            self.written += 1
            self._write(step, f"{self.name}{self.written}")
        elif step == "wait":
            self.session.execute(select(1))
            on_commit(self.session, lambda: self.outcomes.append("told"))
        elif step == "read":
            self.session.execute(select(1))
        elif step == "fail":
            fail(self.session)
            self.has_failed = self.session.bind.dialect.name == "postgresql"
        elif step == "begin a savepoint":
            self.session.begin_nested()
        elif step == "keep" and nested is not None:
            nested.commit()

    def _write(self, step: str, word: str) -> None:
        if step == "write":
            self.session.execute(insert(Word).values(text=word))
        else:
            add_words(self.session, word)
            self.session.flush()


def play(plan: list[tuple[bool, str]], First: Any, Second: Any, caplog: Any) -> list[list[str]]:
    """Play *plan* with two sessions of one request, and say how their commits went, and what was told in the end."""
    caplog.clear()
    players: list[Player] = []

    def app(environ: Any, start_response: Any) -> Any:
        players[:] = Player(environ[KEY], "first"), Player(Second(), "second")
        for is_second, step in plan:
            players[is_second].take(step)
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, First))
    return [*(player.outcomes for player in players), caplog.messages]


class Unlike(Exception):  # noqa: N818
    """The block has said that what was done cannot be as it is in production."""


def attempt(call: Callable[[], Any]) -> Any:
    """Make a *call*, and raise `Unlike` if the block complains."""
    try:
        return call()
    except IsolationError as error:
        if "A rollback of" not in str(error):
            raise
        raise Unlike from error


@pytest.mark.parametrize("driver", SERVERS)
@settings(suppress_health_check=[*HealthCheck])
@given(plan=PLANS)
@example(plan=[(True, "write"), (False, "fail"), (False, "commit")])
@example(plan=[(False, "write"), (False, "fail"), (True, "write")])
@example(plan=[(True, "write"), (False, "write"), (True, "fail"), (False, "commit")])
@example(plan=[(False, "write"), (True, "write"), (False, "roll back"), (False, "write"), (True, "commit")])
@example(plan=[(True, "write"), (True, "fail"), *[(False, "write"), (False, "roll back")] * 2, (True, "commit")])
@example(plan=[(True, "write"), (False, "write"), (True, "roll back")])
@example(plan=[(True, "write"), (False, "write"), (False, "commit"), (True, "fail"), (False, "write")])
@example(plan=[(True, "begin a savepoint"), (True, "write"), (True, "fail"), (False, "write"), (True, "undo")])
def test_two_sessions_in_any_order(
    plan: list[tuple[bool, str]], writer: Engine, reader: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is told of its commits what it is told in production, and the same is there; or the test fails."""
    First, Second = registry_on(writer), registry_on(reader)
    production = play(plan, First, Second, caplog)
    kept = set(words(writer))
    with writer.begin() as connection:
        connection.execute(delete(Word))

    are_both_writing = {is_second for is_second, step in plan if step in {"write", "flush"}} == {True, False}
    with suppress(Unlike) if are_both_writing else nullcontext(), isolated() as isolation:
        told = attempt(lambda: play(plan, First, Second, caplog))
        attempt(isolation.check)
        assert told == production
        assert set(all_words(isolation.session(First))) == kept

    assert words(writer) == []
