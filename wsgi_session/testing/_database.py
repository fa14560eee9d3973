"""The database behind an engine: which one it is, and on what terms a connection is in it, as it says itself.

A URL tells neither: one server has many addresses, one file many paths, and a ``creator=`` has none.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

Terms = dict[str, object]


@dataclass(frozen=True, slots=True)
class Database:
    """A database as a connection sees it.  Lives as long as the isolated block."""

    identity: Hashable
    """What it has in common with no other; None where nobody can tell."""

    kind: str
    """Such as ``"postgresql"``."""

    terms: Terms
    """What is not the same for all who are in it: who they are, and what they have set."""

    def why_not_join(self, other: Database) -> str | None:
        """Say why who is in this database on *other* terms cannot share a connection; None if nothing differs."""
        for name, value in self.terms.items():
            if other.terms.get(name) != value:
                return f"{name}={other.terms.get(name)!r}, and the first one had {value!r}"
        return None


def database_of(connection: Connection) -> Database:
    """Ask *connection* which database it is in; past SQLAlchemy, so that nobody counts that."""
    kind = "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name
    ask = _ASK.get(kind)
    if ask is None:
        return Database(_address(connection), kind, {})
    identity, terms = ask(connection)
    terms |= {"driver": connection.dialect.driver, "isolation_level": connection.get_isolation_level()}
    return Database((kind, *identity), kind, terms)


def _ask_postgresql(connection: Connection) -> tuple[tuple[Hashable, ...], Terms]:
    started, name, user, path, access = _row(
        connection,
        "SELECT extract(epoch FROM pg_postmaster_start_time()), current_database(), current_user,"
        " current_setting('search_path'), current_setting('transaction_read_only')",
    )
    return (started, name), {"user": user, "search_path": path, "transaction_read_only": access}


def _ask_mysql(connection: Connection) -> tuple[tuple[Hashable, ...], Terms]:
    host, port, folder, name, user, mode = _row(
        connection, "SELECT @@hostname, @@port, @@datadir, DATABASE(), CURRENT_USER(), @@sql_mode"
    )
    return (host, port, folder, name), {"user": user, "sql_mode": mode}


def _ask_sqlite(connection: Connection) -> tuple[tuple[Hashable, ...], Terms]:
    terms: Terms = {name: _row(connection, f"PRAGMA {name}")[0] for name in ("foreign_keys", "query_only")}
    terms["mode"] = connection.engine.url.query.get("mode")
    _, _, file = _row(connection, "PRAGMA database_list")
    if file:
        return (os.path.realpath(file),), terms
    named = connection.engine.url.database if terms["mode"] == "memory" else None
    return (named or id(connection.connection.driver_connection),), terms


_ASK: dict[str, Callable[[Connection], tuple[tuple[Hashable, ...], Terms]]] = {
    "mysql": _ask_mysql,
    "postgresql": _ask_postgresql,
    "sqlite": _ask_sqlite,
}


def _address(connection: Connection) -> Hashable:
    url = connection.engine.url
    address = (url.host, url.port, url.database)
    return (connection.dialect.name, *address) if any(address) else None


def _row(connection: Connection, question: str) -> Any:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(question)
        return cursor.fetchone()
    finally:
        cursor.close()
