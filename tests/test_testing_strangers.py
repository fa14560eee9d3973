"""The isolated block, and what is committed beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.drivers import needs_mariadb, needs_postgresql, on_mariadb, with_every_driver
from tests.helpers import Word, add_words, all_words, beside, is_clean, request, words
from tests.words_application import registry_on, shop
from wsgi_session.testing import IsolationError, isolated

WRITE = insert(Word).values(text="left")


def begin(engine: Engine) -> None:
    """Write in a block of Core's."""
    with engine.begin() as connection:
        connection.execute(WRITE)


def commit(engine: Engine) -> None:
    """Write, and commit."""
    with engine.connect() as connection:
        connection.execute(WRITE)
        connection.commit()


def autocommit(engine: Engine) -> None:
    """Write where each statement commits by itself."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(WRITE)


def autocommit_of_the_engine(engine: Engine) -> None:
    """Write on an engine where each statement commits by itself."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(WRITE)


def commit_as_text(engine: Engine) -> None:
    """Write, and send COMMIT past SQLAlchemy."""
    with engine.connect() as connection:
        connection.execute(WRITE)
        connection.execute(text("COMMIT"))


WAYS = [begin, commit, autocommit, autocommit_of_the_engine, commit_as_text]
in_every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine by the driver of the test, whose pool has room for a stranger."""
    return engine_by(driver, pool_size=2)


@with_every_driver
@in_every_way
def test_core_on_the_engine_of_a_registry_may_not_commit(engine: Engine, way: Callable[[Engine], None]) -> None:
    """Also where no session is used; nothing is written, and the error names the line and what to write."""
    app = shop(registry_on(engine), lambda session: way(engine))

    with pytest.raises(IsolationError) as raised, isolated() as isolation:
        with pytest.raises(IsolationError, match="outside of the test's transaction"):
            request(app)
        isolation.check()

    assert "at tests/test_testing_strangers.py:" in str(raised.value)
    assert "'session.execute(...)'" in str(raised.value)
    assert "committing()" in str(raised.value)
    assert words(engine) == []
    assert is_clean(engine)


@pytest.mark.parametrize("driver", [pytest.param("postgresql+psycopg", marks=needs_postgresql)])
@in_every_way
def test_core_on_another_engine_of_the_database_may_not_commit(engine: Engine, way: Callable[[Engine], None]) -> None:
    """An engine of nobody's is known by its database, if a session of the test is there."""
    Session = registry_on(engine)

    with isolated() as isolation:
        add_words(isolation.session(Session), "ada")
        isolation.sessions[0].commit()
        with pytest.raises(IsolationError, match="outside of the test's transaction"):
            way(beside(engine))
        with pytest.raises(IsolationError):
            isolation.check()

    assert words(engine) == []


@pytest.mark.parametrize("driver", [pytest.param("postgresql+psycopg", marks=needs_postgresql)])
def test_another_engine_of_the_database_that_comes_first_is_named(engine: Engine) -> None:
    """Where the test's session comes later, the error comes in the end."""
    with pytest.raises(IsolationError, match="outside of the test's transaction"), isolated() as isolation:
        begin(beside(engine))
        all_words(isolation.session(registry_on(engine)))


@pytest.mark.parametrize("driver", [pytest.param("postgresql+psycopg", marks=needs_postgresql)])
def test_a_commit_that_is_a_rollback_is_no_concern(engine: Engine) -> None:
    """PostgreSQL saves nothing of what has failed."""
    with isolated() as isolation:
        all_words(isolation.session(registry_on(engine)))
        with beside(engine).connect() as connection:
            with suppress(DBAPIError):
                connection.execute(text("SELECT * FROM no_such_table"))
            connection.commit()


@with_every_driver
def test_core_may_read_and_roll_back(engine: Engine) -> None:
    """What commits nothing harms nobody, also where each statement commits by itself."""
    Session = registry_on(engine)

    with isolated() as isolation:
        all_words(isolation.session(Session))
        with engine.connect() as connection:
            connection.execute(select(Word.text))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(select(Word.text))
            connection.commit()


def test_core_that_rolls_back_what_it_has_written_harms_nobody(engine: Engine) -> None:
    """Nor does a transaction of its own that is rolled back."""
    with isolated(), engine.connect() as connection:
        connection.execute(WRITE)
        with connection.begin_nested():
            connection.execute(WRITE)
        connection.begin_nested().rollback()

    assert words(engine) == []


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE made_by_a_stranger (id INTEGER)", "WITH one AS (SELECT 1) INSERT INTO word (text) SELECT 'left'"],
)
def test_what_sqlite_commits_at_once_is_refused(engine: Engine, statement: str) -> None:
    """Python's driver begins for some statements alone; others are committed as they are sent."""
    registry = registry_on(engine)

    with isolated() as isolation:
        with pytest.raises(IsolationError, match="A statement that commits by itself"), engine.connect() as connection:
            connection.execute(text(statement))
        with pytest.raises(IsolationError):
            isolation.check()

    assert words(engine) == []
    assert registry is not None


def test_what_is_sent_where_sqlite_never_begins_is_refused(engine: Engine) -> None:
    """Without a BEGIN of the user's, all is committed as it is sent."""
    without = create_engine(engine.url, poolclass=NullPool)
    event.listen(without, "connect", lambda driver, record: setattr(driver, "isolation_level", None))
    registry = registry_on(without)

    with isolated() as isolation:
        with pytest.raises(IsolationError, match="A statement that commits by itself"), without.connect() as connection:
            connection.execute(WRITE)
        with pytest.raises(IsolationError):
            isolation.check()

    assert words(engine) == []
    assert registry is not None


@on_mariadb
def test_what_mariadb_commits_at_once_is_refused(engine: Engine) -> None:
    """A statement that changes a table commits, and so is not sent."""
    registry = registry_on(engine)

    with isolated() as isolation:
        with pytest.raises(IsolationError, match="A statement that commits by itself"), engine.connect() as connection:
            connection.execute(text("CREATE TABLE made_by_a_stranger (id INTEGER)"))
        with pytest.raises(IsolationError):
            isolation.check()

    assert registry is not None


# What SQLite ignores in a transaction


@pytest.mark.parametrize("pragma", ["PRAGMA foreign_keys = OFF", "pragma main.foreign_keys(0)"])
def test_a_pragma_that_does_nothing_is_refused(engine: Engine, pragma: str) -> None:
    """SQLite ignores it within a transaction; the error says where it belongs."""
    with isolated() as isolation:
        session = isolation.session(registry_on(engine))
        with pytest.raises(IsolationError, match=r"foreign_keys.* does nothing within a transaction.*event 'connect'"):
            session.execute(text(pragma))
        with pytest.raises(IsolationError):
            isolation.check()


def test_a_pragma_that_has_nothing_to_do_is_let_be(engine: Engine) -> None:
    """What it asks for may be so already, and it may only ask."""
    with isolated() as isolation:
        session = isolation.session(registry_on(engine))
        session.execute(text("PRAGMA foreign_keys = on"))
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


# What the database has rolled back


def or_rollback(session: Any) -> None:
    """Lose the whole transaction, on SQLite."""
    with pytest.raises(DBAPIError):
        session.execute(text("INSERT OR ROLLBACK INTO word (id, text) VALUES (1, 'hunter2')"))


def raise_rollback(session: Any) -> None:
    """Lose it by a trigger."""
    with pytest.raises(DBAPIError):
        session.execute(text("UPDATE word SET text = 'refused'"))


@pytest.mark.parametrize("way", [or_rollback, raise_rollback], ids=lambda way: way.__name__)
def test_what_sqlite_has_rolled_back_is_named(engine: Engine, way: Callable[[Any], None]) -> None:
    """The test's transaction is gone with the session's, and the error says so, and what with."""
    with engine.begin() as connection:
        trigger = "CREATE TRIGGER refused BEFORE UPDATE ON word BEGIN SELECT RAISE(ROLLBACK, 'hunter2'); END"
        connection.execute(text(trigger))

    with pytest.raises(IsolationError) as raised, isolated() as isolation:
        session = isolation.session(registry_on(engine))
        session.add(Word(id=1, text="ada"))
        session.commit()
        way(session)
        session.rollback()
        assert all_words(session) == []

    assert "has rolled back all that the test had written" in str(raised.value)
    assert "IntegrityError (SQLITE_CONSTRAINT" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert words(engine) == []


@pytest.mark.parametrize("driver", [pytest.param("mariadb+pymysql", marks=needs_mariadb)])
def test_an_error_of_no_connection_is_no_concern(engine: Engine) -> None:
    """An error that comes before there is a connection is the application's."""
    nowhere = create_engine(engine.url.set(port=1), poolclass=NullPool)

    with isolated(), pytest.raises(DBAPIError):
        nowhere.connect()


def connection_of(session: Any) -> Connection:
    """Return the connection of a session."""
    connection: Connection = session.connection()
    return connection


@with_every_driver
def test_a_savepoint_of_core_is_its_own(engine: Engine) -> None:
    """The application may begin savepoints on the connection of its session."""
    with isolated() as isolation:
        session = isolation.session(registry_on(engine))
        with connection_of(session).begin_nested() as nested:
            connection_of(session).execute(WRITE)
            nested.rollback()
        with connection_of(session).begin_nested():
            connection_of(session).execute(insert(Word).values(text="kept"))
        session.commit()
        assert all_words(session) == ["kept"]

    assert words(engine) == []
