"""The sending: what a dialect sends to a database, timed, and noted for the request that it belongs to.

A connection belongs to the request of the session that has begun on it last; one that no session has used belongs to
the request that the code runs in. So neither bodies that a server interleaves nor its threads are mixed up.

SQLAlchemy has events for all of this, but they are dear: with one listener to an engine, whatever to, each statement
prepares what all of them would be given. So the methods of the dialect are replaced by which it sends, as those are
documented for who writes a dialect; an event that costs next to nothing tells of a dialect that is not known yet.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import ExecuteStyle
from sqlalchemy.pool.base import _AdhocProxiedConnection  # pyright: ignore[reportPrivateUsage]

from .._session import engines
from . import _recording
from ._fault import contained, log_once
from ._loads import load_of
from ._pools import watch_of
from ._shapes import HARMLESS, shape_of
from ._transcript import Ending, Sent
from ._values import Values

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

    from ._holds import Hold
    from ._recording import Recording

    Mark: TypeAlias = tuple[Recording | None, Hold | None]

_BEGAN = "_wsgi_session_began"
"""The attribute of an execution context that has failed, which says when the statement was sent."""

_HEARD = "_wsgi_session_heard"
"""The attribute of a dialect that is heard."""

_MARK = "_wsgi_session_mark"
"""The attribute of a `Connection` that is the recording of the session that has begun on it last, and its hold."""

_EXECUTE = Connection.execute.__code__
_UNMARKED: Mark = (None, None)
_STYLES_OF_MANY = (ExecuteStyle.EXECUTEMANY, ExecuteStyle.INSERTMANYVALUES)

_FRAMES_OF_SENDING = 4
"""So many functions run from `_note` outwards that belong to this module, and to SQLAlchemy where that sends."""

_FRAMES_OF_EXECUTE = 7
"""The same with `Connection.execute`, where the statement has come through that."""

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


def take_over(connection: Connection, recording: Recording) -> None:
    """Note that *connection* is a session's whose request is recorded by *recording*."""
    hold = watch_of(connection.engine).hold_of(connection)
    setattr(connection, _MARK, (recording, hold))
    if hold.request is not recording:
        recording.take(hold)


def recording_of(connection: Connection | None) -> Recording | None:
    """Return the recording of the request that *connection* belongs to."""
    mark: Mark = getattr(connection, _MARK, _UNMARKED)
    return mark[0] if mark[0] is not None and mark[0].is_open else _recording.current()


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
            _note_beginning(context, began)
            raise
        _note(began, cursor, statement, parameters, context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        """Send a statement to a driver that is not to look for parameters in it."""
        began = perf_counter()
        try:
            self._execute_no_params(cursor, statement, context)
        except BaseException:
            _note_beginning(context, began)
            raise
        _note(began, cursor, statement, (), context)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Send a statement for many rows."""
        began = perf_counter()
        try:
            self._executemany(cursor, statement, parameters, context)
        except BaseException:
            _note_beginning(context, began)
            raise
        _note(began, cursor, statement, parameters, context)

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


def note_error(
    recording: Recording, connection: Connection, statement: str, parameters: Any, context: Any, error: str
) -> None:
    """Note a statement that has failed with an *error*, by the name of that."""
    transcript, hold = recording.transcript, _hold_of(connection)
    if transcript is None or hold is None:
        return
    now = perf_counter()
    began: float = getattr(context, _BEGAN, now)
    shape = shape_of(statement, connection.dialect.name)
    hold.is_used = True
    sent = Sent(
        began,
        now - began,
        hold.engine,
        shape.kind,
        shape.sql,
        None,
        recording.callers.line(),
        None if context is None else load_of(context),
        transcript.flush,
        context is not None and context.execute_style in _STYLES_OF_MANY,
        _hash_of(statement, parameters),
        error,
        None if hold.is_over else hold.since,
    )
    transcript.add(sent)
    if recording.keeps_values:
        transcript.keep_values(Values(statement, parameters, connection.engine))


def _note(began: float, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    """Note a statement that has succeeded.

    All of it is in this one function, for it is what each statement costs.
    """
    ended = perf_counter()
    try:
        connection = context.root_connection
        mark: Mark = getattr(connection, _MARK, _UNMARKED)
        recording, hold = mark
        if (hold is None or hold.is_over) and (hold := _hold_of(connection)) is None:
            return
        if recording is None or not recording.is_open:
            recording = _recording.current()
        if recording is None or (transcript := recording.transcript) is None:
            return
        hold.is_used = True
        shape = shape_of(statement, context.dialect.name)
        rowcount = cursor.rowcount  # of a SELECT most drivers do not know it before the rows are read
        sent = Sent(
            began,
            ended - began,
            hold.engine,
            shape.kind,
            shape.sql,
            rowcount if type(rowcount) is int and rowcount >= 0 else None,
            recording.callers.line(_depth()),
            load_of(context),
            transcript.flush,
            context.execute_style in _STYLES_OF_MANY,
            _hash_of(statement, parameters),
            None,
            None if hold.is_over else hold.since,
        )
        transcript.add(sent)
        if recording.keeps_values:
            transcript.keep_values(Values(statement, parameters, connection.engine))
        if shape.kind not in HARMLESS and not engines.is_autocommit(connection):
            transcript.write(sent, hold)
    except Exception:
        log_once(_note)


def _hold_of(connection: Connection) -> Hold | None:
    """Return the hold of a *connection*, or the last one that it had.

    Returns:
        The hold; None for a connection that has none, and that of a dialect which gets ready for its first one.
    """
    mark: Mark = getattr(connection, _MARK, _UNMARKED)
    recording, known = mark
    if known is not None and not known.is_over:
        return known
    if connection.closed or connection.invalidated or isinstance(connection.connection, _AdhocProxiedConnection):
        return known
    watch = watch_of(connection.engine)
    hold = (watch.hold_of(connection) if known is None else watch.known_hold_of(connection)) or known
    setattr(connection, _MARK, (recording, hold))
    return hold


def _depth() -> int:
    """Say how many functions from `Callers.line` outwards, if `_note` calls that, are not the application's."""
    try:
        frame = sys._getframe(_FRAMES_OF_EXECUTE)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    except ValueError:  # there are not so many
        return _FRAMES_OF_SENDING + 1
    return (_FRAMES_OF_EXECUTE if frame.f_code is _EXECUTE else _FRAMES_OF_SENDING) + 1


def _hash_of(statement: str, parameters: Any) -> int:
    """Return what tells the same values of the same statement from others."""
    try:
        if type(parameters) is dict:
            return hash((statement, *parameters.items()))
        return hash((statement, parameters))
    except TypeError:  # lists in them, or a list of them
        return hash((statement, repr(parameters)))


def _note_beginning(context: Any, began: float) -> None:
    """Leave to who is told of the error when the statement was sent."""
    with suppress(AttributeError):  # there may be no context
        setattr(context, _BEGAN, began)


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
    hold = _hold_of(connection)
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
