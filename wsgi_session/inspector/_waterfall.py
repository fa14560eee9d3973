"""The waterfall: when a request has waited, held connections and used them.  Pure: from a record to bars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from ..observe._shapes import ENDINGS, HARMLESS

if TYPE_CHECKING:
    from ..observe import Held, RequestRecord, Statement


KINDS = ("waiting", "held", "reading", "writing", "ending", "failed")
"""What a request does with its time; each lies on those before it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What took some time of a request."""

    kind: str
    """One of `KINDS`."""

    at: float
    """When, in seconds from the beginning of the request."""

    duration: float
    """In seconds."""

    title: str

    @property
    def end(self) -> float:
        """When it was over."""
        return self.at + self.duration


@dataclass(slots=True)
class Lane:
    """What was done on one connection after the other, of which no two were held at the same time."""

    engine: str
    bars: list[Bar] = field(default_factory=list)
    until: float = -inf
    """When the last of them is over."""

    def add(self, *bars: Bar) -> None:
        """Put *bars* on top."""
        self.bars += bars
        self.until = max(self.until, *(bar.end for bar in bars))


def lanes(record: RequestRecord, statements: Iterable[Statement]) -> list[Lane]:
    """Return the lanes of *record*: of what it has held, and of *statements*, which are those to show.

    In a lane, the holds come first, for what was sent on them lies on top. What was sent on a connection that is not
    among those that are kept has lanes of its own.
    """
    found: list[Lane] = []
    of_holds: dict[tuple[str, float | None], Lane] = {}
    for held in sorted(record.connections, key=lambda held: held.at):
        waiting, holding = _of_hold(held)
        lane = of_holds[held.engine, held.at] = _free(found, held.engine, waiting)
        lane.add(waiting, holding)
    for statement in statements:
        bar = bar_of(statement)
        lane = of_holds.get((statement.engine, statement.held_at)) or _free(found, statement.engine, bar)
        lane.add(bar)
    return found


def strip(record: RequestRecord) -> list[Bar]:
    """Return all bars of *record* for one small picture, in which those of a kind that would touch are one."""
    bars = [*(bar for held in record.connections for bar in _of_hold(held)), *map(bar_of, record.statements)]
    bars.sort(key=lambda bar: bar.at)
    near = record.duration / 200
    return [one for kind in KINDS for one in _joined((bar for bar in bars if bar.kind == kind), near)]


def ticks(duration: float) -> list[float]:
    """Return up to five round moments of a *duration* in seconds, from 0 on."""
    steps = (digit * 10.0**power for power in count(-9) for digit in (1, 2, 5))
    step = next(step for step in steps if duration / step < 5)
    return [number * step for number in range(int(duration / step) + 1)]


def bar_of(statement: Statement) -> Bar:
    """Return the bar of a statement."""
    return Bar(_kind(statement), statement.at, statement.duration, statement.error or statement.sql)


def _of_hold(held: Held) -> tuple[Bar, Bar]:
    line = f" since {held.line}" if held.line else ""
    waiting = Bar("waiting", held.at - held.waited, held.waited, f"waiting for {held.engine}")
    return waiting, Bar("held", held.at, held.duration, f"holding {held.engine}{line}")


def _free(found: list[Lane], engine: str, bar: Bar) -> Lane:
    """Return the first lane of *engine* that has nothing any longer when *bar* begins, or a new one."""
    lane = next((lane for lane in found if lane.engine == engine and lane.until <= bar.at), None)
    if lane is None:
        found.append(lane := Lane(engine))
    return lane


def _joined(bars: Iterable[Bar], near: float) -> list[Bar]:
    """Make one of bars that are less than *near* seconds from each other; they are given by their beginnings."""
    joined: list[Bar] = []
    for bar in bars:
        last = joined[-1] if joined else None
        if last is not None and bar.at - last.end < near:
            joined[-1] = replace(last, duration=max(last.end, bar.end) - last.at)
        else:
            joined.append(bar)
    return joined


def _kind(statement: Statement) -> str:
    if statement.error is not None:
        return "failed"
    if statement.kind in ENDINGS:
        return "ending"
    return "reading" if statement.kind in HARMLESS else "writing"
