"""An attempt: what the databases have done while one ran, and so whether it may be repeated."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.orm import Session, SessionTransaction

from .. import callbacks
from .._session import engines, pools, traces
from .._sql import texts
from ..errors import TransactionLostError
from ._conflict import is_echo

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.exc import TimeoutError as PoolTimeoutError


class Attempt:
    """What the databases have done in one attempt.  Lives as long as the attempt."""

    __slots__ = (
        "_absorbed",
        "_committing",
        "_saved",
        "has_lost_connection",
        "is_committed",
        "last_engine",
        "last_error",
        "outer",
        "ran_dry",
        "undone_by",
    )

    has_lost_connection: bool
    """Whether `last_error` is that of a connection that is gone, or could not be made."""

    is_committed: bool
    """Whether anything was committed, or may have been: the connection was lost in COMMIT, or was in AUTOCOMMIT."""

    last_engine: Engine | None
    """The engine that `last_error` has come from."""

    last_error: BaseException | None
    """The last error of a database that no savepoint has absorbed, as SQLAlchemy raises it."""

    outer: Attempt | None
    """The attempt around this one: what is committed in this one is committed in that."""

    ran_dry: PoolTimeoutError | None
    """The error of a pool that had no connection left."""

    undone_by: BaseException | None
    """What a session was rolled back for, such as a `StaleDataError`: an error in a flush, or in an ``except``."""

    def __init__(self, outer: Attempt | None = None) -> None:
        """Begin with nothing done."""
        self._absorbed: BaseException | None = None
        self._committing: tuple[Connection, bool] | None = None
        self._saved: set[Connection] = set()
        self.has_lost_connection = False
        self.is_committed = False
        self.last_engine = None
        self.last_error = None
        self.outer = outer
        self.ran_dry = None
        self.undone_by = None

    @property
    def obstacle(self) -> str | None:
        """Why this attempt must not be repeated, or None."""
        return "something was committed, or may have been" if self.is_committed else None

    def goes_on(self) -> None:
        """Note that a transaction begins, or that one is rolled back: the COMMIT before it, if any, has succeeded."""
        self._committing = None
        self.ran_dry = None

    def begins(self, connection: Connection) -> None:
        """Note that a transaction begins."""
        self.goes_on()
        if engines.is_autocommit(connection) and not engines.cannot_write(connection):
            self.is_committed = True

    def commits(self, connection: Connection) -> None:
        """Note that COMMIT is sent: it counts, unless the database says that it has failed, or cannot write at all."""
        if engines.cannot_write(connection):
            return
        self._committing = (connection, self.is_committed)
        self.is_committed = True

    def saves(self, connection: Connection) -> None:
        """Note a savepoint.  Without a BEGIN before it, as the driver of SQLite has it, its release is a COMMIT."""
        if not engines.of_driver(connection, "in_transaction", default=True):
            self._saved.add(connection)

    def releases(self, connection: Connection) -> None:
        """Note that a savepoint is released."""
        if connection in self._saved:
            self.commits(connection)

    def absorbs(self) -> None:
        """Note that there is to be a rollback to a savepoint, which absorbs an error unless it fails itself.

        Where the connection is lost there is none: SQLAlchemy leaves it out.
        """
        if not self.has_lost_connection:
            self._absorbed, self.last_error = self.last_error, None

    def fails(self, context: ExceptionContext) -> None:
        """Note an error of a database.  One that nobody can tell from a success does not undo `commits`."""
        if context.is_pre_ping:  # the pool makes another connection
            return
        error = context.sqlalchemy_exception or context.original_exception
        is_lost = context.is_disconnect or context.connection is None
        if is_lost or not is_echo(error):
            self.has_lost_connection = is_lost
        else:
            error = self.last_error or self._absorbed or error
        self.last_engine = context.engine
        self.last_error = error
        if context.is_disconnect and texts.is_commit(context.statement or "", context.dialect.name):
            self.is_committed = True
        if self._committing is None or self._committing[0] is not context.connection:
            return
        if _is_failed_commit(context):
            self.is_committed = self._committing[1]
        self._committing = None

    def is_undone(self, transaction: SessionTransaction, error: BaseException | None) -> None:
        """Note that a session was rolled back while *error* was handled; a savepoint has absorbed it."""
        if transaction.nested:
            self.undone_by = None
        elif error is not None:
            self.undone_by = error

    def errors(self) -> Iterator[BaseException]:
        """Yield the errors that may have ended the attempt, also where a framework has made a response of one."""
        for error in (self.last_error, self.undone_by):
            if error is not None:
                yield error

    def end(self) -> None:
        """Forget the errors: what raised them refers to this attempt."""
        self._absorbed = self.last_error = self.ran_dry = self.undone_by = None


_current: ContextVar[Attempt | None] = ContextVar("wsgi_session.attempt", default=None)


@contextmanager
def observed() -> Generator[Attempt]:
    """Make an attempt the current one, and yield it."""
    attempt = Attempt(_current.get())
    token = _current.set(attempt)
    try:
        yield attempt
    finally:
        _current.reset(token)
        attempt.end()


@cache
def listen() -> None:
    """Observe all engines of this process, from now on."""
    event.listen(Engine, "begin", _on_begin)
    event.listen(Engine, "rollback", _on_rollback)
    event.listen(Engine, "commit", _on_commit)
    event.listen(Engine, "commit_twophase", _on_commit)
    event.listen(Engine, "savepoint", _on_savepoint)
    event.listen(Engine, "release_savepoint", _on_release)
    event.listen(Engine, "rollback_savepoint", _on_savepoint_rollback)
    event.listen(Engine, "handle_error", _on_error)
    event.listen(Session, "after_soft_rollback", _on_soft_rollback)
    pools.on_dry.append(_on_dry)
    traces.on_own_commit.append(_on_own_commit)
    callbacks.on_run.append(_on_callback)


def _attempts() -> Iterator[Attempt]:
    attempt = _current.get()
    while attempt is not None:
        yield attempt
        attempt = attempt.outer


def _on_begin(connection: Connection) -> None:
    for attempt in _attempts():
        attempt.begins(connection)


def _on_rollback(_connection: Connection) -> None:
    for attempt in _attempts():
        attempt.goes_on()


def _on_commit(connection: Connection, *_of_two_phases: object) -> None:
    for attempt in _attempts():
        attempt.commits(connection)


def _on_own_commit(_connection: Connection) -> None:
    for attempt in _attempts():
        attempt.is_committed = True


def _on_callback(_callback: object) -> None:
    """Note that a callback of `on_commit` has run: what it has done cannot be undone, and is not to be done twice."""
    for attempt in _attempts():
        attempt.is_committed = True


def _on_savepoint(connection: Connection, _name: object) -> None:
    for attempt in _attempts():
        attempt.saves(connection)


def _on_release(connection: Connection, *_which: object) -> None:
    for attempt in _attempts():
        attempt.releases(connection)


def _on_savepoint_rollback(*_of_the_event: object) -> None:
    for attempt in _attempts():
        attempt.absorbs()


def _on_error(context: ExceptionContext) -> None:
    for attempt in _attempts():
        attempt.fails(context)


def _on_soft_rollback(_session: Session, previous_transaction: SessionTransaction) -> None:
    for attempt in _attempts():
        attempt.is_undone(previous_transaction, sys.exc_info()[1])


def _on_dry(error: PoolTimeoutError) -> None:
    for attempt in _attempts():
        attempt.ran_dry = error


def _is_failed_commit(context: ExceptionContext) -> bool:
    """Say whether an error is that of a COMMIT, and the connection has outlived it.

    An error while rows are fetched has no statement, either, but a context; it ends no transaction. What is neither
    the driver's nor ours has struck from outside, as a timeout by a signal does: nobody knows what became of COMMIT.
    SQLAlchemy sends none on a connection that was lost before.
    """
    if context.statement is not None or context.execution_context is not None or context.is_disconnect:
        return False
    refusals = (context.dialect.loaded_dbapi.Error, PendingRollbackError, TransactionLostError)
    return isinstance(context.original_exception, refusals)
