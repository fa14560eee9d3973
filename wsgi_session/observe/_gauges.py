"""The gauges: how much is going on in this process, and how full its pools are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolGauges:
    """How full the pool of one engine is, and what it has done since it was first watched, in this process."""

    engine: str
    pool: str
    """The name of its class."""

    size: int | None
    """Of connections that it keeps, beside those it makes on top; None if it has no such number."""

    open: int
    """Connections that there are."""

    out: int
    """Those of them that somebody has."""

    peak: int
    """The most that were out at the same time."""

    waiting: int
    """How many wait for one."""

    checkouts: int
    timeouts: int
    waited: float
    """Seconds of waiting, all together, and making connections."""

    held: float
    """Seconds that connections were out, all together, those that still are not included."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """How much is going on in this process."""

    live: int
    """Requests that are not over."""

    finished: int
    found: int
    """Requests that had findings."""

    outcomes: dict[str, int]
    """How many requests had which outcome, by the value of its `OutcomeKind`."""

    retries: int
    """Requests that were further attempts of a `RetryMiddleware`."""

    pools: tuple[PoolGauges, ...]
