"""The drivers: what each knows of the transaction on its connection; of those that are not here, nothing is claimed.

Each was tried; ``tests/guarantees/test_05_the_last_word.py`` shows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .. import _holders
from .codes import mysql_code, sqlstate
from .traces import look_at, traces_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.pool import PoolProxiedConnection

    from .traces import Traces


class Driver(ABC):
    """What a driver knows of its transactions.  Lives as long as the program."""

    ends_lost_twophase = True
    """Whether a two-phase transaction that the database has ended can be rolled back."""

    waits_with_begin = False
    """Whether it sends BEGIN with the first write, and so has to be asked whether one was sent before."""

    @abstractmethod
    def is_in_transaction(self, connection: Any) -> bool:
        """Say whether the driver's *connection* is in a transaction, as far as it knows."""

    def cannot_write(self, connection: Any, counts_default: bool) -> bool:  # noqa: ARG002
        """Say whether the server refuses every write; most do not say so before there is one.

        Args:
            connection: The driver's.
            counts_default: Whether the default of its transactions counts, of which a BEGIN may ask for the contrary.
        """
        return False

    def has_open_statement(self, connection: PoolProxiedConnection) -> bool:  # noqa: ARG002
        """Say whether rows of a plain statement are still to be fetched; most drivers have them all at once."""
        return False

    @abstractmethod
    def fails(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """Note an *error* on a *connection*, and whether the transaction has outlived it."""

    @abstractmethod
    def is_over(self, connection: Any, left: Traces) -> bool:
        """Say whether the transaction that has *left* traces was ended by the database, or is doomed."""


class PostgreSQL(Driver):
    """psycopg, psycopg2 and pg8000: the server tells the status of the transaction with each answer."""

    _IN_FAILED_TRANSACTION = "25P02"
    """The SQLSTATE of whatever is sent after the statement that has failed."""

    def __init__(
        self,
        status: Callable[[Any], object],
        idle: object,
        in_error: object,
        setting: Callable[[Any, str], str | None],
    ) -> None:
        """Know how a driver's connection is asked for the status, what it calls two of them, and for a setting."""
        self._status = status
        self._idle = idle
        self._in_error = in_error
        self._setting = setting

    def cannot_write(self, connection: Any, counts_default: bool) -> bool:
        """Look at two settings of which the server tells each change."""
        is_read_only = counts_default and self._setting(connection, "default_transaction_read_only") == "on"
        return is_read_only or self._setting(connection, "in_hot_standby") == "on"

    def is_in_transaction(self, connection: Any) -> bool:
        """Ask the driver."""
        return self._status(connection) != self._idle

    def fails(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """Keep the error that has doomed the transaction, for it is the one to name."""
        if sqlstate(error) != self._IN_FAILED_TRANSACTION:
            traces_of(connection).error = error

    def is_over(self, connection: Any, left: Traces) -> bool:  # noqa: ARG002
        """Ask the driver, for a rollback to a savepoint heals the transaction."""
        return self._status(connection) == self._in_error


class Pg8000(PostgreSQL):
    """pg8000, which refuses the COMMIT of what is lost by itself, but does not say what with."""

    ends_lost_twophase = False  # it sends ROLLBACK PREPARED for what was not prepared

    def __init__(self) -> None:
        """Look at what it goes by itself."""
        super().__init__(
            lambda connection: connection._transaction_status,  # noqa: SLF001
            b"I",
            b"E",
            lambda connection, name: connection.parameter_statuses.get(name),
        )


class MySQL(Driver):
    """PyMySQL and mysqlclient, on MySQL and MariaDB.

    The code of an error is not enough: a deadlock in ``GET_LOCK()`` has that of one in the tables, and rolls nothing
    back. Nor is it enough that the transaction is over: a statement that changes a table commits, also one that fails.
    """

    ends_lost_twophase = False

    _ROLLING_BACK = frozenset({1020, 1180, 1205, 1206, 1213, 1613, 1614})
    """A row that has changed since the snapshot, an error in COMMIT, a lock that was waited for too long (where
    ``innodb_rollback_on_timeout`` is on), too many locks, a deadlock, and two for the branch of a two-phase one."""

    def __init__(self, was_in_transaction: Callable[[Any], bool | None], ask: Callable[[Any], bool]) -> None:
        """Know how a driver's connection is asked.

        Args:
            was_in_transaction: Whether it was in a transaction when the server sent its last answer, which is older
                than an error; None for a driver that does not show that.
            ask: Whether it is in one now, which goes to the server.
        """
        self._was_in_transaction = was_in_transaction
        self._ask = ask

    def is_in_transaction(self, connection: Any) -> bool:
        """Look at the status that was sent last; where it is not shown, the connection is in one."""
        return self._was_in_transaction(connection) is not False

    def fails(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """Find out whether an error that may have rolled back everything has done so."""
        if mysql_code(error) not in self._ROLLING_BACK:
            return
        left = traces_of(connection)
        was = self._was_in_transaction(connection.dbapi_connection)
        if (left.has_written if was is None else was) and self._has_ended(connection):
            left.error, left.is_lost = error, True

    def is_over(self, connection: Any, left: Traces) -> bool:  # noqa: ARG002
        """Say what was found out when the error came; a savepoint heals nothing."""
        return left.is_lost

    def _has_ended(self, connection: PoolProxiedConnection) -> bool:
        is_in_transaction = False  # as the code of the error says, if the server cannot be asked
        with suppress(Exception):
            is_in_transaction = self._ask(connection.dbapi_connection)
        return not is_in_transaction


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


_IDLE, _IN_ERROR = 0, 3
"""libpq's ``PQTRANS_IDLE`` and ``PQTRANS_INERROR``."""

_IN_TRANSACTION = 1
"""The bit of a transaction in the status that MySQL's server sends with its answers."""


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


def _is_in_autocommit(connection: Any) -> bool | None:
    return False if connection.get_autocommit() else None


def _was_told(connection: Any) -> bool | None:
    """Look at the status that was sent last; rows that were returned come without one, so it may be older."""
    if connection.get_autocommit():
        return False
    return bool(connection.server_status & _IN_TRANSACTION) or None


def _ask_pymysql(connection: Any) -> bool:
    connection.ping(reconnect=False)  # the status is that of the last answer, and an error has none
    return bool(connection.server_status & _IN_TRANSACTION)


def _ask_mariadb(connection: Any) -> bool:
    """Ask MariaDB.  MySQL does not know the question, and has another code for a deadlock that rolls nothing back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@in_transaction")
        return bool(cursor.fetchone()[0])


KNOWN: dict[str, Driver] = {
    "mysqldb": MySQL(_is_in_autocommit, _ask_mariadb),
    "pg8000": Pg8000(),
    "psycopg": PostgreSQL(
        lambda connection: connection.pgconn.transaction_status,
        _IDLE,
        _IN_ERROR,
        lambda connection, name: connection.info.parameter_status(name),
    ),
    "psycopg2": PostgreSQL(
        lambda connection: connection.get_transaction_status(),
        _IDLE,
        _IN_ERROR,
        lambda connection, name: connection.get_parameter_status(name),
    ),
    "pymysql": MySQL(_was_told, _ask_pymysql),
    "pysqlite": SQLite(),
}
"""By the name that SQLAlchemy's dialect gives the driver."""
