"""The requests that are not over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._recording import Recording


@dataclass(frozen=True, slots=True)
class LiveConnection:
    """A connection that a request has now."""

    engine: str
    age: float
    """Seconds since it was taken from the pool."""

    line: str | None
    """The line that took it, such as ``"shop/views.py:29"``."""

    def __str__(self) -> str:
        """Say it in a few words."""
        return f"{self.engine} for {self.age:.3f} s" + (f" since {self.line}" if self.line else "")


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A request that is not over."""

    method: str
    path: str
    age: float
    """Seconds since it began."""

    waiting: float | None
    """Seconds that it has been waiting for a connection; None if it does not."""

    connections: tuple[LiveConnection, ...]

    number: int
    """The number that its record will have."""

    def __str__(self) -> str:
        """Say it in one line."""
        waits = "" if self.waiting is None else f", waiting for {self.waiting:.3f} s"
        holds = "".join(f", holding {one}" for one in self.connections)
        return f"{self.method} {self.path} for {self.age:.3f} s{waits}{holds}"


def live_request(recording: Recording, now: float) -> LiveRequest:
    """Say what the request of a *recording* does now."""
    since = recording.holds.waiting_since
    connections = tuple(LiveConnection(hold.engine, now - hold.since, hold.line) for hold in recording.holds.open)
    waiting = None if since is None else now - since
    return LiveRequest(recording.method, recording.path, now - recording.began, waiting, connections, recording.number)
