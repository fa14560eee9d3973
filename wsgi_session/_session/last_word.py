"""The last word: whether the database can still commit what the application thinks it commits.

PostgreSQL answers the COMMIT of a transaction in which a statement has failed with ROLLBACK. MySQL and MariaDB roll
back everything on a deadlock, SQLite on ``OR ROLLBACK`` and on some errors of its own, and the next statement begins
anew. No driver says so at COMMIT. If the error was handled, the application goes on, and the client would be told of a
success.

So COMMIT and PREPARE TRANSACTION look at the traces of the transaction first, if it has left any, and ask the driver
where that knows: PostgreSQL's do, and SQLite's where BEGIN was sent. Elsewhere the error is judged when it comes, in
the dialect's ``is_disconnect()``, which SQLAlchemy calls for each error of a driver and for nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.pool import PoolProxiedConnection

from .._log import log
from ..errors import TransactionLostError
from . import contexts, drivers, traces
from .codes import name_of, sqlstate
from .postgresql import PostgreSQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from .driver import Driver
    from .traces import Traces

_ROLLED_BACK = "40"
"""SQL's class of the errors with which a transaction is rolled back, so that it is to be repeated."""

_KEY = "_wsgi_session_last_word"
"""The attribute of a dialect that is its `LastWord`."""


class CommitOfWrites(Protocol):
    """What commits in place of the dialect where something was written."""

    def commit(self, connection: PoolProxiedConnection, commit: Callable[[PoolProxiedConnection], None]) -> None:
        """Do as *commit*, which is the dialect's, does."""
        ...

    def has_committed(self, connection: PoolProxiedConnection) -> None:
        """Be told of a commit in two phases."""
        ...


def give_to(dialect: Any) -> None:
    """Have *dialect* ask before it commits, if its driver is one of those that are known."""
    driver = drivers.KNOWN.get(dialect.driver)
    if driver is not None and not dialect.is_async:
        contexts.give_to(dialect)
        setattr(dialect, _KEY, LastWord(dialect, driver))


def of(dialect: Any) -> LastWord | None:
    """Return what was given to *dialect*; None if its driver is not known."""
    word: LastWord | None = getattr(dialect, _KEY, None)
    return word


def is_failed(connection: Connection) -> bool:
    """Say whether *connection* is PostgreSQL's, in a transaction that has failed: only a rollback is let in."""
    driver = drivers.KNOWN.get(connection.dialect.driver)
    left = traces.look_at(connection.connection)
    return (
        isinstance(driver, PostgreSQL)
        and left is not None
        and driver.is_over(connection.connection.dbapi_connection, left)
    )


class LastWord:
    """What a dialect does where a transaction begins, fails and ends.  Lives as long as the dialect."""

    note_begin: Callable[[PoolProxiedConnection], None]
    """The driver's: notes whether a BEGIN was sent."""

    def __init__(self, dialect: Any, driver: Driver) -> None:
        """Take the place of the methods of *dialect*, and call them."""
        self._driver = driver
        self.note_begin = driver.note_begin
        self._begin = dialect.do_begin
        self._commit = dialect.do_commit
        self._commit_twophase = dialect.do_commit_twophase
        self._is_disconnect = dialect.is_disconnect
        self._prepare_twophase = dialect.do_prepare_twophase
        self._rollback = dialect.do_rollback
        self._rollback_to_savepoint = dialect.do_rollback_to_savepoint
        self._savepoint = dialect.do_savepoint
        self._of_writes: CommitOfWrites | None = None
        if driver.waits_with_begin:
            dialect.do_begin = self.do_begin
        dialect.do_commit = self.do_commit
        dialect.do_commit_twophase = self.do_commit_twophase
        dialect.do_prepare_twophase = self.do_prepare_twophase
        dialect.do_rollback = self.do_rollback
        dialect.do_rollback_to_savepoint = self.do_rollback_to_savepoint
        dialect.do_savepoint = self.do_savepoint
        dialect.is_disconnect = self.is_disconnect

    @property
    def of_writes(self) -> CommitOfWrites | None:
        """What commits where something was written, if it is not the dialect."""
        return self._of_writes

    def commit_writes_by(self, of_writes: CommitOfWrites) -> None:
        """Have what was written committed by *of_writes*, from now on."""
        self._of_writes = of_writes

    def is_in_transaction(self, connection: PoolProxiedConnection) -> bool:
        """Say whether *connection* is in a transaction, as far as its driver knows."""
        return self._driver.is_in_transaction(connection.dbapi_connection)

    def is_disconnect(self, error: Any, connection: Any, cursor: Any) -> bool:
        """Note an error, unless the connection is gone with it."""
        is_gone: bool = self._is_disconnect(error, connection, cursor)
        if not is_gone and isinstance(connection, PoolProxiedConnection):  # else it is a ping's
            self._driver.fails(connection, error)
        return is_gone

    def do_begin(self, connection: PoolProxiedConnection) -> None:
        """Begin, and note whether a BEGIN was sent."""
        self._begin(connection)
        self.note_begin(connection)

    def do_commit(self, connection: PoolProxiedConnection) -> None:
        """Commit, if there is anything to commit that was not lost.

        Raises:
            TransactionLostError: If something was; everything is rolled back then.
        """
        left = traces.look_at(connection)
        if left is None:
            self._commit(connection)
            return
        is_over = self._is_over(connection, left)
        if left.cursors:
            contexts.warn_of_rows(connection, left)
        traces.forget(connection)
        if is_over:
            self._roll_back(connection)
            if may_have_lost(left):
                raise _lost(left) from left.error
        elif left.has_written and self._of_writes is not None:
            self._of_writes.commit(connection, self._commit)
        else:
            self._commit(connection)

    def do_rollback(self, connection: PoolProxiedConnection) -> None:
        """Roll back, which heals everything."""
        traces.forget(connection)
        self._rollback(connection)

    def do_savepoint(self, connection: Connection, name: str) -> None:
        """Begin a savepoint, and note whether something had been written before it."""
        left = traces.look_at(connection.connection)
        if left is not None and left.has_written:
            left.written_before = (*left.written_before, name)
        self._savepoint(connection, name)

    def do_rollback_to_savepoint(self, connection: Connection, name: str) -> None:
        """Roll back to a savepoint, and forget what was written in it."""
        self._rollback_to_savepoint(connection, name)
        left = traces.look_at(connection.connection)
        if left is not None and name not in left.written_before:
            left.has_written = False

    def do_prepare_twophase(self, connection: Connection, xid: Any) -> None:
        """Prepare, if nothing was lost.

        Raises:
            TransactionLostError: If something was.
        """
        self.refuse(connection)
        self._prepare_twophase(connection, xid)

    def do_commit_twophase(
        self, connection: Connection, xid: Any, is_prepared: bool = True, recover: bool = False
    ) -> None:
        """Commit, if nothing was lost of what has not been prepared.

        Raises:
            TransactionLostError: If something was.
        """
        if not is_prepared:
            self.refuse(connection)
        left = traces.look_at(connection.connection)
        self._commit_twophase(connection, xid, is_prepared, recover)
        if left is not None and left.has_written and self._of_writes is not None:
            self._of_writes.has_committed(connection.connection)

    def refuse(self, connection: Connection) -> None:
        """Raise an error if the transaction on *connection* cannot be prepared to commit.

        Raises:
            TransactionLostError: If that is so, also where nothing may have been lost: the preparation would fail.
        """
        left = self._over(connection)
        if left is None:
            return
        traces.forget(connection.connection)
        if not self._driver.ends_lost_twophase:
            connection.invalidate()
        raise _lost(left) from left.error

    def comes_to_nothing(self, connection: Connection) -> bool:
        """Say whether a COMMIT on *connection* would be a rollback by which nothing is lost.

        Raises:
            TransactionLostError: If something would be.
        """
        left = self._over(connection)
        if left is None:
            return False
        if may_have_lost(left):
            raise _lost(left) from left.error
        return True

    def _over(self, connection: Connection) -> Traces | None:
        """Return the traces of a transaction that was ended by the database; None while it goes on."""
        left = traces.look_at(connection.connection)
        return left if left is not None and self._is_over(connection.connection, left) else None

    def _is_over(self, connection: PoolProxiedConnection, left: Traces) -> bool:
        return left.ended_by is not None or self._driver.is_over(connection.dbapi_connection, left)

    def _roll_back(self, connection: PoolProxiedConnection) -> None:
        try:
            self._rollback(connection)
        except Exception:
            log.exception("What the database has ended could not be rolled back; its connection is thrown away.")
            connection.invalidate()


def may_have_lost(left: Traces) -> bool:
    """Say whether a transaction that is over may have lost something: it has written, or somebody waits for it.

    What failed with an error of SQL's class 40 was to be repeated, and so was what had only been read.
    """
    state = left.error and sqlstate(left.error)
    return left.has_written or left.is_lost or left.is_awaited or (state or "").startswith(_ROLLED_BACK)


def _lost(left: Traces) -> TransactionLostError:
    if left.ended_by is not None and left.error is None:
        return TransactionLostError(
            f"The transaction was ended by {left.ended_by!r}, sent as text, and what was written in it is gone;"
            f" SQLAlchemy does not know that. Write 'session.rollback()' instead."
        )
    if left.error is None:
        return TransactionLostError(
            "The transaction has ended before its COMMIT, by an error in the driver's own cursor or past SQLAlchemy."
            " Use 'session.commit()' and 'session.rollback()' alone, and 'with session.begin_nested():' around a"
            " statement that may fail."
        )
    return TransactionLostError(
        f"The database has rolled back the transaction with {name_of(left.error)}, an error that was handled, so it"
        " cannot be committed. Put a statement that may fail into 'with session.begin_nested():', so that its error"
        " undoes nothing else, or do not handle the error."
    )
