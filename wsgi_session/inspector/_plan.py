"""The plan: how the database would carry out a SELECT that was recorded.

It is asked on a connection of its own, in a transaction that cannot write and is rolled back, by EXPLAIN, which carries
out nothing; never by ANALYZE, and never of what may write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._session import pools
from .._sql.lexer import read_whole
from .._sql.texts import may_write, sets_up
from ..observe._labels import error_name
from ..observe._shapes import shape_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from ..observe import Values

_EXPLAIN = {
    "mariadb": "EXPLAIN ",
    "mysql": "EXPLAIN ",
    "postgresql": "EXPLAIN ",
    "sqlite": "EXPLAIN QUERY PLAN ",
}

_READ_ONLY = {
    "mariadb": ("SET TRANSACTION READ ONLY",),
    "mysql": ("SET TRANSACTION READ ONLY",),
    "postgresql": ("SET TRANSACTION READ ONLY", "SET LOCAL statement_timeout = '5s'"),
    "sqlite": ("PRAGMA query_only = 1",),
}
"""What is sent before it."""

_AFTERWARDS = {"sqlite": ("PRAGMA query_only = 0",)}
"""What is sent when the transaction is over: on SQLite it is the connection that cannot write."""


def why_not(values: Values | None) -> str | None:
    """Say why there is no plan; None if there is one."""
    if values is None:
        return "its values are not kept"
    if values.dialect not in _EXPLAIN:
        return f"nobody has told the inspector how {values.dialect} explains a statement"
    if not values.is_whole:
        return "its values are not kept whole"
    if not _only_reads(values):
        return "it is no SELECT that only reads"
    engine = values.engine
    if engine is None:
        return "its engine is gone"
    if pools.is_database(engine.pool) or engine.dialect.is_async:
        return "its engine has no second connection for that"
    return None


def plan_of(values: Values) -> list[str]:
    """Ask for the plan of a statement that there is one of, in lines; the name of the error where that fails."""
    engine = values.engine
    assert engine is not None  # `why_not` has been asked
    try:
        return _asked(engine, values)
    except Exception as error:
        return [f"The database has refused: {error_name(error)}"]


def _only_reads(values: Values) -> bool:
    """Say whether a text is one SELECT, which neither writes nor sets up or locks anything."""
    words = read_whole(values.statement, values.dialect)
    return (
        words is not None
        and ";" not in words
        and shape_of(values.statement, values.dialect).kind == "select"
        and not may_write(values.statement, values.dialect)
        and not sets_up(values.statement, values.dialect)
    )


def _asked(engine: Engine, values: Values) -> list[str]:
    name = values.dialect
    with engine.connect() as connection:
        try:
            for statement in _READ_ONLY[name]:
                connection.exec_driver_sql(statement)
            rows = connection.exec_driver_sql(_EXPLAIN[name] + values.statement, values.given).mappings().all()
        finally:
            connection.rollback()
            _send(connection, _AFTERWARDS.get(name, ()))
    return _OF_TREES[name](rows) if name in _OF_TREES else [_line(row) for row in rows]


def _send(connection: Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def _tree(rows: Any) -> list[str]:
    """Return the lines of SQLite's, each moved in below its parent."""
    depths = {0: -1}
    for row in rows:
        depths[row["id"]] = depths.get(row["parent"], -1) + 1
    return ["  " * depths[row["id"]] + row["detail"] for row in rows]


def _line(row: Any) -> str:
    """Return a row of MariaDB's, by the names of its columns; that of one column is PostgreSQL's, and its text."""
    if len(row) == 1:
        return str(next(iter(row.values())))
    return ", ".join(f"{name}: {value}" for name, value in row.items() if value is not None)


_OF_TREES = {"sqlite": _tree}
