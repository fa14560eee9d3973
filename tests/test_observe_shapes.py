"""The shape of a statement: no value of anybody's is in it."""

from __future__ import annotations

import tracemalloc

import pytest

from wsgi_session.observe._shapes import MAX_LENGTH, forget_shapes, is_list_or_page, shape_of


@pytest.mark.parametrize(
    ("dialect", "statement", "shape"),
    [
        (
            "sqlite",
            "SELECT a\n  FROM t1 WHERE b_2 = 'it''s' AND c = -1.5e3",
            "SELECT a FROM t1 WHERE b_2 = ? AND c = -?",
        ),
        ("postgresql", 'SELECT "a 1" FROM t -- why: ada\nWHERE 1', 'SELECT "a 1" FROM t WHERE ?'),
        ("sqlite", "SELECT /* ada */ 'never closed", "SELECT ?"),
        ("postgresql", "SELECT E'it\\'s', $$ada$$, $x$bob$x$, 'C:\\', 'ada'", "SELECT ?, ?, ?, ?, ?"),
        ("postgresql", "SELECT %(a_1)s::INTEGER, $1, a::text, :b", "SELECT ?::INTEGER, ?, a::text, ?"),
        ("postgresql", "SELECT a FROM t WHERE b IN (%(b_1_1)s, %(b_1_2)s)", "SELECT a FROM t WHERE b IN (...)"),
        ("postgresql", "SELECT a FROM t WHERE b IN ($1::INTEGER, $2::INTEGER)", "SELECT a FROM t WHERE b IN (...)"),
        ("mysql", "SELECT `a`, 'it\\'s', \"ada\" # bob", "SELECT `a`, ?, ?"),
        ("mysql", "SELECT a FROM t WHERE b = %s", "SELECT a FROM t WHERE b = ?"),
        (
            "postgresql",
            "SELECT a AS \"the user's name\" FROM t WHERE b = 'ada'",
            'SELECT a AS "the user\'s name" FROM t WHERE b = ?',
        ),
        ("postgresql", "SELECT 1e5, .5, 1.e-5, 0x1F, 1_000, a1, -1", "SELECT ?, ?, ?, ?, ?, a1, -?"),
        ("postgresql", "SELECT B'1', x'1F', N'ada', U&'\\0061', U&\"\\0061\"", 'SELECT ?, ?, ?, ?, U&"\\0061"'),
        (
            "postgresql",
            "SELECT a ? 'b', a ?| :c, a #>> '{d}', e[1:2], 5 %% 2, f::int",
            "SELECT a ? ?, a ?| ?, a #>> ?, e[?:?], ? %% ?, f::int",
        ),
        ("postgresql", "/* a /* b */ ada */ SELECT 1 /* bob /* */", "SELECT ?"),
        ("postgresql", "SELECT a$b$ FROM t WHERE c = $é$ $$ ' $é$", "SELECT a$b$ FROM t WHERE c = ?"),
        (
            "postgresql",
            "SELECT a FROM t WHERE b IN ($1::\"My T\"[], 'ada') AND (b, c) IN ((1, 2), (%s, %s))",
            "SELECT a FROM t WHERE b IN (...) AND (b, c) IN (...)",
        ),
        ("postgresql", "SELECT a LIKE $1 ESCAPE '\\', 'ada'", "SELECT a LIKE ? ESCAPE ?, ?"),
        ("postgresql", "SELECT 'it\\'s', 'ada'", "SELECT ?, ?"),
        ("postgresql", "SELECT 'a\\'' || b || '\\''", "SELECT ?..."),
        ("postgresql", "SELECT %(it's)s, 'ada'", "SELECT ?..."),
        ("postgresql", "SELECT a FROM t WHERE b = 'ada\x00'", "SELECT a FROM t WHERE b = ?"),
        ("postgresql", "SELECT a\x00, 'ada'", "SELECT a?..."),
        ("postgresql", "SELECT 1 -- \x00'\n, 'ada'", "SELECT ? ?..."),
        ("postgresql", "SELECT '\x00', ada", "SELECT ?"),
        ("mysql", "SELECT 5--3, _utf8mb4'ada', N'bob', @a := \"eve\" -- 'x", "SELECT ?--?, _utf8mb4?, ?, @a := ?"),
        ("mysql", "SELECT /*!40001 SQL_NO_CACHE */ `it's` /*+ NO_ICP(a) */", "SELECT /*!...*/ `it's`"),
        ("mysql", "SELECT /*!40001 'ada' */ 1", "SELECT ?..."),
        ("mysql", "SELECT 1 # bob\x00' \n ada '", "SELECT ? ?..."),
        ("mysql", "SELECT a FROM t WHERE b = 'C:\\' AND c = 'ada'", "SELECT a FROM t WHERE b = ? AND c = ?"),
        (
            "sqlite",
            'SELECT "ada" FROM "it\'s" AS [a\'b], `c\'d`."e" WHERE f = x\'00\'',
            'SELECT ? FROM "it\'s" AS [a\'b], `c\'d`."e" WHERE f = ?',
        ),
        ("sqlite", 'SELECT a IS NOT DISTINCT /* no table */ FROM "ada"', "SELECT a IS NOT DISTINCT FROM ?"),
        (
            "sqlite",
            'INSERT OR IGNORE INTO "T" ("A", b) VALUES ("ada", ?)',
            'INSERT OR IGNORE INTO "T" ("A", b) VALUES (?, ?)',
        ),
        ("sqlite", 'VACUUM INTO "ada"', "VACUUM INTO ?"),
        ("sqlite", "SELECT :a, @b, $c::d(it's), $::€(it's), ?1, 'ada'", "SELECT ?, ?, ?, ?, ?, ?"),
        (
            "oracle",
            "SELECT q'[it's ada]', Q'!it's!', \"A\".\"B\", \"C\", v$session FROM t",
            'SELECT ?, ?, "A"."B", ?, v$session FROM t',
        ),
        ("mssql", "SELECT [it], [it's], 'ada'", "SELECT [it], ?..."),
        (
            "mssql",
            "SELECT '''ada''', £12.50, '''''' FROM #t WHERE a = 1\nAND b = N'bob'",
            "SELECT ?, £?, ? FROM ? AND b = N?",
        ),
        ("other", "SELECT 1 --don't\n, 'ada'", "SELECT ? ?..."),
        ("other", "SELECT 1 // no\n, 2 -- don't\n, 3", "SELECT ? ? , ? , ?"),
        ("other", "SELECT 1 /* it's /* */ ada */", "SELECT ? ?..."),
    ],
)
def test_values_become_question_marks(dialect: str, statement: str, shape: str) -> None:
    """Strings, numbers, parameters and comments are left out, each dialect read by its own rules; names stay."""
    assert shape_of(statement, dialect).sql == shape


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite", "other"])
@pytest.mark.parametrize("beginning", ["'", '"', "/*", "$$", "$a$", "E'", "N'", "q'[", "`", "[", "/*!", "/* /*"])
def test_what_has_no_end_is_hidden_to_the_end(dialect: str, beginning: str) -> None:
    """A string, a name or a comment that is not closed hides the rest, in every dialect that has such a thing."""
    shape = shape_of(f"SELECT a, {beginning} hunter", dialect).sql

    is_none_of_its = (dialect, beginning) in {
        ("postgresql", "`"),
        ("postgresql", "["),
        ("mysql", "["),
        ("sqlite", "$$"),
        ("sqlite", "$a$"),
    }
    assert ("hunter" in shape) is is_none_of_its
    assert shape.startswith("SELECT a,")


@pytest.mark.parametrize(
    ("statement", "shape"),
    [
        ("SAVEPOINT ada", "SAVEPOINT ?"),
        ("RELEASE SAVEPOINT ada", "RELEASE SAVEPOINT ?"),
        ("ROLLBACK TO SAVEPOINT ada", "ROLLBACK TO SAVEPOINT ?"),
        ("ROLLBACK", "ROLLBACK"),
        ("SET LOCAL app.tenant TO ada", "SET LOCAL app.tenant TO ?"),
        ("SET a=ada, b=bob", "SET a=?"),
        ("SET TRANSACTION READ ONLY", "SET TRANSACTION READ ONLY"),
        ("PRAGMA key(ada)", "PRAGMA key(?"),
        ("ALTER ROLE a SET b TO ada", "ALTER ROLE a SET b TO ?"),
        ("CREATE USER a IDENTIFIED BY ada", "CREATE USER a IDENTIFIED BY ?"),
        ("EXEC sp_login ada, bob", "EXEC sp_login ?"),
    ],
)
def test_words_without_quotes_that_may_be_values_are_hidden(statement: str, shape: str) -> None:
    """What is set, names of savepoints, and passwords that need no quotes are left out, too."""
    assert shape_of(statement, "other").sql == shape


def test_a_long_shape_is_cut() -> None:
    """Of a long statement the beginning is kept; of what it does, all that can be read."""
    columns = ", ".join(f"column_{number}" for number in range(2000))
    select, write = f"SELECT {columns} FROM t", f"WITH a AS (SELECT {columns} FROM t) DELETE FROM t"
    endless = "WITH a AS (SELECT " + "a, " * 100_000 + "a FROM t) SELECT * FROM t"

    assert shape_of(select, "sqlite").sql == select[:MAX_LENGTH] + "..."
    assert shape_of(write, "sqlite").kind == "delete"
    assert shape_of(endless, "sqlite").kind == "with"
    assert shape_of("a" * 100_000, "sqlite").kind == "a" * 20


def test_no_long_statement_is_kept() -> None:
    """Whatever has been sent, a thousand shapes are remembered, and none of the statements; they can be forgotten."""
    forget_shapes()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    for number in range(1500):
        shape_of(f"SELECT '{number}', '{'x' * 100_000}'", "sqlite")
        shape_of(f"SELECT a{number} FROM t", "sqlite")
    kept = tracemalloc.get_traced_memory()[0] - before
    forget_shapes()
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert kept < 1_000_000
    assert left < 100_000


def test_equal_shapes_are_one() -> None:
    """Statements that differ in their values alone have one text in memory."""
    first, second = (shape_of(f"SELECT {number} FROM t", "sqlite") for number in (1, 2))

    assert first is second


def test_what_cannot_be_printed_is_left_out() -> None:
    """A name cannot break a line of the log, nor write to a terminal."""
    assert shape_of('SELECT "a\n\x1b\udc80b"', "postgresql").sql == 'SELECT "a ??b"'


@pytest.mark.parametrize(
    ("statement", "is_one"),
    [
        ("SELECT a FROM t WHERE b IN (?, ?)", True),
        ("select a from t order by b limit 10", True),
        ("SELECT a FROM t ORDER BY b FETCH FIRST 10 ROWS ONLY", True),
        ("SELECT a FROM t WHERE b IN (SELECT c FROM u)", False),
        ("SELECT a FROM t LIMIT 1", False),
    ],
)
def test_lists_and_pages_are_told(statement: str, is_one: bool) -> None:
    """A list of keys, and a page of what is in order, are told from other SELECTs."""
    assert is_list_or_page(shape_of(statement, "sqlite").sql) is is_one


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("WITH a AS (SELECT 1) SELECT * FROM a", "select"),
        ("WITH a AS (SELECT 1) DELETE FROM t WHERE b IN (SELECT * FROM a)", "delete"),
        ("WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b) UPDATE t SET c = 1", "update"),
        ("with a as materialized (\n  insert into t values (1) returning b) select b from a", "insert"),
        ("WITH a AS (/* 1 */ MERGE INTO t USING u ON b = c WHEN MATCHED THEN DELETE) SELECT * FROM a", "merge"),
        ("WITH a AS (SELECT 'INSERT', t.update, t.\"delete\", last_update FROM t) SELECT * FROM a", "select"),
        ("WITH a AS (SELECT b FROM t FOR UPDATE), c AS (SELECT b FROM t FOR NO KEY UPDATE) SELECT * FROM a", "select"),
        ("WITH a AS (SELECT 1) TABLE a", "select"),
        ('WITH a AS (SELECT b AS "to delete", c[1] AS "INSERT" FROM t) SELECT * FROM a', "select"),
        ("WITH a AS (SELECT replace(b, 'c', 'd') FROM t) REPLACE INTO t SELECT * FROM a", "replace"),
        ("WITH a AS (SELECT 'b\\'' || c || '\\'') DELETE FROM t", "with"),
    ],
)
def test_a_common_table_expression_that_writes_is_a_write(statement: str, kind: str) -> None:
    """A WITH is of the kind of the first thing in it that writes; names, literals and locks are no writes."""
    assert shape_of(statement, "postgresql").kind == kind


def test_no_statement_is_no_kind() -> None:
    """A text without a word is of no kind."""
    assert shape_of("-- nothing", "sqlite").kind == ""
