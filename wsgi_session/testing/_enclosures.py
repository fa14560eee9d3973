"""The enclosures of a block: one for each database, whichever engines are on it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from .._session import engines
from ..observe._labels import label_of
from ._database import database_of
from ._enclosure import Enclosure
from ._problems import REMEDY

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import Pool

    from ._database import Database
    from ._leaks import LeakWatch
    from ._problems import Problems


class Enclosures:
    """Finds the enclosure of an engine, or makes it.  Lives as long as the isolated block."""

    __slots__ = ("_by_pool", "_leaks", "_problems")

    def __init__(self, leaks: LeakWatch, problems: Problems) -> None:
        """Begin with none; their connections are no *leaks*, and what is refused is among the *problems*."""
        self._by_pool: dict[Pool, Enclosure] = {}
        self._leaks = leaks
        self._problems = problems

    def __iter__(self) -> Iterator[Enclosure]:
        """Iterate over them, in the order in which they were made."""
        return iter(dict.fromkeys(self._by_pool.values()))

    def of(self, engine: Engine) -> Enclosure:
        """Return the enclosure that the sessions on *engine* are in, with a connection that has its options.

        Raises:
            IsolationError: If they cannot be in one with those that are there.
        """
        enclosure = self._by_pool.get(engine.pool)
        if enclosure is None:
            enclosure = self._by_pool[engine.pool] = self._enter(engine)
        elif reason := enclosure.why_not(engine):
            self._refuse(enclosure, engine, reason)
        return enclosure

    def around(self, connection: Connection) -> Enclosure | None:
        """Return the enclosure whose connection *connection* is."""
        enclosure = self._by_pool.get(connection.engine.pool)
        return enclosure if enclosure is not None and enclosure.connection is connection else None

    def has(self, engine: Engine, identity: Hashable) -> bool:
        """Say whether sessions on *engine*, or others in the database of that *identity*, are in one of them."""
        if engine.pool in self._by_pool:
            return True
        return identity is not None and any(enclosure.database.identity == identity for enclosure in self)

    def end(self) -> None:
        """End all of them."""
        with ExitStack() as stack:
            for enclosure in self:
                stack.callback(self._end, enclosure)

    def _enter(self, engine: Engine) -> Enclosure:
        """Begin on the database of *engine*, or join those who are there."""
        with ExitStack() as undo:
            connection = undo.enter_context(engine.connect())
            self._leaks.disregard(connection.connection.dbapi_connection)
            if engines.is_autocommit(connection):
                self._problems.refuse(
                    f"{label_of(engine)} commits each statement by itself, which nothing can undo. {REMEDY}"
                )
            database = database_of(connection)
            for enclosure in self:
                if self._is_one(enclosure, engine, database):
                    enclosure.admit(engine)
                    return enclosure
            undo.pop_all()
        return Enclosure(connection, database)

    def _is_one(self, enclosure: Enclosure, engine: Engine, database: Database) -> bool:
        """Say whether *enclosure* is in *database*, where the sessions on *engine* are to be."""
        there = enclosure.database
        if there.kind == database.kind and None in (there.identity, database.identity):
            self._refuse(enclosure, engine, "a database of its own, or the same one: nobody can tell")
        if there.identity != database.identity:
            return False
        if reason := there.why_not_join(database):
            self._refuse(enclosure, engine, reason)
        return True

    def _refuse(self, enclosure: Enclosure, engine: Engine, reason: str) -> NoReturn:
        self._problems.refuse(
            f"The sessions of one test share the connection of {enclosure.label}; on {label_of(engine)} one of them"
            f" wants {reason}. {REMEDY}"
        )

    def _end(self, enclosure: Enclosure) -> None:
        if gone := enclosure.end():
            self._problems.note(gone)
