"""The compilers of a dialect, which note what they compile that is no DML and does more than read.

SQLAlchemy compiles a statement once and keeps that, so what is noted costs nothing where the statement is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from sqlalchemy.sql.compiler import SQLCompiler

from .._sql import texts

_LOOK = "_wsgi_session_look"
"""The attribute of a compiler that is called with its dialect when it has noted something."""

_SETS_UP = "_wsgi_session_sets_up"
"""The attribute of a compiled statement that sets up something in its transaction, or locks rows: what that is."""

_WRITES = "_wsgi_session_writes"
"""The attribute of one that is no DML, and may write."""

_setting = re.compile(r"set_config|pg_(?:try_)?advisory_.*|get_lock", re.IGNORECASE)
"""The names of the functions that set up something."""


def give_to(dialect: Any, look: Callable[[Any], None]) -> None:
    """Have the compilers of *dialect* note things, and call *look* with it as soon as there is anything."""
    dialect.statement_compiler = _noting(dialect.statement_compiler, look)


def writes(compiled: object) -> bool:
    """Say whether a *compiled* statement, or None, is no DML and may write."""
    return getattr(compiled, _WRITES, False)


def sets_up(compiled: object) -> str | None:
    """Say what a *compiled* statement sets up that is lost with its transaction; None for nothing."""
    return getattr(compiled, _SETS_UP, None)


@cache
def _noting(base: type[SQLCompiler], look: Callable[[Any], None]) -> type[SQLCompiler]:
    own = {
        "__module__": __name__,
        "__doc__": base.__doc__,
        "__qualname__": base.__qualname__,
        _LOOK: staticmethod(look),
    }
    return type(base.__name__, (_Noting, base), own)


class _Noting(SQLCompiler):
    """Notes what it compiles.  Lives as long as the compiled statement."""

    def visit_insert(self, *arguments: Any, **more: Any) -> Any:
        self._wsgi_session_note_inner()
        return super().visit_insert(*arguments, **more)  # type: ignore[no-untyped-call]

    def visit_update(self, *arguments: Any, **more: Any) -> Any:
        self._wsgi_session_note_inner()
        return super().visit_update(*arguments, **more)

    def visit_delete(self, *arguments: Any, **more: Any) -> Any:
        self._wsgi_session_note_inner()
        return super().visit_delete(*arguments, **more)  # type: ignore[no-untyped-call]

    def visit_textual_select(self, *arguments: Any, **more: Any) -> Any:
        sql = super().visit_textual_select(*arguments, **more)  # type: ignore[no-untyped-call]
        name = self.dialect.name
        if texts.may_write(str(sql), name):
            self._wsgi_session_note(_WRITES, True)
        if texts.sets_up(str(sql), name):
            self._wsgi_session_note(_SETS_UP, texts.word_of(str(sql), name).upper())
        return sql

    def visit_textclause(self, *arguments: Any, **more: Any) -> Any:
        is_part = bool(self.stack)
        sql = super().visit_textclause(*arguments, **more)  # type: ignore[no-untyped-call]
        if is_part and texts.sets_up(str(sql), self.dialect.name):
            self._wsgi_session_note(_SETS_UP, str(sql))
        return sql

    def visit_function(self, func: Any, *arguments: Any, **more: Any) -> Any:
        if _setting.fullmatch(func.name):
            self._wsgi_session_note(_SETS_UP, f"{func.name}()")
        return super().visit_function(func, *arguments, **more)

    def for_update_clause(self, *arguments: Any, **more: Any) -> Any:
        sql = super().for_update_clause(*arguments, **more)  # type: ignore[no-untyped-call]
        if sql:  # SQLite has none
            self._wsgi_session_note(_SETS_UP, sql.strip())
        return sql

    def _wsgi_session_note_inner(self) -> None:
        if self.stack:  # it is in another statement, as in a WITH
            self._wsgi_session_note(_WRITES, True)

    def _wsgi_session_note(self, name: str, what: object) -> None:
        setattr(self, name, what)
        getattr(self, _LOOK)(self.dialect)
