"""The listeners: what SQLAlchemy tells of sessions, errors and dialects, noted for the request that it belongs to."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from . import _caught, _marks, _sending, _statements, _whose
from ._fault import contained, log_once
from ._labels import error_name
from ._watches import watch_of

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext

    from ._transcript import Transcript


@cache
def listen() -> None:
    """Note which connections requests have, their commits, and errors; from now on, in this process."""
    _caught.listen()
    event.listen(Session, "after_begin", _on_begin)
    event.listen(Session, "after_commit", _on_committed)
    event.listen(Engine, "handle_error", _on_error)


@cache
def listen_to_statements() -> None:
    """Note statements, too; each one in this process pays for it."""
    event.listen(Session, "after_flush", _on_flushed)
    event.listen(Session, "before_flush", _on_flush)
    for name in ("do_execute", "do_execute_no_params", "do_executemany"):
        event.listen(Engine, name, _on_execute)


def _on_begin(session: Session, _transaction: object, connection: Connection) -> None:
    try:
        recording = _whose.of_session(session)
        if recording is None:
            watch_of(connection.engine).hold_of(connection)
        else:
            _marks.take_over(connection, recording)
    except Exception:
        log_once(_on_begin)


@contained
def _on_error(context: ExceptionContext) -> None:
    connection = context.connection
    recording = _marks.recording_of(connection)
    if recording is None:
        return
    name = error_name(context.sqlalchemy_exception or context.original_exception)
    recording.note_error(name)
    if context.statement is not None and connection is not None:
        execution = context.execution_context
        _statements.note_error(recording, connection, context.statement, context.parameters, execution, name)


def _on_execute(*of_the_event: Any) -> None:
    """Hear a dialect from its first statement on; what it sends is not touched."""
    try:
        _sending.hear(of_the_event[-1].dialect)
    except Exception:
        log_once(_on_execute)


@contained
def _on_committed(session: Session) -> None:
    recording = _whose.of_session(session)
    if recording is not None and not session.in_nested_transaction():  # else it is a savepoint
        recording.commit(session)


@contained
def _on_flush(session: Session, *_of_the_event: object) -> None:
    if (transcript := _transcript_of_session(session)) is not None:
        transcript.begin_flush()


@contained
def _on_flushed(session: Session, _flush_context: object) -> None:
    if (transcript := _transcript_of_session(session)) is not None:
        transcript.end_flush()


def _transcript_of_session(session: Session) -> Transcript | None:
    recording = _whose.of_session(session)
    return None if recording is None else recording.transcript
