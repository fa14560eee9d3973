"""The transcript: the statements that a request has sent, one after the other."""

from __future__ import annotations

from dataclasses import replace

from ._record import Statement
from ._shapes import END


class Transcript:
    """What one request has sent to its databases.  Lives as long as its recording."""

    __slots__ = (
        "_began",
        "_ending",
        "_flushes",
        "_max_kept",
        "_writes",
        "commits",
        "count",
        "duration",
        "ends",
        "flush",
        "kept",
        "rollbacks",
        "undone",
    )

    flush: int | None
    """The number of the flush that runs, from 1."""

    undone: Statement | None
    """The first write of the transaction that was rolled back last, of those that had written."""

    def __init__(self, began: float, max_kept: int) -> None:
        """Begin with nothing.

        Args:
            began: When the request began.
            max_kept: How many statements are kept; beyond, they are only counted.
        """
        self._began = began
        self._ending: Statement | None = None
        self._flushes = 0
        self._max_kept = max_kept
        self._writes: dict[int, Statement] = {}
        self.commits = 0
        self.count = 0
        self.duration = 0.0
        self.ends = 0
        self.flush = None
        self.kept: list[Statement] = []
        self.rollbacks = 0
        self.undone = None

    def add(self, statement: Statement) -> None:
        """Note a statement that has come back from its database."""
        self.count += 1
        self._keep(statement)

    def write(self, statement: Statement, connection: int) -> None:
        """Note that *statement* waits for a commit on a connection, by its ``id()``."""
        self._writes.setdefault(connection, statement)

    def commit(self, ending: Statement, connection: int) -> None:
        """Note that COMMIT is sent on a connection."""
        self.commits += 1
        self._writes.pop(connection, None)
        self._begin_ending(ending)

    def roll_back(self, ending: Statement, connection: int) -> None:
        """Note that ROLLBACK is sent on a connection, which is also how a read ends."""
        write = self._writes.pop(connection, None)
        if write is None:
            self.ends += 1
            ending = replace(ending, kind=END, sql="ROLLBACK (nothing was written)")
        else:
            self.rollbacks += 1
            self.undone = write
        self._begin_ending(ending)

    def end_ending(self, moment: float) -> None:
        """Note that a COMMIT or ROLLBACK is over.

        SQLAlchemy does not tell. It is over when its session says that it has been committed, when the connection goes
        back, or when anything else is sent.
        """
        ending, self._ending = self._ending, None
        if ending is not None:
            self._keep(ending, moment - self._began - ending.at)

    def begin_flush(self) -> None:
        """Note that a flush begins."""
        self._flushes += 1
        self.flush = self._flushes

    def end_flush(self) -> None:
        """Note that the flush is over."""
        self.flush = None

    def _begin_ending(self, ending: Statement) -> None:
        self.end_ending(ending.at + self._began)
        self._ending = ending

    def _keep(self, statement: Statement, duration: float | None = None) -> None:
        if duration is not None:
            statement = replace(statement, duration=duration)
        self.duration += statement.duration
        if len(self.kept) < self._max_kept:
            self.kept.append(statement)
