"""The database system: how it is asked what there is, and how tables are emptied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from ._catalog import Thing

Ask = Callable[[str], Sequence[Sequence[Any]]]
"""Sends a statement, as text, and returns its rows."""

_MAX_TABLES_IN_A_QUESTION = 200


class Place(NamedTuple):
    """Where a connection is."""

    server: tuple[Any, ...]
    """What tells the databases in reach from others."""

    path: tuple[str, ...]
    """The schemas in which a name without one is looked for, in order."""


class System(ABC):
    """A kind of database."""

    quote: ClassVar[str] = '"'
    """What stands on both sides of a name."""

    preparation: ClassVar[Sequence[str]] = ()
    """What is sent first on a connection of the block's own."""

    @abstractmethod
    def place(self, ask: Ask) -> Place:
        """Find out where a connection is."""

    @abstractmethod
    def database_of(self, schema: str, place: Place) -> str | None:
        """Return the name of the database that *schema* is in; None if it is in memory."""

    def schemas_of(self, place: Place) -> Sequence[str]:
        """List the schemas that a statement may write to in *place*; first that of a name without one."""
        return place.path

    def databases(self, ask: Ask) -> Iterable[str]:  # noqa: ARG002
        """List the databases that a statement can reach by their names."""
        return ()

    @abstractmethod
    def things(self, ask: Ask, schemas: Iterable[str]) -> Iterable[Thing]:
        """List what there is in *schemas*."""

    def occupied(self, ask: Ask, things: Iterable[Thing]) -> set[Thing]:
        """Return those tables among *things* that have rows."""
        tables = sorted(thing for thing in things if thing.kind == "table")
        found = set[Thing]()
        for start in range(0, len(tables), _MAX_TABLES_IN_A_QUESTION):
            part = tables[start : start + _MAX_TABLES_IN_A_QUESTION]
            questions = (f"SELECT {n}, EXISTS (SELECT 1 FROM {self.written(one)})" for n, one in enumerate(part))
            found |= {part[number] for number, has_rows in ask(" UNION ALL ".join(questions)) if has_rows}
        return found

    @abstractmethod
    def empty(self, ask: Ask, tables: Iterable[Thing]) -> None:
        """Delete the rows of *tables*, whichever refer to each other, and no others'."""

    def written(self, thing: Thing) -> str:
        """Write the full name of *thing*, as SQL."""
        return f"{self.quoted(thing.schema)}.{self.quoted(thing.name)}"

    def quoted(self, name: str) -> str:
        """Write a *name*, as SQL."""
        return self.quote + name.replace(self.quote, 2 * self.quote) + self.quote
