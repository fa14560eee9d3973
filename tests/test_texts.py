"""What text does, by its words: whatever may write is taken for a write, and what only reads for a read."""

from __future__ import annotations

import pytest

from wsgi_session._sql import texts

READS = [
    ("postgresql", "SELECT replace(name, 'n', 'm') FROM word"),
    ("postgresql", "SELECT * FROM word WHERE text = 'delete'"),
    ("postgresql", 'SELECT text AS "update" FROM word'),
    ("postgresql", "SELECT 1 -- then insert into it"),
    ("postgresql", "/* for the update page */ SELECT 1"),
    ("postgresql", "SELECT 1; -- all"),
    ("postgresql", "SELECT * FROM word FOR  UPDATE"),
    ("postgresql", "SELECT * FROM word FOR\nNO KEY UPDATE"),
    ("postgresql", "EXPLAIN UPDATE word SET text = 'x'"),
    ("postgresql", "EXPLAIN ANALYZE SELECT 1"),
    ("postgresql", "WITH q AS (SELECT $$insert$$) SELECT * FROM q"),
    ("postgresql", "SELECT t.update FROM t"),
    ("mysql", "SELECT insert(text, 1, 1, 'x') FROM word"),
    ("mysql", "SELECT `delete` FROM word # into"),
    ("mysql", "SET NAMES utf8mb4 /* not autocommit */"),
    ("mariadb", "ANALYZE FORMAT=JSON SELECT 1"),
    ("sqlite", "VALUES (1), (2)"),
    ("sqlite", "PRAGMA foreign_keys"),
    ("sqlite", ""),
]

WRITES = [
    ("postgresql", "INSERT INTO word VALUES (1)"),
    ("postgresql", "WITH gone AS (DELETE FROM word RETURNING *) SELECT * FROM gone"),
    ("postgresql", "EXPLAIN (ANALYZE) UPDATE word SET text = 'x'"),
    ("postgresql", "SELECT 1; DELETE FROM word"),
    ("postgresql", "SELECT * INTO copy FROM word"),
    ("postgresql", "SELECT pg_notify('x', 'y')"),
    ("postgresql", "SELECT lo_create(0)"),
    ("postgresql", "CALL work()"),
    ("postgresql", "DO $$ BEGIN DELETE FROM word; END $$"),
    ("postgresql", "CREATE TABLE t (n int)"),
    ("postgresql", "SELECT '" + "x" * 60_000 + "'"),
    ("postgresql", "SELECT /* 1"),
    ("mysql", "SELECT 'it\\'s', 'DELETE"),
    ("mysql", "REPLACE word VALUES (1)"),
    ("mysql", "SELECT 1 /*! INTO OUTFILE 'x' */"),
    ("mariadb", "ANALYZE UPDATE word SET text = 'x'"),
    ("sqlite", "INSERT OR REPLACE INTO word VALUES (1)"),
]

IMPLICIT = [
    "CREATE TABLE t (n int)",
    "ALTER TABLE t ADD m int",
    "DROP TABLE t",
    "TRUNCATE t",
    "LOCK TABLES t READ",
    "START TRANSACTION",
    "begin",
    "ANALYZE TABLE t",
]

NOT_IMPLICIT = [
    "CREATE TEMPORARY TABLE t (n int)",
    "CREATE OR REPLACE TEMPORARY TABLE t (n int)",
    "DROP TEMPORARY TABLE t",
    "DROP PREPARE p",
    "ANALYZE SELECT 1",
    "UNLOCK TABLES",
    "SET autocommit = 0",
    "BEGIN NOT ATOMIC SELECT 1; END",
    "SET @x = 'CREATE TABLE t'",
]


@pytest.mark.parametrize(("dialect", "statement"), READS)
def test_what_only_reads(dialect: str, statement: str) -> None:
    """Words in strings, comments and names, functions and locks change nothing."""
    assert not texts.may_write(statement, dialect)


@pytest.mark.parametrize(("dialect", "statement"), WRITES, ids=lambda one: one[:40])
def test_what_may_write(dialect: str, statement: str) -> None:
    """Whatever may change something does, and what cannot be read to its end may, too."""
    assert texts.may_write(statement, dialect)


@pytest.mark.parametrize("statement", IMPLICIT)
def test_what_mysql_commits_before(statement: str) -> None:
    """MySQL and MariaDB are sure to commit before it."""
    assert texts.commits_on_mysql(statement, "mysql")


@pytest.mark.parametrize("statement", NOT_IMPLICIT)
def test_what_mysql_does_not_commit_before(statement: str) -> None:
    """They are not."""
    assert not texts.commits_on_mysql(statement, "mysql")


@pytest.mark.parametrize("statement", ["SET SESSION autocommit=1", "UNLOCK TABLES", "RESET MASTER"])
def test_what_mysql_may_commit_before(statement: str) -> None:
    """They may, or not."""
    assert texts.may_commit_on_mysql(statement, "mysql")
