"""The catalog: what there is in a database, and what a statement reaches in it.  Pure."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ._targets import ESCAPED, OPAQUE, Purpose, targets_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


TABLES = frozenset({"table", "sealed"})
"""The kinds of what has rows."""

ATTRIBUTE = "attribute"
"""The mark of a routine that may be called without a parenthesis."""

_RELATIONS = TABLES | {"view"}

_OF_TEMPORARY = frozenset({"pg_temp", "temp"})
"""The schemas of tables that are a connection's own."""

_doubles = re.compile(r"""\\?["`\]%]""")


class Thing(NamedTuple):
    """Something in a database that is written to, or writes."""

    kind: str
    """``"table"``; ``"sealed"``, a table whose rows cannot be seen or deleted; ``"view"``; ``"routine"``;
    ``"trigger"``, ``"key"`` and ``"part"``, which write when the table that they are on is written to; ``"database"``,
    one that was not looked at."""

    schema: str
    name: str
    on_schema: str | None = None
    on_name: str | None = None
    text: str = ""
    """SQL that runs with it."""

    mark: str = ""
    """For a table, what tells it from another one of the same name; for a sealed one, why it is."""

    @property
    def full_name(self) -> str:
        """Its name with that of its schema."""
        return f"{self.schema}.{self.name}"


class Catalog:
    """What there is in a database, at one time."""

    def __init__(self, things: Iterable[Thing], databases: Iterable[str] = ()) -> None:
        """Note what there is.

        Args:
            things: All of them.
            databases: The names of what else is on the server.
        """
        self.things = frozenset(things)
        self._named: dict[str, list[Thing]] = {}
        self._on: dict[str, list[Thing]] = {}
        for thing in self.things:
            if thing.on_name is None:
                self._named.setdefault(thing.name.casefold(), []).append(thing)
            else:
                self._on.setdefault(thing.on_name.casefold(), []).append(thing)
        self._databases = {name.casefold(): Thing("database", name, "*") for name in databases}
        schemas = _any_of({thing.schema for thing in self.things} | _OF_TEMPORARY)
        self._name = re.compile(
            rf"""(\bCALL\s+["`]?)?(?:(?<!\w)({schemas})["`\]]?\.["`\[]?)?(?<!\w)({_any_of(self._named)})(?!\w)
                 (["`]?\s*(?:\(|/\*|--))?""".replace("\n" + 17 * " ", ""),
            re.IGNORECASE,
        )
        database = rf"""(?<!\w)({_any_of(self._databases)})["`]?\s*\."""
        self._database = re.compile(database, re.IGNORECASE)
        self._call = re.compile(rf"""{database}\s*(?:\w+|"[^"]+"|`[^`]+`)\s*\(""", re.IGNORECASE)

    def reached(self, statement: str, purpose: Purpose, path: Sequence[str] | None = None) -> dict[Thing, Thing | None]:
        """Return what a *statement* may write to, each with that which leads there.

        Args:
            statement: Its text.
            purpose: What it is sent for.
            path: The schemas in which a name without one is looked for, in order; None if that is not known.
        """
        left: list[tuple[Thing, Thing | None]] = [(thing, None) for thing in self._begun(statement, purpose, path)]
        found: dict[Thing, Thing | None] = {}
        while left:
            thing, by = left.pop()
            if thing not in found:
                found[thing] = by
                left += [(one, thing) for one in self._next(thing)]
        return found

    def _begun(self, statement: str, purpose: Purpose, path: Sequence[str] | None) -> Iterator[Thing]:
        if purpose is Purpose.READ:
            return self._called(statement)
        if purpose is Purpose.WRITE:
            return chain(self._hidden(statement, ESCAPED), self._written(statement, path))
        return chain(self._hidden(statement), self._named_in(statement, path))

    def _next(self, thing: Thing) -> Iterator[Thing]:
        """Yield what is written to when *thing* is written to, or runs."""
        if thing.kind in ("key", "part"):
            yield from self._at(thing.schema, thing.name)
        elif thing.kind in ("routine", "trigger"):
            yield from chain(self._hidden(thing.text), self._written(thing.text))
        else:
            yield from self._named_in(thing.text) if thing.kind == "view" else self._called(thing.text)
            for one in self._on.get(thing.name.casefold(), ()):
                if one.on_schema in (None, thing.schema):
                    yield one

    def _at(self, schema: str, name: str) -> Iterator[Thing]:
        if schema.casefold() in self._databases:
            yield self._databases[schema.casefold()]
        for thing in self._named.get(name.casefold(), ()):
            if thing.schema == schema and thing.kind in _RELATIONS:
                yield thing

    def _written(self, text: str, path: Sequence[str] | None = None) -> Iterator[Thing]:
        """Yield what *text* writes to."""
        for target in targets_in(text):
            yield from self._named_in(target, path)
        yield from self._called(text)

    def _called(self, text: str) -> Iterator[Thing]:
        """Yield the routines that *text* may call, itself or by the views that it reads, or the databases of these."""
        left, read = [text], set[Thing]()
        while left:
            one = left.pop()
            yield from (self._databases[_undoubled(call[1])] for call in self._call.finditer(one))
            for thing in self._named_in(one):
                if thing.kind == "routine":
                    yield thing
                elif thing.kind == "view" and thing not in read:
                    read.add(thing)
                    left.append(thing.text)

    def _named_in(self, text: str, path: Sequence[str] | None = None) -> Iterator[Thing]:
        """Yield all that *text* may name."""
        for found in self._database.finditer(text):
            yield self._databases[_undoubled(found[1])]
        for found in self._name.finditer(text):
            before, schema, name, after = found.groups()
            things = self._named[_undoubled(name)]
            if schema is not None:
                things = [thing for thing in things if thing.schema.casefold() == _undoubled(schema)]
            elif path is not None:
                things = _first(things, path)
            for thing in things:
                if before or after or thing.kind != "routine" or thing.mark == ATTRIBUTE:
                    yield thing

    def _hidden(self, text: str, words: re.Pattern[str] = OPAQUE) -> Iterator[Thing]:
        """Yield everything, if *text* has one of those *words* that keep what it writes to from being read."""
        if words.search(text):
            yield from self._databases.values()
            yield from (thing for thing in self.things if thing.kind in TABLES)


def _first(things: Iterable[Thing], path: Sequence[str]) -> list[Thing]:
    """Return those of *things* that a name without a schema means: routines, and for each spelling a relation."""
    found, met = list[Thing](), set[str]()
    for thing in sorted(things, key=lambda one: path.index(one.schema) if one.schema in path else len(path)):
        if thing.kind == "routine" or (thing.schema in path and thing.name not in met):
            found.append(thing)
        if thing.kind in _RELATIONS:
            met.add(thing.name)
    return found


def _any_of(names: Iterable[str]) -> str:
    """Write a pattern for *names*, in which what stands for a quote in a quoted name may be doubled."""
    patterns = [_doubles.sub(r"(?:\g<0>){1,2}", re.escape(name)) for name in sorted(names, key=len, reverse=True)]
    return "|".join(patterns) or "(?!)"


def _undoubled(name: str) -> str:
    return re.sub(r"""(["`\]%])\1""", r"\1", name).casefold()
