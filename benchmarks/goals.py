"""The goals: what this project is to cost at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from .figures import FOLLOWED, AllFigures
from .meters import Cost

TRIPS = ("untouched", "select", "insert")
"""The views whose round trips are shown."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a case is to cost at most."""

    case: str
    limit: float
    measured: Callable[[AllFigures], float | None]
    """Finds what it does cost; None if that has not been measured."""

    shown: Callable[[float], str]
    """Writes a number of this kind."""


def signed(number: float) -> str:
    """Write what is added."""
    return f"{number:+,.0f}"


def whole(number: float) -> str:
    """Write what is counted."""
    return f"{number:,.0f}"


def times(number: float) -> str:
    """Write a factor."""
    return f"x{number:.3f}"


def _added(name: str, view: str) -> Callable[[AllFigures], float | None]:
    return lambda found: _if_counted(found[name].costs[view], attrgetter("added"))


def _ratio(name: str, view: str) -> Callable[[AllFigures], float | None]:
    return lambda found: _if_counted(found[name].costs[view], attrgetter("ratio"))


def _if_counted(cost: Cost, figure: Callable[[Cost], float]) -> float | None:
    return figure(cost) if cost.unit == "instructions" else None


def _trips(view: str) -> Callable[[AllFigures], float | None]:
    def measured(found: AllFigures) -> float | None:
        counts = [found[name].round_trips.get(view) for name in ("wsgi_session", "wsgi_session_rule")]
        return max((beside for pair in counts if pair for beside in pair[1:]), default=None)

    return measured


def _memory(found: AllFigures) -> float:
    return found["wsgi_session"].memory


def _growth(found: AllFigures) -> float | None:
    few, *_, many = found[FOLLOWED].open_responses.values()
    return _if_counted(many, lambda cost: cost.added / few.added)


GOALS = (
    Goal("a request that does not touch its session", 8_000, _added("wsgi_session", "untouched"), signed),
    Goal("the same, with a commit rule", 11_000, _added("wsgi_session_rule", "untouched"), signed),
    Goal("a generator of ten chunks, untouched", 40_000, _added("wsgi_session", "stream"), signed),
    Goal("one SELECT by primary key", 1.015, _ratio("wsgi_session", "select"), times),
    Goal("INSERT and COMMIT by the handler", 1.01, _ratio("wsgi_session", "insert"), times),
    Goal("INSERT, committed by a rule", 1.015, _ratio("wsgi_session_rule", "insert"), times),
    Goal("bytes for each open untouched response", 600, _memory, whole),
    Goal("what each of 10,000 open responses costs, by each of 10", 1.02, _growth, times),
    Goal("round trips on PostgreSQL, untouched", 0, _trips("untouched"), whole),
    Goal("round trips on PostgreSQL, SELECT", 3, _trips("select"), whole),
    Goal("round trips on PostgreSQL, INSERT", 3, _trips("insert"), whole),
)
"""In instructions, where nothing else is said; CPU time does not judge them."""
