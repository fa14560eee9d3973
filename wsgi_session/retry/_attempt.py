"""An attempt: what the databases have done while one ran, and so whether it may be repeated."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event

from .._session import engines

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext


class Attempt:
    """What the databases have done in one attempt.  Lives as long as the attempt."""

    __slots__ = ("_committing", "_saved", "is_committed", "last_error", "outer")

    is_committed: bool
    """Whether anything was committed, or may have been: the connection was lost in COMMIT, or was in AUTOCOMMIT."""

    last_error: BaseException | None
    """The driver's error, if it was the last thing that a database did: nothing has succeeded after it."""

    outer: Attempt | None
    """The attempt around this one: what is committed in this one is committed in that."""

    def __init__(self, outer: Attempt | None = None) -> None:
        """Begin with nothing done."""
        self._committing: tuple[Connection, bool] | None = None
        self._saved: set[Connection] = set()
        self.is_committed = False
        self.last_error = None
        self.outer = outer

    @property
    def obstacle(self) -> str | None:
        """Why this attempt must not be repeated, or None."""
        return "something was committed, or may have been" if self.is_committed else None

    def begins(self, connection: Connection) -> None:
        """Note that a transaction begins, or that one is rolled back: the COMMIT before it, if any, has succeeded."""
        self._committing = None
        if engines.is_autocommit(connection):
            self.is_committed = True

    def commits(self, connection: Connection) -> None:
        """Note that COMMIT is sent: it counts, unless the database says that it has failed."""
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

    def fails(self, context: ExceptionContext) -> None:
        """Note an error of a database.  One that nobody can tell from a success does not undo `commits`."""
        self.last_error = context.original_exception
        if self._committing is None or self._committing[0] is not context.connection:
            return
        if _is_failed_commit(context) and isinstance(context.original_exception, Exception):
            self.is_committed = self._committing[1]
        self._committing = None

    def goes_on(self) -> None:
        """Note that a statement has succeeded, or that a savepoint has absorbed an error."""
        self.last_error = None


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


@cache
def listen() -> None:
    """Observe all engines of this process, from now on."""
    event.listen(Engine, "begin", _on_begin)
    event.listen(Engine, "rollback", _on_begin)
    event.listen(Engine, "commit", _on_commit)
    event.listen(Engine, "commit_twophase", _on_commit)
    event.listen(Engine, "savepoint", _on_savepoint)
    event.listen(Engine, "release_savepoint", _on_release)
    event.listen(Engine, "handle_error", _on_error)


@cache
def listen_to_statements() -> None:
    """Observe what succeeds, too; each statement pays for it."""
    event.listen(Engine, "after_cursor_execute", _on_success)
    event.listen(Engine, "rollback_savepoint", _on_success)


def _attempts() -> Iterator[Attempt]:
    attempt = _current.get()
    while attempt is not None:
        yield attempt
        attempt = attempt.outer


def _on_begin(connection: Connection) -> None:
    for attempt in _attempts():
        attempt.begins(connection)


def _on_commit(connection: Connection, *_of_two_phases: object) -> None:
    for attempt in _attempts():
        attempt.commits(connection)


def _on_savepoint(connection: Connection, _name: object) -> None:
    for attempt in _attempts():
        attempt.saves(connection)


def _on_release(connection: Connection, *_which: object) -> None:
    for attempt in _attempts():
        attempt.releases(connection)


def _on_error(context: ExceptionContext) -> None:
    for attempt in _attempts():
        attempt.fails(context)


def _is_failed_commit(context: ExceptionContext) -> bool:
    """Say whether an error is that of a COMMIT, and the connection has outlived it.

    An error while rows are fetched has no statement, either, but a context; it ends no transaction.
    """
    return context.statement is None and context.execution_context is None and not context.is_disconnect


def _on_success(*_of_the_event: object) -> None:
    for attempt in _attempts():
        attempt.goes_on()
