"""The record of a request: what it did, when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class OutcomeKind(Enum):
    """What has become of what a request has changed."""

    COMMITTED = "committed"
    NOT_COMMITTED = "not committed"
    ROLLED_BACK = "rolled back"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of what a request has changed, and why."""

    kind: OutcomeKind
    why: str
    """Such as ``"POST 303, on_unsafe_success"``, ``"GET is safe"`` or ``"RuntimeError in shop/views.py:42"``."""

    notes: tuple[str, ...] = ()
    """What is to be said beside, such as ``"repeated twice: 40001"``."""

    def __str__(self) -> str:
        """Say it in a sentence."""
        return "; ".join((f"{self.kind.value}: {self.why}", *self.notes))


@dataclass(frozen=True, slots=True)
class Loss:
    """What a response that did not fail has written and not committed, as the log says it."""

    what: str
    """Such as ``"1 new Author, not committed"``."""

    remedy: str
    """What to write instead."""

    line: str | None = None
    """The line that has sent the last of it, where statements are recorded and it was sent."""


class FindingKind(Enum):
    """What a `Finding` is about."""

    LAZY_LOADS = "N+1"
    COLUMN_LOADS = "N+1 of columns"
    QUERIES = "query in a loop"
    WRITES = "write in a loop"
    IDENTICAL = "identical query"
    IDLE = "connection held idle"
    UNCLOSED = "response never closed"
    UNCOMMITTED = "writes never committed"
    DRY = "pool ran dry"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a request had better not do."""

    kind: FindingKind
    subject: str
    """The relationship, the mapped class, the statement or the engine."""

    count: int
    """How often."""

    line: str | None
    """Where the first time, such as ``"shop/views.py:29"``."""

    cure: str
    """What to do about it."""

    details: tuple[str, ...] = ()
    """For a pool that ran dry, who held its connections then."""

    def __str__(self) -> str:
        """Say it in a few words, for a line of the log."""
        where = f" at {self.line}" if self.line else ""
        who = f" (held by {'; '.join(self.details)})" if self.details else ""
        return f"{self.kind.value}: {self.subject} x{self.count}{where}: {self.cure}{who}"


@dataclass(frozen=True, slots=True)
class Load:
    """Why the ORM has sent a SELECT that no application has written."""

    kind: str
    """``"lazy"`` of a relationship, ``"eager"`` of one, or ``"column"`` for expired or deferred columns."""

    name: str
    """The relationship, such as ``"Order.lines"``, or the mapped class."""

    is_collection: bool
    """Whether the relationship is one to many."""

    parent: int | None
    """A hash of the parent's identity, for a lazy load."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was sent to a database, a COMMIT or a ROLLBACK."""

    at: float
    """When, in seconds from the beginning of the request."""

    duration: float
    """Seconds in the database; fetching rows afterwards is not in them."""

    engine: str
    kind: str
    """``"select"``, ``"insert"``, ``"update"``, ``"delete"``, ``"commit"``, ``"rollback"``, ``"end"`` for a
    ROLLBACK by which nothing is undone, or another first word."""

    sql: str
    """The text, with ``?`` for every value."""

    rowcount: int | None
    """Of rows, where the driver knows."""

    line: str | None
    """The line of the application that has caused it; None for what the end of the request does."""

    load: Load | None
    flush: int | None
    """The number of the flush that it belongs to, if any."""

    is_many: bool
    """Whether it stands for many rows."""

    values: int | None
    """A hash of its values, that tells the same from others."""

    error: str | None
    """The classes and the code of what it has raised; never the text, for that has values in it."""

    held_at: float | None
    """When its connection was taken, as `Held.at` of its engine says; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Held:
    """A connection that a request has held."""

    engine: str
    at: float
    """When it was taken from the pool, in seconds from the beginning of the request."""

    waited: float
    """Seconds until the pool gave it, a new connection made and tested included."""

    duration: float
    """Seconds until it went back."""

    line: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """What one request did.  Has strings and numbers alone: no values, no objects of the application's."""

    method: str
    path: str
    number: int
    """Which of the requests of its recorder it was, from 1, by their beginnings."""

    attempt: int
    """Which attempt of a `RetryMiddleware` it was, from 0."""

    status: int | None
    """Of the response, as the application said it last; None if it has not."""

    started: float
    """When, in seconds as of ``time.time()``."""

    duration: float
    """Seconds until its scope had ended; a body that is streamed is in them."""

    waited: float
    """Seconds waiting for pools."""

    held: float
    """Seconds holding connections, added up over all."""

    connections: tuple[Held, ...]
    errors: tuple[str, ...]
    """Of databases, and what the application has raised, by their classes and codes."""

    ran_dry: tuple[str, ...] | None
    """Who held the connections of a pool that had none left for this request."""

    is_dropped: bool
    """Whether the server has dropped the response without closing it."""

    outcome: Outcome
    """What the library has decided, and why."""

    loss: Loss | None = None
    """What a response that did not fail has lost."""

    in_database: float | None = None
    """Seconds in the database; this and what follows only where statements are recorded."""

    statement_count: int = 0
    """How many there were, also those that are not kept."""

    statements: tuple[Statement, ...] = ()
    commits: int = 0
    rollbacks: int = 0
    """Those that have undone something."""

    ends: int = 0
    """How many have undone nothing, because what only read gives its connection back with a ROLLBACK."""

    findings: tuple[Finding, ...] = ()

    @property
    def idle(self) -> float | None:
        """Seconds holding connections that had nothing to do."""
        return None if self.in_database is None else max(0.0, self.held - self.in_database)

    @property
    def is_truncated(self) -> bool:
        """Whether there were more statements than are kept, COMMIT and ROLLBACK among them."""
        return self.statement_count + self.commits + self.rollbacks + self.ends > len(self.statements)

    def __str__(self) -> str:
        """Say it in a line of the log."""
        count = "" if self.in_database is None else f", {self.statement_count} statements {_ms(self.in_database)}"
        times = f"{_ms(self.duration)}{count}, waited {_ms(self.waited)}, held {_ms(self.held)}"
        idle = "" if self.idle is None else f", idle {_ms(self.idle)}"
        found = "".join(f"; {one}" for one in self.findings)
        return f"{self.method} {self.path} {self.status or '-'} ({self.outcome}) {times}{idle}{found}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
