"""The transcript: what a request has sent to its databases, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ._record import Statement
from ._shapes import END

if TYPE_CHECKING:
    from ._record import Load
    from ._values import Values


class Taken(Protocol):
    """A connection that something was sent on."""

    is_over: bool
    """Whether it has gone back."""

    is_used: bool
    """Whether something was sent on it since its last COMMIT or ROLLBACK."""

    since: float
    """When it was taken."""


class Sent(NamedTuple):
    """What was sent, as it is noted: a `Statement` is made of it when somebody asks, for that takes longer.

    The fields mean the same, but for the two moments, which are as of ``perf_counter()``.
    """

    began: float
    duration: float
    engine: str
    kind: str
    sql: str
    rowcount: int | None
    line: str | None
    load: Load | None
    flush: int | None
    is_many: bool
    values: int | None
    error: str | None
    held_since: float | None

    def statement(self, began: float) -> Statement:
        """Return it as a statement of a request that *began* then."""
        return Statement(
            at=self.began - began,
            duration=self.duration,
            engine=self.engine,
            kind=self.kind,
            sql=self.sql,
            rowcount=self.rowcount,
            line=self.line,
            load=self.load,
            flush=self.flush,
            is_many=self.is_many,
            values=self.values,
            error=self.error,
            held_at=None if self.held_since is None else self.held_since - began,
        )


class Ending(NamedTuple):
    """A COMMIT or ROLLBACK."""

    kind: str
    """``"commit"`` or ``"rollback"``."""

    began: float
    duration: float
    engine: str
    line: str | None


class Transcript:
    """What one request has sent to its databases.  Lives as long as its recording."""

    __slots__ = (
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
        "values",
    )

    flush: int | None
    """The number of the flush that runs, from 1."""

    values: dict[int, Values]
    """What was given to statements, by their place among those that are kept; only where that was asked for."""

    undone: Sent | None
    """The first write of the transaction that was rolled back last, of those that had written."""

    def __init__(self, max_kept: int) -> None:
        """Begin with nothing.

        Args:
            max_kept: How much is kept; beyond, it is only counted.
        """
        self._flushes = 0
        self._max_kept = max_kept
        self._writes: dict[int, Sent] = {}
        self.commits = 0
        self.count = 0
        self.duration = 0.0
        self.ends = 0
        self.flush = None
        self.kept: list[Sent] = []
        self.rollbacks = 0
        self.undone = None
        self.values = {}

    def add(self, sent: Sent) -> None:
        """Note a statement that has come back from its database."""
        self.count += 1
        self._keep(sent)

    def keep_values(self, values: Values) -> None:
        """Keep what was given to the statement that was noted last, if that is kept."""
        if self.count + self.commits + self.rollbacks + self.ends == len(self.kept):
            self.values[len(self.kept) - 1] = values

    def write(self, sent: Sent, hold: Taken) -> None:
        """Note that a statement on the connection of *hold* waits for a commit."""
        self._writes.setdefault(id(hold), sent)

    def end(self, ending: Ending, hold: Taken) -> None:
        """Note a COMMIT on the connection of *hold*, or a ROLLBACK, which is also how a read ends."""
        kind, sql = ending.kind, ending.kind.upper()
        write = self._writes.pop(id(hold), None)
        if kind == "commit":
            self.commits += 1
        elif write is None:
            self.ends += 1
            kind, sql = END, "ROLLBACK (nothing was written)"
        else:
            self.rollbacks += 1
            self.undone = write
        hold.is_used = False
        since = None if hold.is_over else hold.since
        began, duration, engine, line = ending.began, ending.duration, ending.engine, ending.line
        self._keep(Sent(began, duration, engine, kind, sql, None, line, None, None, False, None, None, since))

    def begin_flush(self) -> None:
        """Note that a flush begins."""
        self._flushes += 1
        self.flush = self._flushes

    def end_flush(self) -> None:
        """Note that the flush is over."""
        self.flush = None

    def statements(self, began: float) -> tuple[Statement, ...]:
        """Return all that is kept, as statements of a request that *began* then."""
        return tuple(sent.statement(began) for sent in self.kept)

    def _keep(self, sent: Sent) -> None:
        self.duration += sent.duration
        if len(self.kept) < self._max_kept:
            self.kept.append(sent)
