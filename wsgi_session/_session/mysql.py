"""MySQL's and MariaDB's drivers: PyMySQL and mysqlclient."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .codes import mysql_code
from .driver import Driver
from .traces import traces_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.pool import PoolProxiedConnection

    from .traces import Traces


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


_IN_TRANSACTION = 1
"""The bit of a transaction in the status that MySQL's server sends with its answers."""


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


MYSQLCLIENT = MySQL(_is_in_autocommit, _ask_mariadb)
PYMYSQL = MySQL(_was_told, _ask_pymysql)
