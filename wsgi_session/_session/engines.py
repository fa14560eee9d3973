"""The engines on which sessions have begun, and their connections.

`meet` sees to it that a connection goes back to its pool in no transaction, and that a child process has a pool of its
own.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine

from .. import _fork
from .._log import log
from . import drivers, last_word, pools

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, PoolProxiedConnection


def meet(engine: Engine) -> None:
    """Take note of an engine on which sessions begin, before the first one does, if it is known by then."""
    if id(engine) in met:
        return
    engines.add(engine)
    met.add(id(engine))
    weakref.finalize(engine, met.discard, id(engine)).atexit = False
    pools.watch(engine.pool)
    dialect: Any = engine.dialect
    if not getattr(dialect, _MET, False):  # engines with options share the dialect of the engine they were made from
        setattr(dialect, _MET, True)
        last_word.give_to(dialect)
        engine.clear_compiled_cache()  # what was compiled before is not known
        if dialect.name == "sqlite":
            dialect.do_commit = partial(_commit_or_roll_back, dialect.do_commit)


def replace_pool(engine: Engine) -> None:
    """Give *engine* a new pool, in a child process; an in-memory database is a copy of the child's own."""
    if not pools.is_database(engine.pool):
        _fork.kept.append(engine.pool)
        engine.dispose(close=False)


def is_autocommit(connection: Connection) -> bool:
    """Say whether each statement on *connection* is committed by itself, as SQLAlchemy or the driver has it.

    SQLAlchemy has no public name for what it asks itself.
    """
    if connection._is_autocommit_isolation():  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        return True
    ask = of_driver(connection, "get_autocommit", default=None)  # of MySQL's, whose 'autocommit' is a method
    return bool(ask()) if callable(ask) else of_driver(connection, "autocommit", default=False) is True


def cannot_write(connection: Connection) -> bool:
    """Say whether the server is known to refuse every write on *connection*: a standby, or one that only reads.

    As the server has told the driver, which PostgreSQL does from version 14 on, also when a standby is promoted.
    """
    return _is_refused(connection, counts_default=is_autocommit(connection))


def is_read_only(connection: Connection) -> bool:
    """Say whether the server refuses a write on *connection* unless a transaction asks to be one that writes."""
    return _is_refused(connection, counts_default=True)


def _is_refused(connection: Connection, counts_default: bool) -> bool:
    driver = drivers.KNOWN.get(connection.dialect.driver)
    try:
        return driver is not None and driver.cannot_write(connection.connection.driver_connection, counts_default)
    except Exception:  # of a connection that is closed
        return False


def of_driver(connection: Connection, name: str, *, default: object) -> object:
    """Read an attribute of the driver's connection, which may lack it, or be closed already."""
    try:
        return getattr(connection.connection.driver_connection, name, default)
    except Exception:  # of the driver
        return default


def _commit_or_roll_back(commit: Callable[[PoolProxiedConnection], None], connection: PoolProxiedConnection) -> None:
    """Do as *commit*, the ``do_commit()`` of a dialect, and roll back what it could not commit.

    SQLite goes on with a transaction whose COMMIT has failed, and SQLAlchemy takes it for ended, so that the next who
    gets *connection* would commit it. A listener to ``handle_error`` would have its price for every statement, one to
    the ``reset`` of the pool for every request.
    """
    try:
        commit(connection)
    except BaseException:
        try:
            connection.rollback()
        except Exception:
            log.exception("A failed COMMIT could not be rolled back; its connection is thrown away.")
            connection.invalidate()
        raise


engines: _fork.Inheritance[Engine] = _fork.Inheritance(replace_pool)
"""The engines on which a session has begun."""

_MET = "_wsgi_session_met"
"""The attribute of a dialect that has been met."""

met: set[int] = set()
"""Their ids: to look for an engine in a `WeakSet` costs ten times as much."""
