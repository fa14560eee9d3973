"""The holds: the connections that a request has out of its pools, and what it has waited for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ._record import Held
from ._transcript import Transcript


class RecordedRequest(Protocol):
    """What a connection is out for: a request that is recorded."""

    @property
    def holds(self) -> Holds:
        """Its connections."""
        ...

    @property
    def transcript(self) -> Transcript | None:
        """Its statements, where they are recorded."""
        ...

    @property
    def what(self) -> str:
        """The method and the path."""
        ...

    def lose_connection(self, hold: Hold) -> None:
        """Note that a connection is thrown away in the middle of a transaction."""
        ...


@dataclass(slots=True, eq=False)
class Hold:
    """A connection that is out of its pool.  Lives until it goes back."""

    engine: str
    asked: float
    """When it was asked for, as of ``perf_counter()``."""

    since: float
    """When the pool gave it."""

    line: str | None
    request: RecordedRequest | None
    """The request that it is out for; None if that is none, or is over."""

    is_over: bool = False
    is_used: bool = False
    """Whether something was sent on it since its last COMMIT or ROLLBACK."""

    def held(self, began: float, until: float) -> Held:
        """Describe it as one of a request that *began* then."""
        return Held(self.engine, self.since - began, self.since - self.asked, until - self.since, self.line)

    def described(self, now: float) -> str:
        """Say in a few words who has it, and how long."""
        who = "outside of a request" if self.request is None else self.request.what
        return f"{who} for {now - self.since:.3f} s" + (f" since {self.line}" if self.line else "")


class Holds:
    """All holds of one request, and how long they were.  Lives as long as its recording."""

    __slots__ = ("_max_kept", "duration", "open", "over", "ran_dry", "waited", "waiting_since")

    def __init__(self, max_kept: int) -> None:
        """Begin with none.

        Args:
            max_kept: How many are described; beyond, they are only added up.
        """
        self._max_kept = max_kept
        self.duration = 0.0
        self.open: list[Hold] = []
        self.over: list[tuple[Hold, float]] = []
        self.ran_dry: tuple[str, ...] | None = None
        self.waited = 0.0
        self.waiting_since: float | None = None

    def take(self, hold: Hold) -> None:
        """Note a connection that the request has got."""
        self.open.append(hold)
        self.waited += hold.since - hold.asked

    def leave(self, hold: Hold) -> None:
        """Leave *hold* to another request, for it is that one's."""
        self.open.remove(hold)
        self.waited -= hold.since - hold.asked

    def give_back(self, hold: Hold, now: float) -> None:
        """Note a connection that has gone back, or is no longer the request's."""
        self.open.remove(hold)
        hold.request = None
        self.duration += now - hold.since
        if len(self.over) < self._max_kept:
            self.over.append((hold, now))

    def end(self, now: float) -> None:
        """Give up what outlives the request, such as the connection of a streamed result that nobody has closed."""
        while self.open:
            self.give_back(self.open[0], now)

    def connections(self, began: float) -> tuple[Held, ...]:
        """Describe those that are over, of a request that *began* then."""
        return tuple(hold.held(began, until) for hold, until in self.over)
