"""The comparison: what has changed since the request before, to the same page.  Pure: from records to values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._routes import route_of

if TYPE_CHECKING:
    from ..observe import RequestRecord


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a request did, and the one before on the same route."""

    before: RequestRecord
    statement_counts: tuple[int, int]
    """How many, before and now."""

    durations: tuple[float, float]
    """Seconds, before and now."""

    gone: tuple[str, ...]
    """The findings that it has not any more."""

    new: tuple[str, ...]
    """The findings that the one before had not."""


def comparison(record: RequestRecord, records: Iterable[RequestRecord]) -> Comparison | None:
    """Compare *record* with the last one of *records* before it that was of its method and route, if there is one."""
    route = record.method, route_of(record.path)
    earlier = [one for one in records if one.number < record.number and (one.method, route_of(one.path)) == route]
    if not earlier:
        return None
    before = max(earlier, key=lambda one: one.number)
    had, has = _findings(before), _findings(record)
    return Comparison(
        before=before,
        statement_counts=(before.statement_count, record.statement_count),
        durations=(before.duration, record.duration),
        gone=tuple(one for one in had if one not in has),
        new=tuple(one for one in has if one not in had),
    )


def _findings(record: RequestRecord) -> list[str]:
    return [f"{finding.kind.value}: {finding.subject}" for finding in record.findings]
