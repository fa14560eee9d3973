"""The groups: statements of one shape that one line has sent, added up.  Pure: from records to groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..observe import RequestRecord, Statement


@dataclass(frozen=True, slots=True)
class Group:
    """Statements of one shape, from one line."""

    sql: str
    kind: str
    engine: str
    line: str | None
    cause: str | None
    """Why the ORM has sent them, such as ``"lazy Order.lines"``."""

    count: int
    requests: int
    """In how many requests."""

    duration: float
    """Seconds, all together."""

    slowest: float
    """Seconds of the slowest."""

    rows: int | None
    """All together, where the drivers know."""

    errors: int


def groups(records: Iterable[RequestRecord]) -> list[Group]:
    """Return the groups of all statements of *records*, wherever in them they were, the most time first."""
    found: defaultdict[Hashable, list[tuple[int, Statement]]] = defaultdict(list)
    for record in records:
        for one in record.statements:
            found[one.engine, one.sql, one.line, cause(one)].append((record.number, one))
    return sorted(map(_group, found.values()), key=lambda group: -group.duration)


def cause(statement: Statement) -> str | None:
    """Say why the ORM has sent a statement that no application has written."""
    load = statement.load
    return None if load is None else f"{load.kind} {load.name}"


def _group(members: list[tuple[int, Statement]]) -> Group:
    statements = [one for _, one in members]
    first = statements[0]
    return Group(
        sql=first.sql,
        kind=first.kind,
        engine=first.engine,
        line=first.line,
        cause=cause(first),
        count=len(statements),
        requests=len({number for number, _ in members}),
        duration=sum(one.duration for one in statements),
        slowest=max(one.duration for one in statements),
        rows=_sum_of_known(one.rowcount for one in statements),
        errors=sum(one.error is not None for one in statements),
    )


def _sum_of_known(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
