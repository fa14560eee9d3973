"""The primary: where it was after a COMMIT, and whether it still is the primary."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Engine, event

from .._log import log
from .._session import engines, last_word
from .._session.codes import code_of
from ._position import Log, Position, answer_of, log_of

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.pool import PoolProxiedConnection

    from .._session.last_word import LastWord

READ_ONLY_TRANSACTION = "25006"
"""The SQLSTATE with which PostgreSQL refuses a write, as on a standby."""

OPTION_PREVENTS_STATEMENT = "1290"
"""The code with which MariaDB refuses a write where ``read_only`` is on, and more for other options."""


CANNOT_IN_READ_ONLY = "1792"
"""The code with which MariaDB refuses a write in a transaction that only reads."""

BEYOND: Position = {"": sys.maxsize}
"""What no replica reaches: where the position of a commit is not known, its client reads from the primary."""

Note: TypeAlias = "Callable[[Position], object]"
"""Takes the position of a COMMIT."""


def watch(engine: Engine, wanted: Callable[[], Note | None]) -> None:
    """Have the position noted of each COMMIT of something written, and the pool renewed if the server is demoted.

    Args:
        engine: Of the primary.
        wanted: Returns who notes the position of a COMMIT that is sent now; None if nobody wants it.

    Raises:
        TypeError: If the driver is not one of those that are known.
    """
    engines.meet(engine)
    word = last_word.of(engine.dialect)
    if word is None:
        raise TypeError(f"{engine!r}: it is not known what the driver {engine.dialect.driver!r} does at a COMMIT.")
    if isinstance(word.of_writes, Commits):
        word.of_writes.wanted.append(wanted)
        return
    word.commit_writes_by(Commits(engine, word, wanted))
    event.listen(engine, "handle_error", _renew_demoted)


class Commits:
    """Commits, and asks for the position in the same breath.  Lives as long as the engine."""

    def __init__(self, engine: Engine, word: LastWord, wanted: Callable[[], Note | None]) -> None:
        """Commit on *engine*.

        Args:
            engine: Of the primary.
            word: Of its dialect.
            wanted: Returns who notes a position. There may be more of them later, in the attribute of that name.
        """
        self.wanted = [wanted]
        self._has_answered = False
        self._log: Log = log_of(engine)
        self._takes_several = engine.dialect.driver == "psycopg"
        self._word = word

    def commit(self, connection: PoolProxiedConnection, commit: Callable[[PoolProxiedConnection], None]) -> None:
        """Commit what was written on *connection*, as *commit* does, and have the position noted.

        With psycopg that is one message, and so one round trip; with other drivers it is one more. The first time it is
        one more with psycopg, too: if the question were refused, nobody could tell that from a COMMIT that was.
        """
        notes = self._notes()
        if not notes:
            commit(connection)
        elif self._takes_several and self._has_answered and self._word.is_in_transaction(connection):
            with connection.cursor() as cursor:  # type: ignore[attr-defined]  # psycopg's
                cursor.execute(f"COMMIT; {self._log.of_primary}", prepare=False)
                cursor.nextset()
                position = self._log.parse(*cursor.fetchone())
            _tell(notes, position)
        else:
            commit(connection)
            _tell(notes, self._asked(connection))

    def has_committed(self, connection: PoolProxiedConnection) -> None:
        """Have the position noted of a commit in two phases."""
        if notes := self._notes():
            _tell(notes, self._asked(connection))

    def _notes(self) -> list[Note]:
        return [note for wanted in self.wanted if (note := wanted()) is not None]

    def _asked(self, connection: PoolProxiedConnection) -> Position:
        """Ask for the position; what is committed is so, whether there is an answer or not."""
        try:
            position = self._log.parse(_scalar(connection, self._log.of_primary))
        except Exception:
            log.exception("The position after a COMMIT could not be found out; its client reads from the primary.")
            connection.invalidate()
            return BEYOND
        self._has_answered = True
        return position


def _tell(notes: list[Note], position: Position) -> None:
    for note in notes:
        note(position)


def _scalar(connection: PoolProxiedConnection, query: str) -> str:
    """Ask for one value."""
    return str(answer_of(connection.driver_connection, query)[0])


def _renew_demoted(context: ExceptionContext) -> None:
    """Take the refusal of a write by a server that only reads now for a lost connection: the whole pool is renewed."""
    if context.connection is not None and is_demotion(context.original_exception, context.connection):
        context.is_disconnect = True


def is_demotion(error: BaseException, connection: Any) -> bool:
    """Say whether an *error* on a *connection* says that its server cannot write, rather than its transaction."""
    code = code_of(error)
    if code == READ_ONLY_TRANSACTION:
        return engines.is_read_only(connection)
    if code != OPTION_PREVENTS_STATEMENT:
        return False
    return _scalar(connection.connection, "SELECT @@read_only") == "1"
