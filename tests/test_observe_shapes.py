"""The shape of a statement: no value of anybody's is in it."""

from __future__ import annotations

import pytest

from wsgi_session.observe._shapes import is_list_or_page, shape_of


@pytest.mark.parametrize(
    ("dialect", "statement", "shape"),
    [
        (
            "sqlite",
            "SELECT a\n  FROM t1 WHERE b_2 = 'it''s' AND c = -1.5e3",
            "SELECT a FROM t1 WHERE b_2 = ? AND c = -?",
        ),
        ("sqlite", 'SELECT "a 1" FROM t -- why: ada\nWHERE 1', 'SELECT "a ?" FROM t WHERE ?'),
        ("sqlite", "SELECT /* ada */ 'never closed", "SELECT ?"),
        ("postgresql", "SELECT E'it\\'s', $$ada$$, $x$bob$x$, 'C:\\', 'ada'", "SELECT ?, ?, ?, ?, ?"),
        ("postgresql", "SELECT %(a_1)s::INTEGER, $1, a::text, :b", "SELECT ?::INTEGER, ?, a::text, ?"),
        ("postgresql", "SELECT a FROM t WHERE b IN (%(b_1_1)s, %(b_1_2)s)", "SELECT a FROM t WHERE b IN (...)"),
        ("postgresql", "SELECT a FROM t WHERE b IN ($1::INTEGER, $2::INTEGER)", "SELECT a FROM t WHERE b IN (...)"),
        ("mysql", "SELECT `a`, 'it\\'s', \"ada\" # bob", "SELECT `a`, ?, ?"),
        ("mysql", "SELECT a FROM t WHERE b = %s", "SELECT a FROM t WHERE b = ?"),
    ],
)
def test_values_become_question_marks(dialect: str, statement: str, shape: str) -> None:
    """Strings, numbers, parameters and comments are left out, each dialect read by its own rules; names stay."""
    assert shape_of(statement, dialect).sql == shape


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
    ],
)
def test_a_common_table_expression_that_writes_is_a_write(statement: str, kind: str) -> None:
    """A WITH is of the kind of the first thing in it that writes; names, literals and locks are no writes."""
    assert shape_of(statement, "postgresql").kind == kind


def test_no_statement_is_no_kind() -> None:
    """A text without a word is of no kind."""
    assert shape_of("-- nothing", "sqlite").kind == ""
