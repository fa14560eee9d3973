"""The execution contexts of a dialect, which leave traces of what they have sent.

SQLAlchemy runs the methods that are overridden here for DML, for text, for DDL and for cursors of the server's alone,
so an ordinary SELECT pays nothing. The few that write, or are text with columns, are known to the compiler, which
compiles each once: from the first one on, the contexts of that dialect look at each statement.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import cache, partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import Session

from .._log import log
from .._sql import texts
from . import compilers
from .traces import forget, is_usable, look_at, tell_of_commit, traces_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .traces import Traces


def give_to(dialect: Any) -> None:
    """Have what is sent by *dialect* leave its traces."""
    dialect.execution_ctx_cls = _tracing(dialect.execution_ctx_cls)
    compilers.give_to(dialect, _look)


@cache
def _tracing(base: type[DefaultExecutionContext]) -> type[DefaultExecutionContext]:
    """Derive from the class of an execution context one that leaves traces."""
    return type(base.__name__, (_Tracing, base), {"__module__": __name__, "__doc__": base.__doc__})


@cache
def _looking(base: type[DefaultExecutionContext]) -> type[DefaultExecutionContext]:
    """Derive from a class that leaves traces one that looks at each statement."""
    return type(base.__name__, (_Looking, base), {"__module__": __name__, "__doc__": base.__doc__})


def _look(dialect: Any) -> None:
    """Have the contexts of *dialect* look at each statement, from now on."""
    if not issubclass(dialect.execution_ctx_cls, _Looking):
        dialect.execution_ctx_cls = _looking(dialect.execution_ctx_cls)


class _Tracing(DefaultExecutionContext):
    """Leaves traces.  Lives as long as an execution."""

    @classmethod
    def _init_ddl(cls, *arguments: Any, **more: Any) -> Any:
        context: Any = super()._init_ddl(*arguments, **more)
        context.post_exec = partial(_note_text, context)
        return context

    def create_server_side_cursor(self) -> Any:
        cursor: Any = super().create_server_side_cursor()
        _note_cursor(self, cursor)
        return cursor

    def _setup_dml_or_text_result(self) -> Any:
        if self.is_text:
            _note_text(self)
        else:
            _note_write(self.root_connection)
        return super()._setup_dml_or_text_result()  # type: ignore[no-untyped-call]


class _Looking(DefaultExecutionContext):
    """Leaves traces of what only looks like a SELECT, too.  Lives as long as an execution."""

    def _setup_result_proxy(self) -> Any:
        if compilers.writes(self.compiled):
            _note_write(self.root_connection)
        if (what := compilers.sets_up(self.compiled)) and not _is_provisioning():
            _note_held(self.root_connection, what)
        return super()._setup_result_proxy()  # type: ignore[no-untyped-call]


def _note_write(connection: Connection) -> None:
    traces = traces_of(connection.connection)
    if not traces.has_written:
        traces.has_written = True
        if connection.dialect.name == "sqlite" and not _has_begun(connection):
            tell_of_commit(connection)


def _has_begun(connection: Connection) -> bool:
    """Say whether SQLite's driver has begun for a write; before ``WITH ... INSERT`` it does not, which so is saved."""
    driver: Any = connection.connection.dbapi_connection
    return bool(getattr(driver, "in_transaction", True))


def _note_held(connection: Connection, what: str) -> None:
    traces = traces_of(connection.connection)
    if traces.held is None:
        traces.held = what


def _note_text(context: _Tracing) -> None:
    """Note what a text has done, or a statement that defines something."""
    statement: str = context.statement or ""
    connection = context.root_connection
    dialect = connection.dialect.name
    if end := texts.end_of(statement, dialect):
        _note_end(context, end)
        return
    if _sets_up(context, statement):
        _note_held(connection, texts.word_of(statement, dialect).upper())
    if texts.commits_on_mysql(statement, dialect):
        traces_of(connection.connection).has_written = False
        tell_of_commit(connection)
    elif texts.may_write(statement, dialect):
        _note_write(connection)
    if texts.is_commit(statement, dialect) or texts.may_commit_on_mysql(statement, dialect):
        tell_of_commit(connection)


def _note_end(context: _Tracing, word: str) -> None:
    """Note that a transaction was ended by text; PostgreSQL's answer to a COMMIT may be ROLLBACK."""
    connection = context.root_connection
    left = look_at(connection.connection)
    answer = str(getattr(context.cursor, "statusmessage", None) or word)
    is_lost = (left is not None and left.is_lost) or answer.startswith("ROLLBACK")
    if word in ("COMMIT", "END") and not is_lost:
        forget(connection.connection)
        tell_of_commit(connection)
    elif left is not None and (left.has_written or left.is_awaited or left.is_lost):
        left.ended_by = word


def _sets_up(context: _Tracing, statement: str) -> bool:
    """Say whether text has set up something in its transaction that another one has to be given again."""
    cursor: Any = context.cursor
    dialect = context.dialect.name
    returns_rows = getattr(context, "_is_server_side", False) or (cursor is not None and cursor.description)
    is_setup = texts.sets_up(statement, dialect) if returns_rows else not texts.is_permanent(statement, dialect)
    return is_setup and not _is_provisioning()


def _is_provisioning() -> bool:
    """Say whether a session begins: what its ``after_begin`` listeners send is sent again when it begins anew."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code.co_name == "_connection_for_bind" and frame.f_globals.get("__name__") == Session.__module__:
            return True
        frame = frame.f_back
    return False


def _note_cursor(context: _Tracing, cursor: Any) -> None:
    """Note a cursor of the server's, until it is closed: a `CursorResult` closes it when its rows are at their end."""
    connection: Any = context.root_connection
    traces = traces_of(connection.connection)
    if traces.cursors is None:
        traces.cursors = {}
        if "_safe_close_cursor" not in vars(connection):
            connection._safe_close_cursor = partial(_close_cursor, weakref.ref(connection))  # noqa: SLF001
        if connection.dialect.driver == _CUTS_OFF:
            event.listen(connection, "before_cursor_execute", _warn_of_statement)
    traces.cursors[id(cursor)] = weakref.ref(context)


def _close_cursor(weakly: Callable[[], Any], cursor: Any) -> None:
    connection = weakly()
    kept = look_at(connection.connection) if is_usable(connection) else None
    if kept is not None and kept.cursors:
        kept.cursors.pop(id(cursor), None)
    type(connection)._safe_close_cursor(connection, cursor)  # noqa: SLF001


_CUTS_OFF = "pymysql"
"""The driver that ends the rows of an unbuffered result with the next statement, without an error."""


def _warn_of_statement(
    connection: Connection, _cursor: object, _statement: str, _parameters: object, context: Any, _many: bool
) -> None:
    """Say that the rows of an unbuffered result are lost with the next statement."""
    left = look_at(connection.connection)
    if left is not None and any(one is not context for one in left.open_cursors()):
        warn_of_rows(connection.connection, left)


def warn_of_rows(connection: Any, left: Traces) -> None:
    """Say that the rows of an unbuffered result are lost with what is sent now on a *connection*, if that is so.

    PyMySQL knows whether the server has more to send.
    """
    result = getattr(connection.dbapi_connection, "_result", None)
    if left.open_cursors() and getattr(result, "unbuffered_active", False):
        left.cursors = {}  # once
        log.warning(
            "A statement, or a COMMIT, was sent while the rows of another one ('yield_per', 'stream_results') were"
            " being read. On MySQL and MariaDB that ends them, with PyMySQL without an error: rows may be lost. Read"
            " them first, or use another session."
        )
