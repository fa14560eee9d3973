"""The lexer: it reads a statement as the databases do, and shows nothing that is a value to one of them."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import psycopg
import pymysql
import pytest
from hypothesis import example, given
from pglast import parser  # type: ignore[import-untyped]
from sqlalchemy import URL

from tests.drivers import needs_mariadb, needs_postgresql
from tests.statements import (
    DIALECTS,
    FRAGMENTS,
    MARIADB,
    MARIADB_WITH_ANSI_QUOTES,
    MARIADB_WITHOUT_ESCAPES,
    POSTGRESQL,
    POSTGRESQL_WITH_ESCAPES,
    SQLITE,
    Planted,
    planted,
    secrets_in,
    soup,
    soups,
)
from wsgi_session.observe._shapes import MAX_LENGTH, forget_shapes, shape_of

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
NAMES = {"IDENT", "UIDENT", "PARAM"}


def shown(statement: str, dialect: str) -> set[str]:
    """Return the secrets that the shape of a *statement* shows."""
    return secrets_in(shape_of(statement, dialect).sql)


@given(soups())
@example("SELECT 1 AS \"the user's name\" WHERE 'hunter00' = 'hunter01'")
@example("SELECT $é$ ' $é$ hunter00 '")
@example("SELECT 'hunter00\\' ' hunter01'")
@example("/* /* */ hunter00 */ SELECT a$b$'hunter01'$b$")
def test_postgresql_takes_for_values_what_is_hidden(statement: str) -> None:
    """What PostgreSQL's own lexer calls a name is shown, and what it calls a value or a comment is not."""
    try:
        tokens = parser.scan(statement)
    except (parser.ParseError, ValueError):
        return
    names = {
        secret
        for token in tokens
        if token.name in NAMES or token.kind != "NO_KEYWORD"
        for secret in secrets_in(statement[token.start : token.end + 1])
    }

    assert shown(statement, "postgresql") <= names


@given(soups())
def test_postgresqls_names_are_readable(statement: str) -> None:
    """Where nothing depends on a setting of the server, all names of a statement are shown."""
    try:
        tokens = parser.scan(statement)
    except (parser.ParseError, ValueError):
        return
    if any(odd in statement for odd in ("\\", "%", ":", "IDENTIFIED", "SET")):
        return
    words = [statement[token.start : token.end + 1] for token in tokens if token.name == "IDENT"]
    parts = shape_of(statement, "postgresql").sql

    assert {secret for word in words for secret in secrets_in(word)} <= secrets_in(parts)


@given(soups(tuple(fragment for fragment in FRAGMENTS if fragment not in ("\x00", ";"))))
@example("hunter00")
@example('\'a\' IS DISTINCT FROM "hunter00", "hunter01"')
@example('1 WHERE 1 IS NOT DISTINCT/**/FROM\n"hunter01"')
def test_what_sqlite_selects_is_hidden(statement: str) -> None:
    """Whatever SQLite takes, what comes out of it was a value, and is not in the shape."""
    statement = f"SELECT {statement}"
    with sqlite3.connect(":memory:") as connection:
        try:
            rows = connection.execute(statement).fetchall()
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            return
        finally:
            connection.rollback()
    connection.close()

    assert not shown(statement, "sqlite") & secrets_in(repr(rows))


@given(planted(SQLITE))
def test_sqlite_has_the_values_that_are_hidden(statement: Planted) -> None:
    """Strings in all of SQLite's notations are hidden, whatever the names and comments around them have in them."""
    connection = sqlite3.connect(":memory:")
    (row,) = connection.execute(statement.sql).fetchall()
    connection.close()

    assert row == statement.values
    assert shown(statement.sql, "sqlite") == set()


@needs_postgresql
@pytest.mark.parametrize("are_escapes_on", [False, True])
def test_postgresql_has_the_values_that_are_hidden(are_escapes_on: bool, postgresql_url: URL) -> None:
    """So are those of PostgreSQL, however the server is set to take a backslash."""
    notation = POSTGRESQL_WITH_ESCAPES if are_escapes_on else POSTGRESQL
    url = postgresql_url.set(drivername="postgresql").render_as_string(hide_password=False)

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET escape_string_warning = off")
        connection.execute(f"SET standard_conforming_strings = {'off' if are_escapes_on else 'on'}")

        @given(planted(notation))
        def check(statement: Planted) -> None:
            assert connection.execute(statement.sql.encode()).fetchone() == statement.values
            assert shown(statement.sql, "postgresql") == set()

        check()


@needs_mariadb
@pytest.mark.parametrize(
    ("mode", "notation"),
    [("", MARIADB), ("NO_BACKSLASH_ESCAPES", MARIADB_WITHOUT_ESCAPES), ("ANSI_QUOTES", MARIADB_WITH_ANSI_QUOTES)],
)
def test_mariadb_has_the_values_that_are_hidden(mode: str, notation: Any, mariadb_connection: Any) -> None:
    """So are those of MariaDB, in the modes in which it reads quotes and backslashes otherwise."""
    cursor = mariadb_connection.cursor()
    cursor.execute(f"SET sql_mode = '{mode}'")

    @given(planted(notation))
    def check(statement: Planted) -> None:
        cursor.execute(statement.sql)
        assert cursor.fetchone() == statement.values
        assert shown(statement.sql, "mysql") == set()

    check()


@needs_mariadb
@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"])
def test_what_mariadb_selects_is_hidden(mode: str, mariadb_connection: Any) -> None:
    """Whatever MariaDB takes, what comes out of it was a value, and is not in the shape."""
    cursor = mariadb_connection.cursor()
    cursor.execute(f"SET sql_mode = '{mode}'")

    @given(soups(tuple(fragment for fragment in FRAGMENTS if fragment != ";")))
    def check(statement: str) -> None:
        statement = f"SELECT {statement}"
        try:
            cursor.execute(statement)
            rows = cursor.fetchall()
        except (pymysql.Error, UnicodeError):
            return
        assert not shown(statement, "mysql") & secrets_in(repr(rows))

    check()


@pytest.fixture
def mariadb_connection(mariadb_url: URL) -> Iterator[Any]:
    """Return a connection to MariaDB, past SQLAlchemy."""
    connection = pymysql.connect(
        host=mariadb_url.host,
        port=mariadb_url.port or 3306,
        user=mariadb_url.username,
        password=mariadb_url.password or "",
        unix_socket=mariadb_url.query.get("unix_socket"),
        charset="utf8mb4",
    )
    yield connection
    connection.close()


@given(soups(tuple(fragment for fragment in FRAGMENTS if fragment[:1] not in ":@$")))
def test_an_unknown_database_shows_less_than_any(statement: str) -> None:
    """A value of one of the databases with a grammar is hidden in a statement for one without."""
    hidden = secrets_in(statement) - set.intersection(*(shown(statement, dialect) for dialect in DIALECTS[:3]))

    assert not shown(statement, "oracle") & hidden


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_time_is_bounded_by_the_length(dialect: str) -> None:
    """Nothing that is repeated, and no two things, make a statement of 10,000 characters take long to read."""
    pairs = [(one, " ") for one in FRAGMENTS]
    pairs += random.sample(list(product(FRAGMENTS, repeat=2)), 2000 if IS_LONG else 0)
    for pair in [*pairs, ("$1::int , ", ""), ("IN ((", ""), ("a IN (1, ", ""), ("IN (", "?::a ")]:
        part = "".join(pair)
        statement = "SELECT a IN (" + part * (10_000 // len(part))
        assert _seconds(statement, dialect) < 0.5 or _seconds(statement, dialect) < 0.5, part


def _seconds(statement: str, dialect: str) -> float:
    """Return the CPU time that a statement takes; what is repeated in itself would take minutes."""
    forget_shapes()
    began = time.process_time()
    shape_of(statement, dialect)
    return time.process_time() - began


def test_a_list_that_is_not_closed_takes_no_time() -> None:
    """A list of forty casts that ends in something else is read at once."""
    statement = "SELECT a IN (" + "$1::int , " * 40 + "b)"

    assert shape_of(statement, "postgresql").sql == "SELECT a IN (" + "?::int , " * 40 + "b)"


def test_random_statements_take_no_time() -> None:
    """A million statements without any sense (a few, in an ordinary run) have shapes, in no time each."""
    number = 250_000 if IS_LONG else 1_000
    of = random.Random(4)
    began = time.process_time()
    for _ in range(number):
        statement = soup(of, of.randrange(1, 40))
        for dialect in DIALECTS:
            shape = shape_of(statement, dialect)
            assert len(shape.sql) <= MAX_LENGTH + 5
    forget_shapes()

    assert (time.process_time() - began) / (number * len(DIALECTS)) < 5e-3
