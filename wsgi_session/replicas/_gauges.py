"""The gauges: what went to which server, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum


class ToPrimary(Enum):
    """Why a request was sent to the primary."""

    METHOD = "its method may write"
    ATTEMPT = "it is another attempt"
    COMMITTED = "it has committed before"
    BEHIND = "no replica has come so far"
    DOWN = "no replica is up"
    UNKNOWN = "it has not passed the middleware"


@dataclass(frozen=True, slots=True)
class ServerGauges:
    """What a server was asked for, since the start of this process."""

    server: str
    """Its label, such as ``"postgresql:shop at db2:5432"``."""

    requests: int
    """How many sessions of requests were bound to it."""

    polls: int
    """How often it was asked for its position, each a round trip."""

    failures: int
    """How often it was put aside, because it could not be reached, was behind where it had been, or was no replica."""

    is_up: bool
    """Whether it is asked now."""

    behind: float | None
    """Seconds since the first commit of this process, of the last minute, that it lacked when it was last asked.

    None if it was not asked yet, and for the primary.
    """


@dataclass(frozen=True, slots=True)
class ReplicasGauges:
    """What went where, since the start of this process."""

    servers: tuple[ServerGauges, ...]
    """The primary first."""

    to_primary: dict[str, int]
    """How many requests were sent to the primary for which reason, by the value of its `ToPrimary`."""

    waits: int
    """How many reads have waited for a replica to catch up."""

    waited: float
    """Seconds that they have waited, all together."""

    @property
    def on_replicas(self) -> int:
        """How many reads were sent to a replica."""
        return sum(replica.requests for replica in self.servers[1:])

    @property
    def on_primary(self) -> int:
        """How many requests were sent to the primary that could have been reads, by their method."""
        return self.servers[0].requests - self.to_primary[ToPrimary.METHOD.value]


REACHED = "it has come so far"
"""Why a request was sent to a replica."""


def requests_by_reason(found: Iterable[ReplicasGauges]) -> dict[tuple[str, str], int]:
    """Count the requests that were sent to a server, by its label, for a reason."""
    counts: defaultdict[tuple[str, str], int] = defaultdict(int)
    for gauges in found:
        primary, *replicas = gauges.servers
        for reason, requests in gauges.to_primary.items():
            counts[primary.server, reason] += requests
        for replica in replicas:
            counts[replica.server, REACHED] += replica.requests
    return counts


def by_replica(
    found: Iterable[ReplicasGauges],
    number_of: Callable[[ServerGauges], float | None],
    combine: Callable[[list[float]], float],
) -> dict[str, float]:
    """Read a number of each replica, by its label; those that have the same one are combined."""
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    for gauges in found:
        for replica in gauges.servers[1:]:
            if (number := number_of(replica)) is not None:
                numbers[replica.server].append(number)
    return {server: combine(several) for server, several in numbers.items()}
