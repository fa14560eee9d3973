"""The enclosure: the transaction around everything that a test does on one engine."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from sqlite3 import ProgrammingError
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

from .._session import last_word, traces
from ..observe._labels import label_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, SessionTransaction

CHECK = "wsgi_session_check"
"""The execution option of what this package sends for itself."""

FIXED = ("isolation_level", "postgresql_readonly", "postgresql_deferrable")
"""The execution options that a connection can only be given before its transaction."""

_GUARD = "wsgi_session_guard"


@dataclass(slots=True, eq=False)
class Stay:
    """A transaction of a session in an enclosure, which is a savepoint there.  Lives until it ends."""

    session: Session
    transaction: SessionTransaction
    has_committed: bool = False
    has_written: bool = False
    survivor: str | None = None
    """Who has begun after it, and committed; a rollback of this one would undo that."""


class Enclosure:
    """A connection in a transaction that is rolled back in the end.  Lives as long as the isolated block.

    Below everything lies a savepoint. If it is gone in the end, the database has ended the transaction by itself.
    """

    __slots__ = ("_options", "_orphans", "_undo", "connection", "label", "stays")

    def __init__(self, connection: Connection) -> None:
        """Begin on *connection*, and close it in the end."""
        self.connection = connection
        self.label = label_of(connection.engine)
        self.stays: list[Stay] = []
        with ExitStack() as undo:
            undo.enter_context(connection)
            connection.begin()
            undo.callback(connection.rollback)
            _begin_on_sqlite(connection, undo)
            connection.dialect.do_savepoint(connection, _GUARD)
            self._options = dict(connection.engine.get_execution_options())
            self._orphans = self._find_orphans()
            self._undo = undo.pop_all()

    def why_not(self, engine: Engine) -> str | None:
        """Say why the sessions on *engine*, which has the same pool, cannot be let in; None if they can."""
        options = engine.get_execution_options()
        for name in FIXED:
            if options.get(name) != self._options.get(name):
                return f"{name}={options.get(name)!r}, and the first one had {self._options.get(name)!r}"
        return None

    def adapt(self, engine: Engine) -> None:
        """Give the connection the execution options of *engine*, as of a schema for each tenant."""
        wanted = dict(engine.get_execution_options())
        if wanted != self._options:
            dropped = dict.fromkeys(self._options.keys() - wanted.keys())
            changed = {name: value for name, value in (dropped | wanted).items() if name not in FIXED}
            self.connection.execution_options(**changed)
            self._options = wanted

    def commit(self, session: Session, name: str) -> None:
        """Note that *session*, called *name*, has committed what it has done here."""
        for number, stay in enumerate(self.stays):
            if stay.session is session:
                stay.has_committed = True
                for older in self.stays[: number if stay.has_written else 0]:
                    older.survivor = name

    def leave(self, transaction: SessionTransaction) -> str | None:
        """Note that *transaction* has ended.

        Returns:
            Who had committed in it, if it was rolled back.
        """
        found = [stay for stay in self.stays if stay.transaction is transaction]
        self.stays = [stay for stay in self.stays if stay.transaction is not transaction]
        return next((stay.survivor for stay in found if not stay.has_committed), None)

    def begin(self) -> None:
        """Forget the traces of those who were here before: a session begins."""
        left = self.connection.connection
        traces.forget(left)
        traces.traces_of(left).is_begun = True

    def have_last_word(self) -> None:
        """Do as a COMMIT would that is none here, where the database has ended the transaction.

        Raises:
            TransactionLostError: As COMMIT raises it.
        """
        word, savepoint = last_word.of(self.connection.dialect), self.connection.get_nested_transaction()
        if word is not None and word.comes_to_nothing(self.connection) and savepoint is not None:
            name = savepoint._savepoint  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            self.connection.dialect.do_rollback_to_savepoint(self.connection, name)

    def check_constraints(self) -> None:
        """Check what COMMIT would check.

        Raises:
            sqlalchemy.exc.IntegrityError: As COMMIT raises it.
        """
        if self.connection.dialect.name == "postgresql":
            with self.connection.begin_nested() as check:
                self.connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE", execution_options={CHECK: True})
                check.rollback()  # which of them are deferred is as it was
        elif self._find_orphans() - self._orphans:
            cause = self.connection.dialect.loaded_dbapi.IntegrityError("FOREIGN KEY constraint failed")
            raise IntegrityError("COMMIT", None, cause)

    def end(self) -> str | None:
        """Roll back, and give the connection back as it was.

        Returns:
            What has ended the transaction before, if anything has.
        """
        with self._undo:
            try:
                self.connection.dialect.do_rollback_to_savepoint(self.connection, _GUARD)
            except DBAPIError:
                return self._lost() or self._ended()
            except InvalidRequestError:  # also what SQLAlchemy says when a COMMIT was refused
                return self._lost()
        return None

    def _lost(self) -> str | None:
        if self.connection.invalidated:
            return f"The connection to {self.label} was lost, and all that the test has written with it."
        return None

    def _ended(self) -> str:
        return (
            f"The transaction around the test on {self.label} was ended by the database itself,"
            " so that rows may be left in it: MariaDB and MySQL commit before a statement that changes a table's"
            " definition, and any database does at a COMMIT that is sent as text. Do that before the block,"
            " or use 'committing()'."
        )

    def _find_orphans(self) -> frozenset[Any]:
        """Find the rows that SQLite's COMMIT would refuse, where it enforces foreign keys."""
        if self.connection.dialect.name != "sqlite" or not self._ask("PRAGMA foreign_keys")[0][0]:
            return frozenset()
        return frozenset(tuple(row) for row in self._ask("PRAGMA foreign_key_check"))

    def _ask(self, question: str) -> Any:
        return self.connection.exec_driver_sql(question, execution_options={CHECK: True}).all()


def _begin_on_sqlite(connection: Connection, undo: ExitStack) -> None:
    """Begin for real, where Python's SQLite driver would wait for a write, and commit with the first savepoint."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite" and not driver.in_transaction:
        undo.callback(_end_on_sqlite, driver, driver.isolation_level)
        driver.isolation_level = None
        driver.execute("BEGIN")


def _end_on_sqlite(driver: Any, isolation_level: str | None) -> None:
    with suppress(ProgrammingError):  # it is closed: the connection was lost
        driver.rollback()
        driver.isolation_level = isolation_level
