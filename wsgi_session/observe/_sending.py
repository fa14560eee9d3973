"""The sending: what a dialect sends to a database, timed.

SQLAlchemy has events for all of this, but they are dear: with one listener to an engine, whatever to, each statement
prepares what all of them would be given. So the methods of the dialect are replaced by which it sends, as those are
documented for who writes a dialect; an event that costs next to nothing tells of a dialect that is not known yet.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from ._fault import contained
from ._marks import last_hold_of, recording_of
from ._statements import note, note_beginning
from ._transcript import Ending

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

_HEARD = "_wsgi_session_heard"
"""The attribute of a dialect that is heard."""

_COMMIT = Connection._commit_impl.__code__  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
_ROLLBACK = Connection._rollback_impl.__code__  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
_FRAMES_OF_ENDING = 4
"""So many functions run from `_connection_that_ends` outwards that belong to this module."""

_MAX_FRAMES_OF_ENDING = 5
"""Among so many beyond them is the one of a `Connection` that ends its transaction."""


def hear(dialect: Any) -> None:
    """Note what *dialect* sends from now on."""
    if not getattr(dialect, _HEARD, False):
        setattr(dialect, _HEARD, True)
        Sending(dialect)


class Sending:
    """What a dialect does where it sends something.  Lives as long as the dialect."""

    __slots__ = (
        "_commit",
        "_commit_twophase",
        "_execute",
        "_execute_no_params",
        "_executemany",
        "_rollback",
        "_rollback_twophase",
    )

    def __init__(self, dialect: Any) -> None:
        """Take the place of the methods of *dialect*, and call them."""
        self._commit = dialect.do_commit
        self._commit_twophase = dialect.do_commit_twophase
        self._execute = dialect.do_execute
        self._execute_no_params = dialect.do_execute_no_params
        self._executemany = dialect.do_executemany
        self._rollback = dialect.do_rollback
        self._rollback_twophase = dialect.do_rollback_twophase
        dialect.do_commit = self.do_commit
        dialect.do_commit_twophase = self.do_commit_twophase
        dialect.do_execute = self.do_execute
        dialect.do_execute_no_params = self.do_execute_no_params
        dialect.do_executemany = self.do_executemany
        dialect.do_rollback = self.do_rollback
        dialect.do_rollback_twophase = self.do_rollback_twophase

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Send a statement."""
        began = perf_counter()
        try:
            self._execute(cursor, statement, parameters, context)
        except BaseException:
            note_beginning(context, began)
            raise
        note(began, cursor, statement, parameters, context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        """Send a statement to a driver that is not to look for parameters in it."""
        began = perf_counter()
        try:
            self._execute_no_params(cursor, statement, context)
        except BaseException:
            note_beginning(context, began)
            raise
        note(began, cursor, statement, (), context)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Send a statement for many rows."""
        began = perf_counter()
        try:
            self._executemany(cursor, statement, parameters, context)
        except BaseException:
            note_beginning(context, began)
            raise
        note(began, cursor, statement, parameters, context)

    def do_commit(self, connection: PoolProxiedConnection) -> None:
        """Send a COMMIT."""
        began = perf_counter()
        try:
            self._commit(connection)
        finally:
            _note_ending(began, "commit")

    def do_rollback(self, connection: PoolProxiedConnection) -> None:
        """Send a ROLLBACK."""
        began = perf_counter()
        try:
            self._rollback(connection)
        finally:
            _note_ending(began, "rollback")

    def do_commit_twophase(self, connection: Connection, *args: Any, **kwargs: Any) -> None:
        """Commit in two phases, by statements that have their own times."""
        _note_twophase(connection, "commit")
        self._commit_twophase(connection, *args, **kwargs)

    def do_rollback_twophase(self, connection: Connection, *args: Any, **kwargs: Any) -> None:
        """Roll back what was to be committed in two phases, by statements that have their own times."""
        _note_twophase(connection, "rollback")
        self._rollback_twophase(connection, *args, **kwargs)


@contained
def _note_ending(began: float, kind: str) -> None:
    """Note a COMMIT or ROLLBACK; not what the pool sends on a connection that has none of its own to end."""
    now = perf_counter()
    connection = _connection_that_ends()
    if connection is not None:
        _note_end(connection, began, now - began, kind)


@contained
def _note_twophase(connection: Connection, kind: str) -> None:
    _note_end(connection, perf_counter(), 0.0, kind)


def _note_end(connection: Connection, began: float, duration: float, kind: str) -> None:
    recording = recording_of(connection)
    transcript = None if recording is None else recording.transcript
    hold = last_hold_of(connection)
    if recording is not None and transcript is not None and hold is not None:
        transcript.end(Ending(kind, began, duration, hold.engine, recording.line_of_ending()), hold)


def _connection_that_ends() -> Connection | None:
    """Return the connection that ends its transaction; None if something else has called the dialect.

    What the dialect is given is not the `Connection`, and the pool calls it, too.
    """
    with suppress(ValueError):  # there may not be so many frames
        for depth in range(_FRAMES_OF_ENDING, _FRAMES_OF_ENDING + _MAX_FRAMES_OF_ENDING):
            frame = sys._getframe(depth)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            if frame.f_code is _COMMIT or frame.f_code is _ROLLBACK:  # two that are not the same take long to compare
                connection: Connection = frame.f_locals["self"]
                return connection
    return None
