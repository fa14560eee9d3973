"""The findings: what a request had better not do.  Pure: from values to values."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ._record import Finding, FindingKind
from ._shapes import WRITES, is_list_or_page

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from ._holds import Hold
    from ._record import Loss
    from ._transcript import Sent

PARENTS = 3
"""From how many parents on lazy loads are an N+1; two are what a test with two rows trips over."""

TURNS = 5
"""From how many turns on it is a loop."""

IDENTICAL = 3
IDLE = 0.1
"""The seconds from which on an idle connection is worth a word, if they are half of those that it was held."""

_FEW = min(PARENTS, TURNS, IDENTICAL)
"""The statements up to which there are no findings of them."""

Group: TypeAlias = "defaultdict[Hashable, list[Sent]]"


class Seen(NamedTuple):
    """What a request has done, as far as findings go."""

    statements: Sequence[Sent]
    connections: Sequence[tuple[Hold, float]]
    held: float
    """Seconds."""

    idle: float | None
    """Seconds of them in which no statement ran; None where statements are not recorded."""

    ran_dry: tuple[str, ...] | None
    is_dropped: bool
    loss: Loss | None


def may_be_odd(statements: int, idle: float) -> bool:
    """Say whether so many statements, and seconds of an idle connection, may have findings at all."""
    return statements >= _FEW or idle > IDLE


def find(seen: Seen, releases_reads: bool) -> tuple[Finding, ...]:
    """Return what is worth a word in what was *seen*, the worst first.

    Args:
        seen: Of a request.
        releases_reads: Whether its middleware has been told ``release_reads=True``.
    """
    if len(seen.statements) < _FEW:
        return tuple(_of_connections(seen, releases_reads))
    groups = Groups(seen.statements)
    return (
        *_of_connections(seen, releases_reads),
        *_lazy_loads(groups),
        *_column_loads(groups),
        *_queries(groups),
        *_writes(groups),
        *_identical(groups),
    )


class Groups:
    """Statements that have something in common.  Lives while findings are looked for.

    They are made in one pass, which is what most requests pay for their findings; the rules look at large ones alone.
    """

    __slots__ = ("column_loads", "identical", "lazy_loads", "queries", "writes")

    def __init__(self, statements: Iterable[Sent]) -> None:
        """Group *statements*; what has failed is left out."""
        self.column_loads: Group = defaultdict(list)
        self.identical: Group = defaultdict(list)
        self.lazy_loads: Group = defaultdict(list)
        self.queries: Group = defaultdict(list)
        self.writes: Group = defaultdict(list)
        for one in statements:
            if one.error is not None:
                continue
            load = one.load
            if one.kind == "select":
                self.identical[one.sql, one.values].append(one)
                if load is None:
                    self.queries[one.sql, one.line].append(one)
            elif one.kind in WRITES and not one.is_many:
                self.writes[one.sql, one.line].append(one)
            if load is not None and load.kind == "lazy":
                self.lazy_loads[load.name].append(one)
            elif load is not None and load.kind == "column":
                self.column_loads[load.name, one.sql, one.line].append(one)


def _of_connections(seen: Seen, releases_reads: bool) -> Iterator[Finding]:
    first = seen.connections[0][0] if seen.connections else None
    if seen.ran_dry is not None:
        cure = "let others give back sooner, or make the pool larger"
        yield Finding(FindingKind.DRY, "no connection was left", 1, None, cure, seen.ran_dry)
    if seen.is_dropped and first:
        cure = "call close() of the response, in the server or in the middleware that wraps it"
        yield Finding(FindingKind.UNCLOSED, first.engine, 1, first.line, cure)
    if (loss := seen.loss) is not None:
        yield Finding(FindingKind.UNCOMMITTED, loss.what, 1, loss.line, loss.remedy)
    if seen.idle is not None and first and seen.idle > max(IDLE, seen.held / 2):
        cure = f"it did nothing for {seen.idle:.3f} s: commit or scope.release() before what takes long"
        if not releases_reads:
            cure += "; where it is the client that reads slowly, SessionMiddleware(..., release_reads=True) does it"
        yield Finding(FindingKind.IDLE, first.engine, len(seen.connections), first.line, cure)


def _lazy_loads(groups: Groups) -> Iterator[Finding]:
    """Find relationships that were loaded for one parent after another, from whatever line."""
    for group in groups.lazy_loads.values():
        parents = len({one.load.parent for one in group if one.load})
        if parents >= PARENTS and (load := group[0].load):
            option = "selectinload" if load.is_collection else "joinedload"
            yield _finding(FindingKind.LAZY_LOADS, load.name, parents, group, f"load it with {option}({load.name})")


def _column_loads(groups: Groups) -> Iterator[Finding]:
    """Find columns that were loaded for one object after another: deferred ones, or expired by a commit."""
    for group in groups.column_loads.values():
        if (turns := _different(group)) >= TURNS and (load := group[0].load):
            cure = "undefer() them, or after a commit set expire_on_commit=False"
            yield _finding(FindingKind.COLUMN_LOADS, load.name, turns, group, cure)


def _queries(groups: Groups) -> Iterator[Finding]:
    """Find a SELECT that one line has sent with one value after another; lists of keys and pages are none."""
    for group in groups.queries.values():
        if (turns := _different(group)) >= TURNS and not is_list_or_page(group[0].sql):
            yield _finding(FindingKind.QUERIES, group[0].sql, turns, group, "ask for all at once, by IN or a join")


def _writes(groups: Groups) -> Iterator[Finding]:
    """Find a write that one line has sent again and again; those of one flush count once, those for many rows never."""
    for group in groups.writes.values():
        turns = len({one.flush for one in group if one.flush}) + sum(one.flush is None for one in group)
        if turns >= TURNS:
            yield _finding(FindingKind.WRITES, group[0].sql, turns, group, "flush once, or pass a list of rows")


def _identical(groups: Groups) -> Iterator[Finding]:
    """Find a SELECT that was sent with the very same values."""
    for group in groups.identical.values():
        if len(group) >= IDENTICAL:
            yield _finding(FindingKind.IDENTICAL, group[0].sql, len(group), group, "keep what it has read")


def _different(group: list[Sent]) -> int:
    return len({one.values for one in group})


def _finding(kind: FindingKind, subject: str, count: int, group: list[Sent], cure: str) -> Finding:
    return Finding(kind, subject, count, group[0].line, cure)
