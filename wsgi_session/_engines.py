"""The engines on which sessions have begun, and their connections.

`meet` sees to it that a connection goes back to its pool in no transaction, and that a child process has a pool of its
own.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from sqlalchemy import Engine, event
from sqlalchemy.pool import Pool, SingletonThreadPool, StaticPool

from . import _fork

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection


def meet(engine: Engine) -> None:
    """Take note of an engine on which a session begins for the first time."""
    engines.add(engine)
    met.add(id(engine))
    weakref.finalize(engine, met.discard, id(engine)).atexit = False
    if engine.dialect.name == "sqlite":
        event.listen(engine.pool, "reset", _on_reset)


def replace_pool(engine: Engine) -> None:
    """Give *engine* a new pool, in a child process; an in-memory database is a copy of the child's own."""
    if not is_database(engine.pool):
        _fork.kept.append(engine.pool)
        engine.dispose(close=False)


def is_database(pool: Pool) -> bool:
    """Say whether *pool* is the database itself, as of one in memory, which is gone with its connection."""
    return isinstance(pool, StaticPool | SingletonThreadPool)


def is_autocommit(connection: Connection) -> bool:
    """Say whether each statement on *connection* is committed by itself, as SQLAlchemy or the driver has it.

    SQLAlchemy has no public name for what it asks itself.
    """
    by_sqlalchemy = connection._is_autocommit_isolation()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return by_sqlalchemy or of_driver(connection, "autocommit", default=False) is True


def of_driver(connection: Connection, name: str, *, default: object) -> object:
    """Read an attribute of the driver's connection, which may lack it, or be closed already."""
    try:
        return getattr(connection.connection.driver_connection, name, default)
    except Exception:  # of the driver
        return default


def _on_reset(connection: sqlite3.Connection, *_of_the_event: object) -> None:
    """Roll back what a failed COMMIT has left open, or the next who gets *connection* would commit it.

    SQLite goes on with the transaction, SQLAlchemy takes it for ended. If this raises, the pool throws the connection
    away. A listener to ``handle_error`` would roll back earlier, but each statement of the engine would pay for it.
    """
    if connection.in_transaction:
        connection.rollback()


engines: _fork.Inheritance[Engine] = _fork.Inheritance(replace_pool)
"""The engines on which a session has begun."""

met: set[int] = set()
"""Their ids: to look for an engine in a `WeakSet` costs ten times as much."""
