"""A conflict: what a database says when it asks for a transaction to be done again."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError

from .._session.codes import mysql_code, sqlstate
from ..errors import PartialCommitError

SQLSTATES = frozenset({"40001", "40P01"})
"""PostgreSQL's serialization failure and deadlock (its manual, appendix A)."""

MYSQL_CODES = frozenset({1020, 1205, 1213, 1613, 1614})
"""MySQL's and MariaDB's: a row that has changed since it was read (a snapshot's conflict), a lock that was waited for
too long, a deadlock, and the last two for the branch of a two-phase transaction."""

SQLITE_CODES = frozenset({5, 6})
"""SQLite's primary result codes ``SQLITE_BUSY`` and ``SQLITE_LOCKED``."""

XAER_RMFAIL = 1399
"""MySQL's and MariaDB's for a command that does not go with the state of a two-phase transaction: a conflict has doomed
it, and SQLAlchemy's rollback begins with ``XA END``.  Then the conflict is what the error was raised in."""


def is_retryable(error: BaseException) -> bool:
    """Say whether a database asks for its transaction to be done again: a serialization failure, a deadlock, a lock.

    Args:
        error: SQLAlchemy's, or the driver's. One that was raised ``from`` such an error is one, too.

    Returns:
        Whether it is, by its SQLSTATE or the driver's code; never by its text. A lost connection is not, for nobody
        knows what became of the transaction.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen and not isinstance(cause, PartialCommitError):
        seen.append(cause)
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return False
        if _asks_again(cause):
            return True
        cause = cause.__context__ if mysql_code(cause) == XAER_RMFAIL else cause.__cause__
    return False


def _asks_again(error: Any) -> bool:
    """Judge an error of a driver: psycopg, psycopg2, asyncpg, pg8000; those of MySQL and MariaDB; sqlite3."""
    return (
        sqlstate(error) in SQLSTATES
        or mysql_code(error) in MYSQL_CODES
        or getattr(error, "sqlite_errorcode", 0) & 0xFF in SQLITE_CODES
    )
