"""PostgreSQL's drivers: psycopg, psycopg2 and pg8000."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .codes import sqlstate
from .driver import Driver
from .traces import traces_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.pool import PoolProxiedConnection

    from .traces import Traces


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


_IDLE, _IN_ERROR = 0, 3
"""libpq's ``PQTRANS_IDLE`` and ``PQTRANS_INERROR``."""


PSYCOPG = PostgreSQL(
    lambda connection: connection.pgconn.transaction_status,
    _IDLE,
    _IN_ERROR,
    lambda connection, name: connection.info.parameter_status(name),
)
PSYCOPG2 = PostgreSQL(
    lambda connection: connection.get_transaction_status(),
    _IDLE,
    _IN_ERROR,
    lambda connection, name: connection.get_parameter_status(name),
)
