"""The listeners: what SQLAlchemy tells of statements and sessions, noted for the request that it belongs to.

A connection belongs to the request of the session that has begun on it last; one that no session has used belongs to
the request that the code runs in. So neither bodies that a server interleaves nor its threads are mixed up.
"""

from __future__ import annotations

from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from .._session import engines
from . import _caught, _recording
from ._fault import contained
from ._loads import load_of
from ._pools import watch_of
from ._record import Statement
from ._shapes import HARMLESS, shape_of

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.orm import ORMExecuteState

    from ._pools import PoolWatch
    from ._recording import Recording
    from ._transcript import Transcript

LOAD = "wsgi_session.load"
"""The execution option under which a SELECT of the ORM carries what it is for."""

_BEGAN = "_wsgi_session_began"
"""The attribute of an execution context that says when the statement was sent."""

_of_connections: WeakKeyDictionary[Connection, Recording] = WeakKeyDictionary()


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
    event.listen(Session, "do_orm_execute", _on_orm_execute)
    event.listen(Engine, "after_cursor_execute", _on_executed)
    event.listen(Engine, "before_cursor_execute", _on_execute)
    event.listen(Engine, "commit", _on_commit)
    event.listen(Engine, "commit_twophase", _on_commit)
    event.listen(Engine, "engine_connect", _on_connection)
    event.listen(Engine, "rollback", _on_rollback)
    event.listen(Engine, "rollback_twophase", _on_rollback)


def recording_of(connection: Connection | None) -> Recording | None:
    """Return the recording of the request that *connection* belongs to."""
    recording = None if connection is None else _of_connections.get(connection)
    return recording if recording is not None and recording.is_open else _recording.current()


@contained
def _on_begin(session: Session, _transaction: object, connection: Connection) -> None:
    watch = watch_of(connection.engine)
    recording = _recording.of_session(session)
    if recording is not None:
        _of_connections[connection] = recording
        recording.take(watch.hold_of(connection))


@contained
def _on_connection(connection: Connection) -> None:
    watch_of(connection.engine).hold_of(connection)


@contained
def _on_error(context: ExceptionContext) -> None:
    recording = recording_of(context.connection)
    if recording is None:
        return
    name = _recording.error_name(context.sqlalchemy_exception or context.original_exception)
    recording.note_error(name)
    if recording.transcript is not None and context.statement is not None and context.connection is not None:
        execution = context.execution_context
        _note(recording, context.connection, context.statement, context.parameters, execution, name)


@contained
def _on_execute(
    connection: Connection, _cursor: object, _statement: str, _parameters: object, context: Any, _is_many: bool
) -> None:
    recording = recording_of(connection)
    if recording is None or recording.transcript is None:
        return
    now = perf_counter()
    recording.transcript.end_ending(now)
    setattr(context, _BEGAN, now)


@contained
def _on_executed(
    connection: Connection, _cursor: object, statement: str, parameters: object, context: Any, _is_many: bool
) -> None:
    recording = recording_of(connection)
    if recording is not None and recording.transcript is not None:
        _note(recording, connection, statement, parameters, context)


@contained
def _on_commit(connection: Connection, *_of_the_event: object) -> None:
    recording = recording_of(connection)
    if recording is not None and (transcript := recording.transcript) is not None:
        transcript.commit(_ending(recording, connection, "commit"), id(connection))


@contained
def _on_rollback(connection: Connection, *_of_the_event: object) -> None:
    recording = recording_of(connection)
    if recording is not None and (transcript := recording.transcript) is not None:
        transcript.roll_back(_ending(recording, connection, "rollback"), id(connection))


@contained
def _on_committed(session: Session) -> None:
    recording = _recording.of_session(session)
    if recording is None:
        return
    if recording.transcript is not None:
        recording.transcript.end_ending(perf_counter())
    if not session.in_nested_transaction():  # else it is a savepoint
        recording.commit(session)


@contained
def _on_flush(session: Session, *_of_the_event: object) -> None:
    if (transcript := _transcript_of_session(session)) is not None:
        transcript.begin_flush()


@contained
def _on_flushed(session: Session, _flush_context: object) -> None:
    if (transcript := _transcript_of_session(session)) is not None:
        transcript.end_flush()


@contained
def _on_orm_execute(state: ORMExecuteState) -> None:
    """Have a SELECT carry why it is sent; None, too, for the loads of a SELECT are given its options."""
    if state.is_select and _transcript_of_session(state.session) is not None:
        state.update_execution_options(**{LOAD: load_of(state)})


def _transcript_of_session(session: Session) -> Transcript | None:
    recording = _recording.of_session(session)
    return None if recording is None else recording.transcript


def _note(
    recording: Recording,
    connection: Connection,
    statement: str,
    parameters: object,
    context: Any,
    error: str | None = None,
) -> None:
    assert recording.transcript is not None
    now = perf_counter()
    began = getattr(context, _BEGAN, now)
    shape = shape_of(statement, connection.dialect.name)
    watch = watch_of(connection.engine)
    noted = Statement(
        at=began - recording.began,
        duration=now - began,
        engine=watch.engine,
        kind=shape.kind,
        sql=shape.sql,
        rowcount=None if error else _rowcount(context),
        line=recording.callers.line(),
        load=None if context is None else context.execution_options.get(LOAD),
        flush=recording.transcript.flush,
        is_many=_is_many(context),
        values=_hash_of((statement, parameters)),
        error=error,
        held_at=_held_at(recording, watch, connection),
    )
    recording.transcript.add(noted)
    if shape.kind not in HARMLESS and error is None and not engines.is_autocommit(connection):
        recording.transcript.write(noted, id(connection))


def _ending(recording: Recording, connection: Connection, kind: str) -> Statement:
    """Make what stands for a COMMIT or ROLLBACK that is about to be sent."""
    watch = watch_of(connection.engine)
    return Statement(
        at=perf_counter() - recording.began,
        duration=0.0,
        engine=watch.engine,
        kind=kind,
        sql=kind.upper(),
        rowcount=None,
        line=recording.callers.line(),
        load=None,
        flush=None,
        is_many=False,
        values=None,
        error=None,
        held_at=_held_at(recording, watch, connection),
    )


def _held_at(recording: Recording, watch: PoolWatch, connection: Connection) -> float | None:
    since = watch.held_since(connection)
    return None if since is None else since - recording.began


def _rowcount(context: Any) -> int | None:
    """Return the number of rows that a driver tells, which for a SELECT most do not before the rows are read."""
    count = None if context is None else context.cursor.rowcount
    return count if isinstance(count, int) and count >= 0 else None


def _is_many(context: Any) -> bool:
    """Say whether a statement is for many rows, or one of those that SQLAlchemy has made of it ("insertmanyvalues")."""
    return context is not None and context.execute_style.name in ("EXECUTEMANY", "INSERTMANYVALUES")


def _hash_of(values: Any) -> int:
    try:
        return hash(values)
    except TypeError:  # parameters by name, or lists in them
        return hash(repr(values))
