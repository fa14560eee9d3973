"""An attempt: what the databases have done while one ran, and so whether it may be repeated."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event

from . import _transaction

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext


class Attempt:
    """What the databases have done in one attempt.  Lives as long as the attempt."""

    __slots__ = ("_before_commit", "is_committed", "last_error", "outer")

    is_committed: bool
    """Whether anything was committed, or may have been: the connection was lost in COMMIT, or was in AUTOCOMMIT."""

    last_error: BaseException | None
    """The driver's error, if it was the last thing that a database did: nothing has succeeded after it."""

    outer: Attempt | None
    """The attempt around this one: what is committed in this one is committed in that."""

    def __init__(self, outer: Attempt | None = None) -> None:
        """Begin with nothing done."""
        self._before_commit = False
        self.is_committed = False
        self.last_error = None
        self.outer = outer

    @property
    def obstacle(self) -> str | None:
        """Why this attempt must not be repeated, or None."""
        return "something was committed, or may have been" if self.is_committed else None

    def commits(self) -> None:
        """Note that COMMIT is sent: it counts, unless the database says that it has failed."""
        self._before_commit, self.is_committed = self.is_committed, True

    def fails(self, context: ExceptionContext) -> None:
        """Note an error of a database.  One that nobody can tell from a success does not undo `commits`."""
        if _transaction.is_failed_commit(context) and isinstance(context.original_exception, Exception):
            self.is_committed = self._before_commit
        self.last_error = context.original_exception

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
    event.listen(Engine, "commit", _on_commit)
    event.listen(Engine, "commit_twophase", _on_commit)
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
    if _current.get() is not None and _transaction.is_autocommit(connection):
        _on_commit()


def _on_commit(*_of_the_event: Any) -> None:
    for attempt in _attempts():
        attempt.commits()


def _on_error(context: ExceptionContext) -> None:
    for attempt in _attempts():
        attempt.fails(context)


def _on_success(*_of_the_event: Any) -> None:
    for attempt in _attempts():
        attempt.goes_on()
