"""A conflict: what a database says when it asks for a transaction to be done again."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.exc import DBAPIError, IllegalStateChangeError, PendingRollbackError

from .._session.codes import mysql_code, sqlstate
from ..errors import PartialCommitError

SQLSTATES = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL's serialization failure and deadlock, and a lock that could not be had, in time or at once (its manual,
appendix A)."""

MYSQL_CODES = frozenset({1020, 1205, 1213, 1613, 1614, 3572})
"""MySQL's and MariaDB's: a row that has changed since it was read (a snapshot's conflict), a lock that was waited for
too long, a deadlock, two for the branch of a two-phase transaction, and MySQL's for ``NOWAIT``."""

SQLITE_CODES = frozenset({5, 6})
"""SQLite's primary result codes ``SQLITE_BUSY`` and ``SQLITE_LOCKED``."""

ECHOING_SQLSTATES = frozenset({"25P02", "3B001"})
"""PostgreSQL's for a statement in a transaction that has failed, and for a savepoint that is gone with it."""

ECHOING_MYSQL_CODES = frozenset({1305, 1399, 1402})
"""MySQL's and MariaDB's for a savepoint that is gone with its transaction; for a command that does not go with the
state of a two-phase one, whose rollback begins with ``XA END``; and for such a one that was rolled back."""

_end_of_savepoint = re.compile(r"\s*(?:ROLLBACK TO|RELEASE)\b", re.IGNORECASE)


def is_retryable(error: BaseException) -> bool:
    """Say whether a database asks for its transaction to be done again: a serialization failure, a deadlock, a lock.

    Args:
        error: SQLAlchemy's, or the driver's. One that was raised ``from`` such an error is one, too, and so is one that
            says only that the transaction, or a savepoint, is gone, while such an error was being handled.

    Returns:
        Whether it is, by its SQLSTATE or the driver's code; never by its text. A lost connection is not, because
        nobody knows what became of the transaction.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen and not isinstance(cause, PartialCommitError):
        seen.append(cause)
        if isinstance(cause, DBAPIError) and cause.connection_invalidated:
            return False
        if _asks_again(cause):
            return True
        cause = cause.__context__ if is_echo(cause) else cause.__cause__
    return False


def is_echo(error: Any) -> bool:
    """Say whether an error says only that the transaction, or a savepoint, is gone: another one before it says why.

    These are all there are. PostgreSQL refuses every statement in a transaction that has failed, with one code, but
    for the end of a savepoint that it does not know any more. MySQL and MariaDB begin anew, and so refuse the end of a
    savepoint, and in a two-phase transaction every command that does not end it. SQLite begins anew, and refuses the
    end of a savepoint with its code for any error, which is told by the statement. SQLAlchemy refuses the use of a
    session whose flush has failed, and 2.0.31 the rollback after a preparation that has.
    """
    if isinstance(error, IllegalStateChangeError | PendingRollbackError):
        return True
    if isinstance(error, DBAPIError):
        return is_echo(error.orig) or _end_of_savepoint.match(error.statement or "") is not None
    return sqlstate(error) in ECHOING_SQLSTATES or mysql_code(error) in ECHOING_MYSQL_CODES


def _asks_again(error: Any) -> bool:
    """Judge an error of a driver: psycopg, psycopg2, asyncpg, pg8000; those of MySQL and MariaDB; sqlite3."""
    return (
        sqlstate(error) in SQLSTATES
        or mysql_code(error) in MYSQL_CODES
        or getattr(error, "sqlite_errorcode", 0) & 0xFF in SQLITE_CODES
    )
