"""The committing block."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    create_engine,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.pool import StaticPool

from tests.helpers import Base, Exchange, Letter, Word, add_words, all_words, beside, is_clean, request, words
from tests.test_testing_isolated import on_all
from tests.words_application import registry_on, shop, text_of
from wsgi_session.testing import IsolationError, committing

ANY_NAME = ""


@on_all
def test_commits_are_real_and_deleted_afterwards(driver: str, engine_by: Callable[..., Engine]) -> None:
    """Everybody sees what is committed, on any connection; afterwards the tables that were written to are empty."""
    engine = engine_by(driver, pool_size=2)
    Session = registry_on(engine)

    with committing(database=ANY_NAME) as isolation:
        session = isolation.session(Session)
        session.add(Word(text="ada", letters=[Letter()]))
        session.commit()
        assert text_of(shop(Session), "POST", "/bob") == "ada,bob"
        assert words(engine) == all_words(session) == ["ada", "bob"]

    assert words(engine) == []
    assert is_clean(engine)


def test_threads_and_isolation_levels_are_allowed(new_engine: Callable[..., Engine]) -> None:
    """A live server may answer in threads of its own, and a session may ask for a level."""
    engine = new_engine(pool_size=3)
    Session = registry_on(engine)

    def serializable(session: Any) -> None:
        session.rollback()
        session.connection(execution_options={"isolation_level": "SERIALIZABLE"})

    with committing(database=ANY_NAME):
        threads = [threading.Thread(target=request, args=(shop(Session), "POST", f"/{number}")) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        request(shop(Session, serializable))
        assert sorted(words(engine)) == ["0", "1", "2"]

    assert words(engine) == []


def test_the_test_does_not_see_stale_attributes(new_engine: Callable[..., Engine]) -> None:
    """What a request has changed, the test's objects show; what another thread does, they are to be told."""
    Session = registry_on(new_engine(pool_size=2))

    def shout(session: Any) -> None:
        session.get_one(Word, 1).text += "!"

    with committing(database=ANY_NAME) as isolation:
        session = isolation.session(Session)
        word = Word(id=1, text="ada")
        session.add(word)
        session.commit()
        assert word.text == "ada"
        request(shop(Session, shout), "POST", "/bob")
        assert word.text == "ada!"
        session.rollback()
        thread = threading.Thread(target=request, args=(shop(Session, shout), "POST", "/bob"))
        thread.start()
        thread.join()
        session.refresh(word)
        assert word.text == "ada!!"


def test_a_database_that_is_not_marked_is_refused(tmp_path: Path) -> None:
    """Nothing is written to a database whose name does not say that it is for tests; its password is not shown."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)

    with committing() as isolation:
        with pytest.raises(IsolationError, match=r"'shop\.db', in .* is not marked as a test's database"):
            request(shop(registry_on(engine)), "POST", "/ada")
        with pytest.raises(IsolationError):
            isolation.check()

    assert words(engine) == []
    engine.dispose()


@pytest.mark.parametrize("name", ["test.db", "shop_test.db", "shop-test.db", "Test_shop_2.db", "test2.db"])
def test_a_database_whose_name_says_test_is_accepted(name: str, tmp_path: Path) -> None:
    """It is a word of its own there; the name of SQLite's is that of the file."""
    engine = create_engine(f"sqlite:///{tmp_path}/{name}")
    Base.metadata.create_all(engine)

    with committing():
        request(shop(registry_on(engine)), "POST", "/ada")
        assert words(engine) == ["ada"]

    assert words(engine) == []
    engine.dispose()


@pytest.mark.parametrize("name", ["latest.db", "contest.db", "attestation_prod.db", "tests.db"])
def test_a_database_with_test_in_another_word_is_refused(name: str, tmp_path: Path) -> None:
    """That is no test."""
    engine = create_engine(f"sqlite:///{tmp_path}/{name}")
    Base.metadata.create_all(engine)

    with pytest.raises(IsolationError, match="whose name has the word 'test'"), committing():
        request(shop(registry_on(engine)), "POST", "/ada")

    assert words(engine) == []
    engine.dispose()


def test_a_database_in_memory_is_a_tests() -> None:
    """It cannot be anything else."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)

    with committing():
        request(shop(registry_on(engine)), "POST", "/ada")

    with engine.connect() as connection:
        assert connection.scalars(select(Word)).all() == []
    engine.dispose()


def test_a_table_that_has_rows_is_not_written_to(engine: Engine) -> None:
    """Rows that were there before cannot be told from the test's, and are not deleted."""
    with engine.begin() as connection:
        connection.execute(insert(Word).values(text="before"))

    with committing(database=ANY_NAME) as isolation:
        with pytest.raises(IsolationError, match=r"word' .* had rows before"):
            request(shop(registry_on(engine)), "POST", "/ada")
        with pytest.raises(IsolationError):
            isolation.check()

    assert words(engine) == ["before"]


def test_what_was_sent_as_text_is_deleted(engine: Engine) -> None:
    """It may have written to any table that was empty."""
    with committing(database=ANY_NAME), engine.begin() as connection:
        connection.execute(insert(Word).values(id=1, text="ada"))
        connection.execute(text("INSERT INTO letter (word_id) VALUES (1)"))
        connection.execute(text("UPDATE letter SET word_id = 1"))

    assert words(engine) == []
    with engine.connect() as connection:
        assert connection.execute(select(Letter)).all() == []


@pytest.mark.system("postgresql")
def test_what_a_common_table_expression_writes_is_deleted(postgresql_engine: Engine) -> None:
    """A SELECT may write by its WITH, and any statement to other tables than its own."""
    word, letter = Base.metadata.tables["word"], Base.metadata.tables["letter"]
    ada = insert(word).values(id=1, text="ada").returning(word.c.id).cte()

    with committing(database=ANY_NAME), postgresql_engine.begin() as connection:
        connection.execute(insert(letter).from_select(["word_id"], select(ada.c.id)))

    assert words(postgresql_engine) == []

    with committing(database=ANY_NAME), postgresql_engine.begin() as connection:
        assert connection.scalar(select(ada.c.id)) == 1

    assert words(postgresql_engine) == []


@pytest.mark.system("postgresql")
def test_a_common_table_expression_that_writes_is_refused_as_any_write(postgresql_engine: Engine) -> None:
    """It does not get through to a database that is not marked as a test's; one that reads does."""
    with committing(database="no such name") as isolation, postgresql_engine.connect() as connection:
        assert connection.scalar(text("WITH one AS (SELECT 1 AS id FOR UPDATE) SELECT id FROM one")) == 1
        with pytest.raises(IsolationError, match="is not marked as a test's database"):
            connection.execute(text("WITH one AS (INSERT INTO word VALUES (1, 'ada') RETURNING id) SELECT id FROM one"))
        with pytest.raises(IsolationError):
            isolation.check()

    assert words(postgresql_engine) == []


def test_rows_that_refer_to_others_are_deleted_before_these(engine: Engine) -> None:
    """That one table was written to by its model and the other by text does not matter to their foreign keys."""
    metadata = MetaData()
    page = Table("a_page", metadata, Column("id", Integer, primary_key=True))
    note = Table("b_note", metadata, Column("id", Integer, primary_key=True), Column("page_id", ForeignKey(page.c.id)))
    metadata.create_all(engine)

    with committing(database=ANY_NAME), engine.begin() as connection:
        connection.execute(insert(note).values(id=1))
        connection.execute(text("INSERT INTO a_page VALUES (1)"))
        connection.execute(text("UPDATE b_note SET page_id = 1"))

    with engine.connect() as connection:
        assert [connection.scalar(select(func.count()).select_from(table)) for table in (page, note)] == [0, 0]


def lock_out(engine: Engine) -> Connection:
    """Take a lock that keeps others from deleting in SQLite, and return the connection that has it."""
    connection = beside(engine).connect()
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    return connection


def test_an_engine_that_fails_does_not_keep_the_others(new_engine: Callable[..., Engine]) -> None:
    """Where rows cannot be deleted that is the error, and those on other engines are deleted all the same."""
    engine, other = new_engine(connect_args={"timeout": 0.01}), new_engine()

    with pytest.raises(sqlite3.OperationalError, match="locked"), committing(database=ANY_NAME):
        for one in (engine, other):
            with one.begin() as connection:
                connection.execute(insert(Word).values(text="ada"))
        locking = lock_out(engine)

    locking.close()
    assert words(other) == []
    assert words(engine) == ["ada"]


def test_rows_that_cannot_be_deleted_do_not_hide_the_problems(new_engine: Callable[..., Engine]) -> None:
    """The error that has kept the block from deleting them has what else there is to complain of as notes."""
    engine = new_engine(connect_args={"timeout": 0.01})
    Session = registry_on(engine)

    with (
        pytest.raises(sqlite3.OperationalError, match="locked") as raised,
        committing(database=ANY_NAME) as isolation,
    ):
        session = isolation.session(Session)
        add_words(session, "ada")
        session.commit()
        left = Exchange(shop(Session, lambda session: (str(session.connection()).encode() for _ in "x")), path="/left")
        left.step()
        locking = lock_out(engine)

    locking.close()
    assert "GET /left was never closed" in raised.value.__notes__[0]


def test_text_that_writes_to_a_table_with_rows_is_refused(engine: Engine) -> None:
    """The table is named, and the text is not sent."""
    with engine.begin() as connection:
        connection.execute(insert(Word).values(text="before"))

    with pytest.raises(IsolationError, match=r"word' .* had rows before"), committing(database=ANY_NAME):  # noqa: SIM117
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO word (text) VALUES ('ada')"))

    assert words(engine) == ["before"]


def test_text_beside_a_table_with_rows_is_none(engine: Engine) -> None:
    """A table that has rows, and keeps them, is no concern."""
    with engine.begin() as connection:
        connection.execute(insert(Word).values(id=1, text="before"))

    with committing(database=ANY_NAME), engine.begin() as connection:
        connection.execute(text("INSERT INTO letter (word_id) VALUES (1)"))

    assert words(engine) == ["before"]


def test_savepoints_write_nothing(engine: Engine) -> None:
    """A savepoint that is rolled back in the block is no commit."""
    Session = registry_on(engine)

    with committing(database=ANY_NAME) as isolation:
        session = isolation.session(Session)
        with session.begin_nested():
            add_words(session, "ada")
        session.commit()
        assert all_words(session) == ["ada"]

    assert words(engine) == []
