"""The findings: what a record says that a request had better not do.  Pure: from values to values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeAlias

from ._record import Finding, FindingKind, RequestRecord, Statement
from ._shapes import WRITES, is_list_or_page

PARENTS = 3
"""From how many parents on lazy loads are an N+1; two are what a test with two rows trips over."""

TURNS = 5
"""From how many turns on it is a loop."""

IDENTICAL = 3
IDLE = 0.1
"""The seconds from which on an idle connection is worth a word, if they are half of those that it was held."""

Key: TypeAlias = Callable[[Statement], Hashable]


def find(record: RequestRecord, *, releases_reads: bool) -> tuple[Finding, ...]:
    """Return what is worth a word in *record*, the worst first.

    Args:
        record: Of a request.
        releases_reads: Whether its middleware has been told ``release_reads=True``.
    """
    if not record.statements:
        is_calm = not record.connections and record.ran_dry is None and record.loss is None
        return () if is_calm else tuple(_of_connections(record, releases_reads))
    sound = [one for one in record.statements if one.error is None]
    return (
        *_of_connections(record, releases_reads),
        *_lazy_loads(sound),
        *_column_loads(sound),
        *_queries(sound),
        *_writes(sound),
        *_identical(sound),
    )


def _of_connections(record: RequestRecord, releases_reads: bool) -> Iterator[Finding]:
    first = record.connections[0] if record.connections else None
    line = None if first is None else first.line
    if record.ran_dry is not None:
        cure = "let others give back sooner, or make the pool larger"
        yield Finding(FindingKind.DRY, "no connection was left", 1, None, cure, record.ran_dry)
    if record.is_dropped and first:
        cure = "call close() of the response, in the server or in the middleware that wraps it"
        yield Finding(FindingKind.UNCLOSED, first.engine, 1, line, cure)
    if (loss := record.loss) is not None:
        yield Finding(FindingKind.UNCOMMITTED, loss.what, 1, loss.line, loss.remedy)
    if record.idle is not None and first and record.idle > max(IDLE, record.held / 2):
        cure = f"it did nothing for {record.idle:.3f} s: commit or scope.release() before what takes long"
        if not releases_reads:
            cure += "; where it is the client that reads slowly, SessionMiddleware(..., release_reads=True) does it"
        yield Finding(FindingKind.IDLE, first.engine, len(record.connections), line, cure)


def _lazy_loads(statements: list[Statement]) -> Iterator[Finding]:
    """Find relationships that were loaded for one parent after another, from whatever line."""
    for group in _groups(statements, lambda one: one.load and one.load.kind == "lazy" and one.load.name):
        parents = len({one.load.parent for one in group if one.load})
        if parents >= PARENTS and (load := group[0].load):
            option = "selectinload" if load.is_collection else "joinedload"
            yield _finding(FindingKind.LAZY_LOADS, load.name, parents, group, f"load it with {option}({load.name})")


def _column_loads(statements: list[Statement]) -> Iterator[Finding]:
    """Find columns that were loaded for one object after another: deferred ones, or expired by a commit."""
    for group in _groups(
        statements, lambda one: one.load and one.load.kind == "column" and (one.load.name, one.sql, one.line)
    ):
        if (turns := _different(group)) >= TURNS and (load := group[0].load):
            cure = "undefer() them, or after a commit set expire_on_commit=False"
            yield _finding(FindingKind.COLUMN_LOADS, load.name, turns, group, cure)


def _queries(statements: list[Statement]) -> Iterator[Finding]:
    """Find a SELECT that one line has sent with one value after another; lists of keys and pages are none."""

    def key(one: Statement) -> Hashable:
        is_one = one.kind == "select" and one.load is None and not is_list_or_page(one.sql)
        return is_one and (one.sql, one.line)

    for group in _groups(statements, key):
        if (turns := _different(group)) >= TURNS:
            yield _finding(FindingKind.QUERIES, group[0].sql, turns, group, "ask for all at once, by IN or a join")


def _writes(statements: list[Statement]) -> Iterator[Finding]:
    """Find a write that one line has sent again and again; those of one flush count once, those for many rows never."""

    def key(one: Statement) -> Hashable:
        return one.kind in WRITES and not one.is_many and (one.sql, one.line)

    for group in _groups(statements, key):
        turns = len({one.flush for one in group if one.flush}) + sum(one.flush is None for one in group)
        if turns >= TURNS:
            yield _finding(FindingKind.WRITES, group[0].sql, turns, group, "flush once, or pass a list of rows")


def _identical(statements: list[Statement]) -> Iterator[Finding]:
    """Find a SELECT that was sent with the very same values."""
    for group in _groups(statements, lambda one: one.kind == "select" and (one.sql, one.values)):
        if len(group) >= IDENTICAL:
            yield _finding(FindingKind.IDENTICAL, group[0].sql, len(group), group, "keep what it has read")


def _groups(statements: Iterable[Statement], key: Key) -> Iterable[list[Statement]]:
    """Group *statements* by a key; those that have none are left out."""
    groups: defaultdict[Hashable, list[Statement]] = defaultdict(list)
    for one in statements:
        if found := key(one):
            groups[found].append(one)
    return groups.values()


def _different(group: list[Statement]) -> int:
    return len({one.values for one in group})


def _finding(kind: FindingKind, subject: str, count: int, group: list[Statement], cure: str) -> Finding:
    return Finding(kind, subject, count, group[0].line, cure)
