"""SQLite, as a system whose tables can be emptied."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from ._catalog import Thing
from ._system import Place, System

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._system import Ask

_ACTIONS = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})

_begin = re.compile(r"\bBEGIN\b", re.IGNORECASE)


class SQLite(System):
    """SQLite: a schema is a file that is attached, and ``main`` the one that the engine names."""

    def place(self, ask: Ask) -> Place:
        """Find out where a connection is; temporary triggers and views are its own."""
        files = tuple((name, file) for _, name, file in ask("PRAGMA database_list") if name != "temp")
        own = ask("SELECT type, name, sql FROM sqlite_temp_master WHERE type IN ('trigger', 'view') ORDER BY name")
        return Place((files, tuple(map(tuple, own))), ("temp", *(name for name, _ in files)))

    def database_of(self, schema: str, place: Place) -> str | None:
        """Return the name of its file."""
        return PurePath(dict(place.server[0]).get(schema) or "").name or None

    def schemas_of(self, place: Place) -> Sequence[str]:
        """List the files that are attached."""
        return (*place.path[1:], "temp")

    def things(self, ask: Ask, schemas: Iterable[str]) -> Iterable[Thing]:
        """Read each file's own list."""
        for schema in schemas:
            for kind, name, table, sql in ask(f"SELECT type, name, tbl_name, sql FROM {self._list_of(schema)}"):
                if kind == "trigger":
                    yield Thing(kind, schema, name, None if schema == "temp" else schema, table, _body(sql))
                elif kind == "view":
                    yield Thing(kind, schema, name, text=sql)
                elif kind == "table" and schema != "temp" and not name.startswith("sqlite_"):
                    yield Thing(kind, schema, name, mark=sql)
                    yield from self._keys(ask, schema, name)

    def empty(self, ask: Ask, tables: Iterable[Thing]) -> None:
        """Delete without regard to foreign keys, which would reach other tables."""
        ((enforced,),) = ask("PRAGMA foreign_keys")
        ask("PRAGMA foreign_keys = OFF")
        for table in tables:
            ask(f"DELETE FROM {self.written(table)}")
        ask(f"PRAGMA foreign_keys = {enforced}")

    def _keys(self, ask: Ask, schema: str, name: str) -> Iterable[Thing]:
        key_list = f"""PRAGMA {self.quoted(schema)}.foreign_key_list({self.quoted(name)})"""
        for _, _, parent, _, _, on_update, on_delete, _ in ask(key_list):
            if {on_update, on_delete} & _ACTIONS:
                yield Thing("key", schema, name, schema, parent)

    def _list_of(self, schema: str) -> str:
        return "sqlite_temp_master" if schema == "temp" else f"{self.quoted(schema)}.sqlite_master"


def _body(trigger: str) -> str:
    """Return what a trigger of SQLite does, without what it is on."""
    begin = _begin.search(trigger)
    return trigger if begin is None else trigger[begin.end() :]
