"""SQLite's driver: Python's sqlite3."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import _holders
from .driver import Driver
from .traces import look_at, traces_of

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

    from .traces import Traces


class SQLite(Driver):
    """Python's sqlite3.

    Where BEGIN was sent (by a listener, or with ``autocommit=False``), it knows at COMMIT whether the transaction goes
    on. Where it sends BEGIN with the first write, as it does by default, it knows that when the error comes.
    """

    waits_with_begin = True

    _ROLLING_BACK = frozenset({5, 7, 9, 10, 13, 19})
    """The primary codes of the errors that may roll back (https://www.sqlite.org/lang_transaction.html): busy, out of
    memory, interrupted, I/O, a full disk; and a constraint, with ``OR ROLLBACK`` or ``RAISE(ROLLBACK, ...)``."""

    def is_in_transaction(self, connection: Any) -> bool:
        """Ask the driver."""
        return bool(connection.in_transaction)

    def has_open_statement(self, connection: PoolProxiedConnection) -> bool:
        """Try to replace a function, which SQLite refuses while a statement is being read (sqlite3_create_function).

        That makes it prepare every statement again, so it is not tried where nobody has a cursor: each of those holds
        its connection, and who else does is known.
        """
        if _holders.number(connection, "dbapi_connection") == _idle_holders():
            return False
        driver: Any = connection.dbapi_connection
        try:
            for _ in range(2):  # it has to be there first
                driver.create_function("wsgi_session_probe", 0, _probe)
        except Exception:  # also of a thread that may not ask
            return True
        return False

    def note_begin(self, connection: PoolProxiedConnection) -> None:
        """Note whether a BEGIN was sent; only then is it in a transaction before the first write."""
        if self.is_in_transaction(connection.dbapi_connection):
            traces_of(connection).is_begun = True

    def fails(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """Look whether a transaction is over, and whether it had written."""
        left = look_at(connection)
        driver: Any = connection.dbapi_connection
        if left is None or self.is_in_transaction(driver):
            return
        if left.is_begun:
            driver.execute("BEGIN")  # else what follows would be committed, statement by statement
            left.has_begun_anew = True
        elif not self._is_rolling_back(error) or not _begins_with_writes(driver):
            return
        if left.has_written:
            left.error, left.is_lost = error, True

    def is_over(self, connection: Any, left: Traces) -> bool:
        """Say what was found out when the error came, or that a BEGIN has come to nothing."""
        return left.is_lost or (left.is_begun and not self.is_in_transaction(connection))

    def _is_rolling_back(self, error: BaseException) -> bool:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in self._ROLLING_BACK


def _begins_with_writes(driver: Any) -> bool:
    """Say whether sqlite3 sends BEGIN with the first write, and not none at all (autocommit)."""
    return driver.isolation_level is not None and getattr(driver, "autocommit", -1) == -1


@cache
def _idle_holders() -> int | None:
    """Count who holds a connection of which nobody has a cursor: itself, the pool's record, and its proxy."""
    import sqlite3  # noqa: PLC0415  # others have no SQLite

    record = SimpleNamespace(dbapi_connection=sqlite3.connect(":memory:"))
    of_record = _holders.number(record, "dbapi_connection")
    record.dbapi_connection.close()
    return None if of_record is None else of_record + 1


def _probe() -> None:
    """Be replaced."""
