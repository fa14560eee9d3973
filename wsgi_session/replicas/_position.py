"""A position: how far a server has come in the log of changes, and how it is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Position: TypeAlias = Mapping[str, int]
"""How far a server has come in each domain of its log. PostgreSQL has one, named ``""``."""

NOWHERE: Position = {}
"""What every server has reached."""


@dataclass(frozen=True, slots=True)
class Log:
    """How a kind of database is asked for its position."""

    of_primary: str
    """The query that asks the primary, right after a COMMIT, on the same connection."""

    of_replica: str
    """The query that asks a replica: whether it is one, and its position."""

    reads_only: str
    """The statement by which a connection refuses every write, also when its server has become a primary."""

    parse: Callable[[str], Position]
    """Reads what the server has answered."""


def reaches(position: Position, target: Position) -> bool:
    """Say whether *position* is at *target* or behind it."""
    return all(position.get(domain, 0) >= at for domain, at in target.items())


def furthest(one: Position, other: Position) -> Position:
    """Return the position that has reached both."""
    return {domain: max(one.get(domain, 0), other.get(domain, 0)) for domain in {**one, **other}}


def answer_of(connection: Any, *statements: str) -> Any:
    """Send statements on a driver's *connection* that is in no transaction, without beginning one.

    Returns:
        The first row of the last one.
    """
    begins = getattr(connection, "autocommit", None) is False  # PostgreSQL's drivers do; on MySQL's that is a method
    if begins:
        connection.autocommit = True
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    found = cursor.fetchone()
    cursor.close()
    if begins:
        connection.autocommit = False
    return found


def written(position: Position) -> str:
    """Write a position with characters that a cookie may have."""
    return "_".join(f"{domain}-{at:x}" for domain, at in sorted(position.items()))


def read(text: str) -> Position:
    """Read what `written` has written.

    Raises:
        ValueError: If it is none.
    """
    pairs = (pair.partition("-") for pair in text.split("_"))
    return {domain: int(at, 16) for domain, _, at in pairs}


def _of_lsn(text: str) -> Position:
    """Read a position of PostgreSQL's, such as ``"0/4DED920"``."""
    high, _, low = text.partition("/")
    return {"": (int(high, 16) << 32) + int(low, 16)}


def _of_gtids(text: str) -> Position:
    """Read a set of MariaDB's GTIDs, such as ``"0-1-57,1-5-3"``: a domain, a server, and a number each."""
    found: dict[str, int] = {}
    for gtid in filter(None, text.split(",")):
        domain, _, number = gtid.strip().split("-")
        found[domain] = max(found.get(domain, 0), int(number))
    return found


_OF_POSTGRESQL = Log(
    of_primary="SELECT pg_current_wal_insert_lsn()",
    of_replica="SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()",
    reads_only="SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    parse=_of_lsn,
)
_OF_MARIADB = Log(
    of_primary="SELECT @@last_gtid",
    of_replica="SELECT @@gtid_slave_pos <> '', @@gtid_slave_pos",
    reads_only="SET SESSION TRANSACTION READ ONLY",
    parse=_of_gtids,
)


def log_of(engine: Any) -> Log:
    """Return the log of an engine's database.

    Raises:
        TypeError: If its positions are not known.
    """
    dialect = engine.dialect
    if dialect.name == "postgresql":
        return _OF_POSTGRESQL
    if dialect.name in ("mariadb", "mysql") and (dialect.name == "mariadb" or getattr(dialect, "is_mariadb", False)):
        return _OF_MARIADB
    raise TypeError(
        f"{engine!r}: replicas of {dialect.name!r} are not known. They can be PostgreSQL's or MariaDB's; an address of"
        " MariaDB begins with 'mariadb+'."
    )
