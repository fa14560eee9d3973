"""The strangers: connections beside the test's transaction, whose commits are real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._session import engines
from .._sql import texts
from ..observe._callers import Callers
from ..observe._labels import label_of
from ..registry import has_sessions
from ._database import database_of
from ._problems import REMEDY

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sqlalchemy import Connection, Engine

    from ._enclosures import Enclosures
    from ._problems import Problems

_DML = frozenset({"delete", "insert", "replace", "update"})
"""Before which Python's SQLite driver begins by itself."""


class Strangers:
    """What was committed beside the test's transaction.  Lives as long as the isolated block.

    It is refused where the engine is a registry's, or one on whose database sessions of the block are; where that only
    turns out later, it is told in the end.
    """

    __slots__ = ("_callers", "_enclosures", "_met", "_problems")

    def __init__(self, enclosures: Enclosures, problems: Problems) -> None:
        """Tell *problems* of what does not go through *enclosures*."""
        self._callers = Callers()
        self._enclosures = enclosures
        self._met: list[tuple[Engine, Hashable, str]] = []
        self._problems = problems

    def on_commit(self, connection: Connection) -> None:
        """Refuse a COMMIT; where each statement commits by itself, each is asked about."""
        if not engines.is_autocommit(connection):
            self._meet(connection, "A connection")

    def on_execute(self, connection: Connection, statement: str, is_harmless: bool) -> None:
        """Refuse a statement that commits, itself or what was written before it."""
        if texts.is_commit(statement, connection.dialect.name) or (
            not is_harmless and _commits_at_once(connection, statement)
        ):
            self._meet(connection, "A statement that commits by itself")

    def tell(self) -> None:
        """Note what has turned out to concern the test."""
        for engine, identity, problem in self._met:
            if self._enclosures.has(engine, identity):
                self._problems.note(problem)

    def _meet(self, connection: Connection, what: str) -> None:
        engine, line = connection.engine, self._callers.line()
        identity = _identity_of(connection)
        problem = (
            f"{what} on {label_of(engine)} commits outside of the test's transaction"
            f"{f' at {line}' if line else ''}; nothing can undo that. Send it through the session of a registry"
            f" ('session.execute(...)', 'session.connection()'). {REMEDY}"
        )
        if has_sessions(engine) or self._enclosures.has(engine, identity):
            if self._enclosures.around(connection) is None:
                connection.dialect.do_rollback(connection.connection)
            self._problems.refuse(problem)
        self._met.append((engine, identity, problem))


def _identity_of(connection: Connection) -> Hashable:
    try:
        return database_of(connection).identity
    except Exception:  # of the driver: its transaction has failed, and so its COMMIT is none
        return None


def _commits_at_once(connection: Connection, statement: str) -> bool:
    """Say whether what is sent on *connection*, and writes, is committed without a COMMIT."""
    driver: Any = connection.connection.driver_connection
    dialect = connection.dialect.name
    if dialect == "sqlite" and not driver.in_transaction:
        return driver.isolation_level is None or texts.word_of(statement, dialect) not in _DML
    if texts.commits_on_mysql(statement, dialect):
        return True
    return engines.is_autocommit(connection)
