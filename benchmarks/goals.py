"""The goals: what this project is to cost at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import instructions
from .cost import Cost
from .figures import FOLLOWED, AllFigures

TRIPS = ("untouched", "select", "insert")
"""The views whose round trips are shown."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a case does cost."""

    value: float
    error: float | None = None
    """The standard error of a ratio."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a case is to cost at most."""

    case: str
    limit: float
    measured: Callable[[AllFigures], Measured | None]
    """Finds what it does cost; None if that has not been measured."""

    shown: Callable[[float], str]
    """Writes a number of this kind."""

    floor: Callable[[AllFigures], Measured | None] = lambda found: None
    """Finds what the parts alone cost (`benchmarks.floor`)."""


def signed(number: float) -> str:
    """Write what is added."""
    return f"{number:+,.0f}"


def whole(number: float) -> str:
    """Write what is counted."""
    return f"{number:,.0f}"


def times(number: float) -> str:
    """Write a factor."""
    return f"x{number:.3f}"


def _adds(case: str, limit: float, view: str, *, rule: str = "") -> Goal:
    def added(name: str) -> Callable[[AllFigures], Measured | None]:
        return lambda found: _if_counted(found[name + rule].costs[view], lambda cost: Measured(cost.added))

    return Goal(case, limit, added("wsgi_session"), signed, added("floor"))


def _multiplies(case: str, limit: float, view: str, *, rule: str = "") -> Goal:
    def ratio(name: str) -> Callable[[AllFigures], Measured | None]:
        return lambda found: _if_counted(found[name + rule].costs[view], lambda cost: Measured(cost.ratio, cost.error))

    return Goal(case, limit, ratio("wsgi_session"), times, ratio("floor"))


def _if_counted(cost: Cost, figure: Callable[[Cost], Measured]) -> Measured | None:
    return figure(cost) if cost.unit == instructions.UNIT else None


def _trips(view: str) -> Callable[[AllFigures], Measured | None]:
    def measured(found: AllFigures) -> Measured | None:
        counts = [found[name].round_trips.get(view) for name in ("wsgi_session", "wsgi_session_rule")]
        known = [count for count in counts if count is not None]
        return Measured(max(known)) if known else None

    return measured


def _memory(found: AllFigures) -> Measured:
    return Measured(found["wsgi_session"].memory)


def _growth(found: AllFigures) -> Measured | None:
    few, *_, many = found[FOLLOWED].open_responses.values()
    return _if_counted(many, lambda cost: Measured(cost.added / few.added))


GOALS = (
    _adds("a request that does not touch its session", 8_000, "untouched"),
    _adds("the same, with a commit rule", 11_000, "untouched", rule="_rule"),
    _adds("a generator of ten chunks, untouched", 40_000, "stream"),
    _multiplies("one SELECT by primary key", 1.015, "select"),
    _multiplies("INSERT and COMMIT by the handler", 1.01, "insert"),
    _multiplies("INSERT, committed by a rule", 1.015, "insert", rule="_rule"),
    Goal("bytes for each open untouched response", 600, _memory, whole),
    Goal("what each of 10,000 open responses costs, by each of 10", 1.02, _growth, times),
    Goal("round trips on PostgreSQL, untouched", 0, _trips("untouched"), whole),
    Goal("round trips on PostgreSQL, SELECT", 3, _trips("select"), whole),
    Goal("round trips on PostgreSQL, INSERT", 3, _trips("insert"), whole),
)
"""In instructions, where nothing else is said; CPU time does not judge them."""
