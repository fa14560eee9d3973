"""The committing block: everything that happens in it is real, and what was written is deleted afterwards."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, MetaData, Table, func, select
from sqlalchemy.orm import Session

from ..observe._labels import label_of
from ..observe._shapes import HARMLESS, shape_of
from ._isolation import Isolation, is_of_root

if TYPE_CHECKING:
    from collections.abc import Iterable


class committing(Isolation):  # noqa: N801
    """Run a test with real commits, and delete afterwards what it has written: a block.  Lives as long as that.

    For threads, live servers, and isolation levels. It deletes every row of the tables that were written to. So it
    refuses to write to a database whose name does not say that it is for tests, and to a table that was not empty.

    Statements are noted on all engines of this process; what was sent as text, or writes in a ``WITH``, may have
    written to any table that was empty. Sequences go on counting.
    """

    def __init__(self, *, database: str = "test") -> None:
        """Prepare a block.

        Args:
            database: A regular expression that is found in the name of a database that is for tests; for SQLite, in
                that of its file. A database in memory is always for tests.
        """
        super().__init__()
        self._database = re.compile(database)
        self._lock = threading.RLock()
        self._seeds: dict[Engine, dict[str, tuple[Table, int]]] = {}
        self._written: dict[Engine, dict[str, Table]] = {}

    def _listeners(self) -> list[tuple[Any, str, Any]]:
        return [
            (Session, "after_commit", self._after_commit),
            (Engine, "before_cursor_execute", self._before_execute),
        ]

    def _undo(self) -> None:
        with ExitStack() as stack:
            for engine, seeds in self._seeds.items():
                stack.callback(self._compare, engine, seeds)
            for engine, tables in self._written.items():
                stack.callback(_delete, engine, tables)

    def _compare(self, engine: Engine, seeds: dict[str, tuple[Table, int]]) -> None:
        with engine.connect() as connection:
            for table, count in seeds.values():
                if _count(connection, table) != count:
                    self._problems.note(self._why_not(engine, table))

    def _after_commit(self, session: Session) -> None:
        if is_of_root(session):
            self._refresh_own(session)

    def _before_execute(
        self, connection: Connection, _cursor: object, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        if shape_of(statement, connection.dialect.name).kind in HARMLESS:
            return
        self._require_test_database(connection.engine)
        table = _only_table(context.compiled)
        with self._lock:
            if table is not None:
                self._write(connection, table)
            elif connection.engine not in self._seeds:
                self._write_anywhere(connection)

    def _require_test_database(self, engine: Engine) -> None:
        name = engine.url.database or ""
        is_sqlite = engine.dialect.name == "sqlite"
        if is_sqlite and name in ("", ":memory:"):
            return
        if not self._database.search(PurePath(name).name if is_sqlite else name):
            self._problems.refuse(
                f"{label_of(engine)} is not marked as a test's database, and this block deletes what it finds in the"
                f" tables that are written to. Use one whose name has {self._database.pattern!r} in it, or say what"
                " marks yours: 'committing(database=...)'."
            )

    def _write(self, connection: Connection, table: Table) -> None:
        """Note that *table* is written to, from now on."""
        written = self._written.setdefault(connection.engine, {})
        if table.fullname not in written:
            if _count(connection, table):
                self._problems.refuse(self._why_not(connection.engine, table))
            written[table.fullname] = table

    def _write_anywhere(self, connection: Connection) -> None:
        """Note that any table may be written to; what is in those that are not empty has to stay as it is."""
        written = self._written.setdefault(connection.engine, {})
        seeds = self._seeds[connection.engine] = {}
        for table in _tables_of(connection):
            if table.fullname in written:
                continue
            if count := _count(connection, table):
                seeds[table.fullname] = (table, count)
            else:
                written[table.fullname] = table

    def _why_not(self, engine: Engine, table: Table) -> str:
        return (
            f"The table {table.fullname!r} of {label_of(engine)} was written to, and had rows before the test, which"
            " this block cannot tell from those of the test. Make what the test needs in the block."
        )


def _only_table(compiled: Any) -> Table | None:
    """Return the one table that a statement writes to; None if that is not known, as of text, or if it has several."""
    ctes = getattr(compiled, "ctes", None) or ()
    table = getattr(compiled and compiled.statement, "table", None)
    return table if isinstance(table, Table) and not any(cte.element.is_dml for cte in ctes) else None


def _delete(engine: Engine, tables: dict[str, Table]) -> None:
    with engine.begin() as connection:
        for table in reversed(_sorted(tables)):
            connection.execute(table.delete())


def _sorted(tables: dict[str, Table]) -> list[Table]:
    """Sort *tables* so that each comes after those that it refers to, where they do not refer to each other.

    It goes by their names: some are the application's, others reflected, and SQLAlchemy sorts those of one `MetaData`.
    """
    left, found = dict(tables), list[Table]()

    def add(name: str) -> None:
        if (table := left.pop(name, None)) is not None:
            for key in table.foreign_keys:
                add(key.column.table.fullname)
            found.append(table)

    for name in tables:
        add(name)
    return found


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _tables_of(connection: Connection) -> Iterable[Table]:
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata.tables.values()
