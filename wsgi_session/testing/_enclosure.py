"""The enclosure: the transaction around everything that a test does on one engine."""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from sqlite3 import ProgrammingError
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError

from .._session import last_word, traces
from .._session.codes import name_of
from .._sql import texts
from ..observe._labels import label_of
from ._savepoints import Savepoints

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import Pool

    from ._database import Database
    from ._savepoints import Stay

CHECK = "wsgi_session_check"
"""The execution option of what this package sends for itself."""

FIXED = ("isolation_level", "postgresql_readonly", "postgresql_deferrable")
"""The execution options that a connection can only be given before its transaction."""

_GUARD = "wsgi_session_guard"

_foreign_keys = re.compile(r"\s*PRAGMA\s+(?:\w+\.)?foreign_keys\s*[=(]\s*['\"]?(\w+)", re.IGNORECASE)

_ON = frozenset({"1", "on", "true", "yes"})


class Enclosure:
    """A connection in a transaction that is rolled back in the end.  Lives as long as the isolated block.

    It serves all engines of one database, so that what one of them commits the others see.
    Below everything lies a savepoint. If it is gone in the end, the database has ended the transaction by itself.
    """

    __slots__ = (
        "_fixed",
        "_options",
        "_orphans",
        "_undo",
        "busy",
        "connection",
        "database",
        "is_ended",
        "label",
        "savepoints",
        "undone_by",
    )

    busy: int | None
    """The thread whose statement is being sent."""

    is_ended: bool
    """Whether COMMIT or ROLLBACK was sent as text."""

    undone_by: str | None
    """The error with which the database has rolled back all that was written so far."""

    def __init__(self, connection: Connection, database: Database) -> None:
        """Begin on *connection*, which is in *database*, and close it in the end."""
        self.busy = None
        self.connection = connection
        self.database = database
        self.is_ended = False
        self.label = label_of(connection.engine)
        self.savepoints = Savepoints(connection)
        self.undone_by = None
        with ExitStack() as undo:
            undo.enter_context(connection)
            connection.begin()
            undo.callback(connection.rollback)
            _begin_on_sqlite(connection, undo)
            connection.dialect.do_savepoint(connection, _GUARD)
            self._fixed: dict[Pool, dict[str, object]] = {}
            self._options = dict(connection.engine.get_execution_options())
            self._orphans = self._find_orphans()
            self._undo = undo.pop_all()
        self.admit(connection.engine)

    def admit(self, engine: Engine) -> None:
        """Let the sessions on *engine* in, and on all that have its pool and the same of the `FIXED` options."""
        self._fixed[engine.pool] = _fixed_options(engine)

    def why_not(self, engine: Engine) -> str | None:
        """Say why the sessions on *engine*, one with whose pool was admitted, cannot be let in; None if they can."""
        admitted, wanted = self._fixed[engine.pool], _fixed_options(engine)
        for name in FIXED:
            if wanted[name] != admitted[name]:
                return f"{name}={wanted[name]!r}, and the first one had {admitted[name]!r}"
        return None

    def adapt(self, engine: Engine) -> None:
        """Give the connection the execution options of *engine*, as of a schema for each tenant."""
        wanted = dict(engine.get_execution_options())
        if wanted != self._options:
            dropped = dict.fromkeys(self._options.keys() - wanted.keys())
            changed = {name: value for name, value in (dropped | wanted).items() if name not in FIXED}
            self.connection.execution_options(**changed)
            self._options = wanted

    def note_error(self, error: BaseException) -> None:
        """Note an *error* of the driver's; where the database has rolled back everything with it, begin anew."""
        left = traces.look_at(self.connection.connection) if traces.is_usable(self.connection) else None
        if left is not None and not self.is_ended and (left.has_begun_anew or (left.is_lost and left.error is error)):
            left.has_begun_anew = False
            self.undone_by = self.undone_by or name_of(error)
            self.connection.dialect.do_savepoint(self.connection, _GUARD)
            self.savepoints.begin_anew()

    def note_statement(self, statement: str) -> None:
        """Note a *statement* that was sent."""
        self.is_ended = self.is_ended or texts.end_of(statement, self.connection.dialect.name) is not None

    def why_ignored(self, statement: str) -> str | None:
        """Say why the database would ignore a *statement* in a transaction, without a word; None if it does not."""
        pragma = _foreign_keys.match(statement) if self.connection.dialect.name == "sqlite" else None
        if pragma is None or (pragma[1].lower() in _ON) == bool(self.database.terms["foreign_keys"]):
            return None
        return (
            f"{pragma[0]!r} does nothing within a transaction, and all of the test is in one. Have each connection send"
            " it, in a listener to the event 'connect' of the engine."
        )

    def have_last_word(self, stay: Stay) -> None:
        """Do as the COMMIT of *stay* would that is none here, where the database has ended the transaction.

        Raises:
            TransactionLostError: As COMMIT raises it.
        """
        self.savepoints.use(stay)
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
        return self._ended() if self.is_ended else self._undone()

    def _lost(self) -> str | None:
        if self.connection.invalidated:
            return f"The connection to {self.label} was lost, and all that the test has written with it."
        return None

    def _undone(self) -> str | None:
        if self.undone_by is None:
            return None
        return (
            f"The database has rolled back all that the test had written on {self.label}, with {self.undone_by}: a"
            " deadlock, 'OR ROLLBACK' and 'RAISE(ROLLBACK)' end the whole transaction, which in production is that of"
            " one session, and here that of the test. Use 'committing()' for such a test."
        )

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


def _fixed_options(engine: Engine) -> dict[str, object]:
    options = engine.get_execution_options()
    return {name: options.get(name) for name in FIXED}


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
