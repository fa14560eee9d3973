"""The traces of a transaction: what was sent on its connection that may have changed something, and what went wrong.

They are kept with the connection as it was taken from its pool, and only where there are any: a transaction that has
read has none. A subclass of the dialect's ``execution_ctx_cls`` leaves them. SQLAlchemy runs the method that it
overrides for DML and for text alone, so a SELECT pays nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine.default import DefaultExecutionContext

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine import Dialect

_KEY = "wsgi_session.traces"

_first_word = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(\w+)", re.DOTALL)
_end = re.compile(
    r"\s*(COMMIT|END|ROLLBACK|ABORT)\b(?!\s+(?:(?:WORK|TRANSACTION)\s+)?(?:TO|PREPARED)\b)", re.IGNORECASE
)

_HARMLESS = frozenset(
    {
        "begin",
        "explain",
        "lock",
        "pragma",
        "release",
        "rollback",
        "savepoint",
        "select",
        "set",
        "show",
        "table",
        "values",
    }
)
"""What text begins with that changes no rows; of ``ROLLBACK`` it is the one to a savepoint, for `_end` comes first."""


class Traces:
    """What a transaction has left on its connection.  Lives as long as the transaction.

    What is not set is the class's: most transactions set one thing.
    """

    ended_by: str | None = None
    """The text that has ended it, and with it what had been written."""

    error: BaseException | None = None
    """The driver's last error that says what has gone wrong."""

    has_written: bool = False
    """Whether a statement has succeeded that may have changed something."""

    is_awaited: bool = False
    """Whether a callback waits for its commit."""

    is_begun: bool = False
    """Whether a driver that waits with its BEGIN for the first write has found one sent."""

    is_lost: bool = False
    """Whether the database has rolled it back with the error."""


def traces_of(connection: Any) -> Traces:
    """Return the traces on a *connection* as it was taken from its pool."""
    kept: dict[str, Any] = connection.__dict__
    found: Traces | None = kept.get(_KEY)
    if found is None:
        found = kept[_KEY] = Traces()
    return found


def look_at(connection: Any) -> Traces | None:
    """Return the traces on a *connection*, if there are any."""
    found: Traces | None = connection.__dict__.get(_KEY)
    return found


def forget(connection: Any) -> None:
    """Forget the traces on a *connection*, whose transaction has ended; the proxy of a first connect has none."""
    if kept := getattr(connection, "__dict__", None):
        kept.pop(_KEY, None)


on_text_commit: list[Callable[[Connection], object]] = []
"""Are called with a connection on which a COMMIT was sent as text."""


def leave_on(dialect: Dialect) -> None:
    """Have what is sent by *dialect* leave its traces."""
    dialect.execution_ctx_cls = _tracing(dialect.execution_ctx_cls)  # type: ignore[arg-type]


@cache
def _tracing(base: type[DefaultExecutionContext]) -> type[DefaultExecutionContext]:
    """Derive from the class of an execution context one that leaves traces."""
    if issubclass(base, _Tracing):
        return base
    return type(base.__name__, (_Tracing, base), {"__module__": __name__, "__doc__": base.__doc__})


class _Tracing(DefaultExecutionContext):
    """Leaves traces.  Lives as long as an execution."""

    @classmethod
    def _init_ddl(cls, *arguments: Any, **more: Any) -> Any:
        context: Any = super()._init_ddl(*arguments, **more)
        traces_of(context._dbapi_connection).has_written = True  # noqa: SLF001
        return context

    def _setup_dml_or_text_result(self) -> Any:
        if self.is_text:
            _note_text(self)
        else:
            traces_of(self._dbapi_connection).has_written = True
        return super()._setup_dml_or_text_result()  # type: ignore[no-untyped-call]


def _note_text(context: _Tracing) -> None:
    statement: str = context.statement or ""
    traces = traces_of(context.root_connection.connection)
    if end := _end.match(statement):
        _note_end(context, traces, end[1].upper())
    elif not traces.has_written:
        word = _first_word.match(statement)
        traces.has_written = word is None or word[1].lower() not in _HARMLESS


def _note_end(context: _Tracing, traces: Traces, word: str) -> None:
    if word in ("COMMIT", "END"):
        for tell in on_text_commit:
            tell(context.root_connection)
        forget(context.root_connection.connection)
    elif traces.has_written or traces.is_awaited:
        traces.ended_by = word
