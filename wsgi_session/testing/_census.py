"""The census: what a database had in it before the block wrote to it, and what may have been written to since."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from sqlite3 import ProgrammingError
from typing import TYPE_CHECKING, Any

from ..observe._labels import label_of
from ._catalog import TABLES, Catalog
from ._mariadb import MariaDB
from ._postgresql import PostgreSQL
from ._sqlite import SQLite

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from ._catalog import Thing
    from ._system import Ask, Place, System
    from ._targets import Purpose

SYSTEMS: dict[str, System] = {
    "mariadb": MariaDB(),
    "mysql": MariaDB(),
    "postgresql": PostgreSQL(),
    "sqlite": SQLite(),
}
"""By the name of the dialect."""

_MAX_PASSES = 3
"""How often tables are emptied into which triggers write when others are."""


class Census:
    """What is known of one database.  Lives as long as the block.

    It asks on a connection of its own in AUTOCOMMIT, which is not the pool's: no transaction of the application's
    waits for it or is in conflict with it. A database in memory has one connection, and is asked on that.
    """

    def __init__(self, connection: Connection) -> None:
        """Find out where the engine of *connection* leads."""
        self._engine = connection.engine
        self.label = label_of(connection.engine)
        self._memory = _memory_of(connection)
        self._looked_at = set[str]()
        self._occupied: set[Thing] = set()
        self._written: set[Thing] = set()
        self._system = SYSTEMS[connection.dialect.name]
        with self._asking() as ask:
            self.place = self._place(ask)
            self._databases = self._system.databases(ask)
        self._catalog = Catalog((), self._databases)

    def place_of(self, connection: Connection) -> Place | None:
        """Find out where *connection* is; None if it answers nothing, and so can write nothing.

        That is so in a transaction of PostgreSQL in which a statement has failed.
        """
        driver: Any = connection.connection
        try:
            place = self._system.place(_asking_on(driver))
        except connection.dialect.loaded_dbapi.Error:
            return None
        return _at_memory(place, _memory_of(connection))

    def schemas_of(self, place: Place) -> Sequence[str]:
        """List the schemas that anything may be written to in *place*; first that of a name without one."""
        return self._system.schemas_of(place)

    def database_of(self, schema: str) -> str | None:
        """Return the name of the database that *schema* is in; None if it is in memory."""
        return self._system.database_of(schema, self.place)

    def look_at(self, schemas: Iterable[str]) -> None:
        """Note what there is in those of *schemas* that were not looked at, and which tables have rows."""
        new = [schema for schema in schemas if schema not in self._looked_at]
        if not new:
            return
        with self._asking() as ask:
            things = frozenset(self._system.things(ask, new))
            self._occupied |= self._system.occupied(ask, things)
        self._looked_at.update(new)
        left = [name for name in self._databases if name not in self._looked_at]
        self._catalog = Catalog(self._catalog.things | things, left)

    def reached(
        self, statement: str, purpose: Purpose, path: tuple[str, ...] | None = None
    ) -> dict[Thing, Thing | None]:
        """Return what a *statement* may write to, each with that which leads there."""
        return self._catalog.reached(statement, purpose, path)

    def is_occupied(self, thing: Thing) -> bool:
        """Say whether *thing* is a table that had rows."""
        return thing in self._occupied

    def note_written(self, things: Iterable[Thing]) -> None:
        """Note that *things* may have been written to."""
        self._written.update(thing for thing in things if thing.kind in TABLES)

    def restore(self) -> Iterator[str]:
        """Delete the rows of the tables that were written to, and say of which that is impossible."""
        if not self._written or self._is_gone():
            return
        with self._deleting() as ask:
            if self._place(ask).server != self.place.server:
                yield f"The engine of {self.label} leads elsewhere now: what the test has written stays there."
                return
            present = self._written & frozenset(self._system.things(ask, self._looked_at))
            for table in sorted(self._written - present):
                yield (
                    f"The table {table.full_name!r} of {self.label} is not the one any more that this block has seen"
                    " empty: it was dropped, changed or replaced. What is there now is left as it is."
                )
            for table in sorted(self._emptied(ask, present)):
                yield f"The table {table.full_name!r} of {self.label} has rows again: a trigger writes them."

    def _emptied(self, ask: Ask, tables: Iterable[Thing]) -> set[Thing]:
        """Delete the rows of *tables*, and return those that have some again."""
        for _ in range(_MAX_PASSES):
            left = self._system.occupied(ask, tables)
            if not left:
                return left
            self._system.empty(ask, sorted(left))
        return self._system.occupied(ask, tables)

    def _place(self, ask: Ask) -> Place:
        return _at_memory(self._system.place(ask), self._memory)

    @contextmanager
    def _deleting(self) -> Generator[Ask]:
        """Ask in AUTOCOMMIT, in memory, too."""
        with self._asking() as ask, ExitStack() as stack:
            if self._memory is not None:
                stack.callback(setattr, self._memory, "isolation_level", self._memory.isolation_level)
                self._memory.rollback()
                self._memory.isolation_level = None
            yield ask

    def _is_gone(self) -> bool:
        """Say whether the database was in memory, and its connection is closed."""
        try:
            return self._memory is not None and not self._memory.execute("SELECT 1")
        except ProgrammingError:
            return True

    @contextmanager
    def _asking(self) -> Generator[Ask]:
        if self._memory is not None:
            yield _asking_on(self._memory)
            return
        pool = self._engine.pool.recreate()
        try:
            with closing(pool.connect()) as proxy:
                driver: Any = proxy.dbapi_connection
                self._engine.dialect.set_isolation_level(driver, "AUTOCOMMIT")
                ask = _asking_on(driver)
                for statement in self._system.preparation:
                    ask(statement)
                yield ask
                driver.commit()  # where SQLite's driver has begun a transaction all the same
        finally:
            pool.dispose()


def _asking_on(driver: Any) -> Ask:
    """Return what sends statements on a *driver*'s connection, and tells none of those that follow engines."""

    def ask(statement: str) -> Any:
        with closing(driver.cursor()) as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else ()

    return ask


def _memory_of(connection: Connection) -> Any:
    """Return the driver's connection if that is all there is of a database in memory, or else None."""
    if connection.dialect.name != "sqlite":
        return None
    driver: Any = connection.connection.driver_connection
    files = {name: file for _, name, file in _asking_on(driver)("PRAGMA database_list")}
    return None if files["main"] else driver


def _at_memory(place: Place, memory: Any) -> Place:
    return place._replace(server=(*place.server, id(memory)))
