"""The routes: requests to the same page, with whatever is in their paths.  Pure: from records to routes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..observe import RequestRecord

_identifier = re.compile(r"[0-9]+|(?=[^/]*[0-9])[0-9a-fA-F]{8,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""What names one of many things: a number, a hash, a UUID."""


@dataclass(frozen=True, slots=True)
class Route:
    """Requests of one method, to one page."""

    method: str
    path: str
    """With ``*`` for each part that is a number, a hash or a UUID."""

    count: int
    median: float
    """Seconds; half of the requests took no longer."""

    slow: float
    """Seconds; 95 % of the requests took no longer."""

    statements: float
    """The median of their number."""

    found: int
    """Requests with findings."""

    failed: int
    """Requests that were answered with 500 or more, or not at all."""


def route_of(path: str) -> str:
    """Return *path* with ``*`` for what differs among pages of one kind."""
    return "/".join("*" if _identifier.fullmatch(part) else part for part in path.split("/"))


def routes(records: Iterable[RequestRecord]) -> list[Route]:
    """Return the routes of *records*; those that have taken the most time first."""
    found: defaultdict[Hashable, list[RequestRecord]] = defaultdict(list)
    for record in records:
        found[record.method, route_of(record.path)].append(record)
    return sorted(map(_route, found.values()), key=lambda route: -route.count * route.median)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least of *values* that a *share* of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _route(records: list[RequestRecord]) -> Route:
    durations = [record.duration for record in records]
    return Route(
        method=records[0].method,
        path=route_of(records[0].path),
        count=len(records),
        median=quantile(durations, 0.5),
        slow=quantile(durations, 0.95),
        statements=quantile([record.statement_count for record in records], 0.5),
        found=sum(bool(record.findings) for record in records),
        failed=sum(record.status is None or record.status >= 500 for record in records),
    )
