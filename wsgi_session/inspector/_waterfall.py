"""The waterfall: when a request has waited, held connections and used them.  Pure: from a record to bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from .._record import ENDINGS

if TYPE_CHECKING:
    from ..observe import Held, RequestRecord, Statement


@dataclass(frozen=True, slots=True)
class Bar:
    """What took some time of a request."""

    kind: str
    """``"waiting"``, ``"held"``, ``"reading"``, ``"writing"``, ``"ending"`` or ``"failed"``."""

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

    def is_free(self, bar: Bar) -> bool:
        """Say whether nothing in the lane is of the kind of *bar*, or ends later than it begins."""
        return not self.bars or self.bars[-1].end <= bar.at


def lanes(record: RequestRecord, statements: Iterable[Statement]) -> list[Lane]:
    """Return the lanes of *record*: of what it has held, and of *statements*, which are those to show.

    In a lane, the holds come first, for what was sent on them lies on top.
    """
    found: list[Lane] = []
    for held in sorted(record.connections, key=lambda held: held.at):
        _place(found, held.engine, list(_of_hold(held)))
    rails = [replace(lane, bars=[]) for lane in found]
    for statement in statements:
        _place(rails, statement.engine, [bar_of(statement)])
    return [Lane(rail.engine, [*_bars(found, place), *rail.bars]) for place, rail in enumerate(rails)]


def strip(record: RequestRecord) -> list[Bar]:
    """Return all bars of *record* for one small picture, in which those that would touch are one."""
    near = record.duration / 200
    holds = [bar for lane in lanes(record, ()) for bar in lane.bars]
    return [*holds, *_joined(map(bar_of, record.statements), near)]


def ticks(duration: float) -> list[float]:
    """Return up to five round moments of a *duration* in seconds, from 0 on."""
    exponent = 10.0**-9
    while not any(duration / (step * exponent) < 5 for step in (1, 2, 5)):
        exponent *= 10
    step = next(step * exponent for step in (1, 2, 5) if duration / (step * exponent) < 5)
    return [number * step for number in range(int(duration / step) + 1)]


def bar_of(statement: Statement) -> Bar:
    """Return the bar of a statement."""
    return Bar(_kind(statement), statement.at, statement.duration, statement.error or statement.sql)


def _of_hold(held: Held) -> Iterator[Bar]:
    line = f" since {held.line}" if held.line else ""
    yield Bar("waiting", held.at - held.waited, held.waited, f"waiting for {held.engine}")
    yield Bar("held", held.at, held.duration, f"holding {held.engine}{line}")


def _place(found: list[Lane], engine: str, bars: list[Bar]) -> None:
    """Put *bars* into the first lane of *engine* that is free for them, or into a new one."""
    lane = next((lane for lane in found if lane.engine == engine and lane.is_free(bars[0])), None)
    if lane is None:
        found.append(lane := Lane(engine))
    lane.bars += bars


def _bars(found: list[Lane], place: int) -> list[Bar]:
    return found[place].bars if place < len(found) else []


def _joined(bars: Iterable[Bar], near: float) -> list[Bar]:
    joined: list[Bar] = []
    for bar in bars:
        last = joined[-1] if joined else None
        if last is not None and last.kind == bar.kind and bar.at - last.end < near:
            joined[-1] = replace(last, duration=bar.end - last.at)
        else:
            joined.append(bar)
    return joined


def _kind(statement: Statement) -> str:
    if statement.error is not None:
        return "failed"
    if statement.kind in ENDINGS:
        return "ending"
    return "reading" if statement.kind in _READING else "writing"


_READING = ("select", "show", "explain", "pragma", "values", "table")
