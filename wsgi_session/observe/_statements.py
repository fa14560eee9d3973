"""The statements: each is noted for the request that its connection belongs to."""

from __future__ import annotations

import sys
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import ExecuteStyle

from .._session import engines
from . import _whose
from ._fault import log_once
from ._loads import load_of
from ._marks import MARK, UNMARKED, last_hold_of
from ._shapes import HARMLESS, shape_of
from ._transcript import Sent
from ._values import Values

if TYPE_CHECKING:
    from ._marks import Mark
    from ._recording import Recording

_BEGAN = "_wsgi_session_began"
"""The attribute of an execution context that has failed, which says when the statement was sent."""

_EXECUTE = Connection.execute.__code__
_STYLES_OF_MANY = (ExecuteStyle.EXECUTEMANY, ExecuteStyle.INSERTMANYVALUES)

_FRAMES_OF_SENDING = 4
"""So many functions run from `note` outwards that belong to this module, and to SQLAlchemy where that sends."""

_FRAMES_OF_EXECUTE = 7
"""The same with `Connection.execute`, where the statement has come through that."""


def note_error(
    recording: Recording, connection: Connection, statement: str, parameters: Any, context: Any, error: str
) -> None:
    """Note a statement that has failed with an *error*, by the name of that."""
    transcript, hold = recording.transcript, last_hold_of(connection)
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


def note(began: float, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    """Note a statement that has succeeded.

    All of it is in this one function, for it is what each statement costs.
    """
    ended = perf_counter()
    try:
        connection = context.root_connection
        mark: Mark = getattr(connection, MARK, UNMARKED)
        recording, hold = mark
        if (hold is None or hold.is_over) and (hold := last_hold_of(connection)) is None:
            return
        if recording is None or not recording.is_open:
            recording = _whose.current()
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
        log_once(note)


def _depth() -> int:
    """Say how many functions from `Callers.line` outwards, if `note` calls that, are not the application's."""
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


def note_beginning(context: Any, began: float) -> None:
    """Leave to who is told of the error when the statement was sent."""
    with suppress(AttributeError):  # there may be no context
        setattr(context, _BEGAN, began)
