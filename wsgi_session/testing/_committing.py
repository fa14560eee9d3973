"""The committing block: everything that happens in it is real, and what was written is deleted afterwards."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import SingletonThreadPool

from ..observe._labels import label_of
from ._catalog import TABLES
from ._census import SYSTEMS, Census
from ._isolation import Isolation, is_of_root
from ._targets import Purpose, is_several, purpose_of

if TYPE_CHECKING:
    from ._catalog import Thing
    from ._system import Place

TEST_AS_A_WORD = r"(?i)(?<![^\W\d_])test(?![^\W\d_])"
"""Finds *test* in the name of a database, not beside another letter."""


_NAMES = {"key": "foreign key of", "part": "partition", "sealed": "table"}
"""How the kinds of things are called that lead to others, where not by their own name."""


class committing(Isolation):  # noqa: N801
    """Run a test with real commits, and delete afterwards what it has written: a block.  Lives as long as that.

    For threads, live servers, and isolation levels. Before the first statement to a database the block notes which of
    its tables are empty, on a connection of its own. Before each statement that writes, it finds out which tables that
    may reach: itself, and by foreign keys, triggers, views, routines, partitions. If one of them had rows, or if that
    cannot be known, the statement is refused, and nothing was sent. At the end the rows of the tables that were
    reached are deleted. So these are rows of tables that the block has seen empty.

    It writes to databases whose names say that they are for tests, and changes no schema but that of temporary
    tables. It does not see what is sent past SQLAlchemy, by the driver itself, and takes for the test's what another
    process writes meanwhile to the same tables: give each process a database of its own. Sequences go on counting.
    """

    def __init__(self, *, database: str = TEST_AS_A_WORD) -> None:
        """Prepare a block.

        Args:
            database: A regular expression that is found in the name of a database that is for tests; for SQLite, in
                that of its file. A database in memory is always for tests.
        """
        super().__init__()
        self._database = re.compile(database)
        self._lock = threading.RLock()
        self._censuses: dict[Engine, Census] = {}

    def _listeners(self) -> list[tuple[Any, str, Any]]:
        return [
            (Session, "after_commit", self._after_commit),
            (Engine, "before_cursor_execute", self._before_execute),
        ]

    def _undo(self) -> None:
        with ExitStack() as stack:
            for census in set(self._censuses.values()):
                stack.callback(self._restore, census)

    def _restore(self, census: Census) -> None:
        for problem in census.restore():
            self._problems.note(problem)

    def _after_commit(self, session: Session) -> None:
        if is_of_root(session):
            self._refresh_own(session)

    def _before_execute(
        self, connection: Connection, _cursor: object, statement: str, _parameters: object, _context: Any, _many: bool
    ) -> None:
        dialect = connection.dialect.name
        purpose = purpose_of(statement, dialect)
        with self._lock:
            if dialect not in SYSTEMS:
                self._require_read(connection, purpose)
            elif self._census_of(connection).reached(statement, purpose) or purpose is not Purpose.READ:
                self._before_write(connection, statement, purpose)

    def _require_read(self, connection: Connection, purpose: Purpose) -> None:
        if purpose is not Purpose.READ:
            self._problems.refuse(
                f"This block cannot find out what is written to {label_of(connection.engine)}, so nothing is. It knows"
                f" {', '.join(sorted(SYSTEMS))}."
            )

    def _census_of(self, connection: Connection) -> Census:
        """Return what is known of the database that the engine of *connection* leads to."""
        if connection.engine not in self._censuses:
            new = Census(connection)
            known = (one for one in self._censuses.values() if one.place.server == new.place.server)
            census = self._censuses[connection.engine] = next(known, new)
            census.look_at(schema for schema in census.schemas_of(new.place) if self._is_marked(census, schema))
        return self._censuses[connection.engine]

    def _before_write(self, connection: Connection, statement: str, purpose: Purpose) -> None:
        """Note what a *statement* may write to, or refuse it."""
        census = self._census_of(connection)
        place = census.place_of(connection)
        if place is None:
            return
        self._require_reach(connection, census, place)
        for schema in census.schemas_of(place)[:1]:
            self._require_marked(census, schema)
        path = None if is_several(statement, connection.dialect.name) else place.path
        census.look_at(census.schemas_of(place))
        reached = self._reached(census, statement, purpose, path)
        if purpose is Purpose.SCHEMA or (purpose is Purpose.OWN_SCHEMA and reached):
            self._refuse_schema(census)
        for thing, by in reached.items():
            if thing.kind in TABLES:
                self._require_empty(census, thing, by)
        census.note_written(reached)

    def _reached(
        self, census: Census, statement: str, purpose: Purpose, path: tuple[str, ...] | None
    ) -> dict[Thing, Thing | None]:
        """Return what a *statement* may write to, after a look at each database that is among it."""
        while True:
            reached = census.reached(statement, purpose, path)
            unseen = {thing.schema: by for thing, by in reached.items() if thing.kind == "database"}
            if not unseen:
                return reached
            for name, by in unseen.items():
                self._require_marked(census, name, by)
            census.look_at(unseen)

    def _require_reach(self, connection: Connection, census: Census, place: Place) -> None:
        has_threads = threading.get_ident() != self._thread and isinstance(connection.engine.pool, SingletonThreadPool)
        if has_threads or place.server != census.place.server:
            self._problems.refuse(
                f"A connection of {census.label} leads to a database that no other connection of this block would"
                " reach, to delete the rows. Let all of an engine's connections lead to one: attach files, and make"
                " temporary triggers, in its event 'connect'. In memory, give it 'poolclass=StaticPool'."
            )

    def _is_marked(self, census: Census, schema: str) -> bool:
        name = census.database_of(schema)
        return name is None or self._database.search(name) is not None

    def _require_marked(self, census: Census, schema: str, by: Thing | None = None) -> None:
        if self._is_marked(census, schema):
            return
        marks = "the word 'test'" if self._database.pattern == TEST_AS_A_WORD else repr(self._database.pattern)
        self._problems.refuse(
            f"A statement may write{_way(by)} to {census.database_of(schema)!r}, in {census.label}, which is not marked"
            f" as a test's database, and this block deletes what is written. Use one whose name has {marks} in it, or"
            " say what marks yours: 'committing(database=...)'."
        )

    def _require_empty(self, census: Census, table: Thing, by: Thing | None) -> None:
        self._require_marked(census, table.schema, by)
        if table.kind == "table" and not census.is_occupied(table):
            return
        why = "had rows before the test" if table.kind == "table" else table.mark
        self._problems.refuse(
            f"A statement may write{_way(by)} to the table {table.full_name!r} of {census.label}, which {why}. What the"
            " test writes there could not be told from the rest, so the statement was not sent. Make what the test"
            " needs in the block, in tables that are empty before it. If the statement only reads that table, write it"
            " as one plain INSERT, UPDATE or DELETE."
        )

    def _refuse_schema(self, census: Census) -> None:
        self._problems.refuse(
            f"This block does not change the schema of {census.label}, because it deletes rows of tables that it has"
            " seen empty. Make, change and drop tables before the block; one for the test alone can be temporary."
        )


def _way(by: Thing | None) -> str:
    """Say what it is that leads a statement to where it may write."""
    return "" if by is None else f", by the {_NAMES.get(by.kind, by.kind)} {by.full_name!r},"
