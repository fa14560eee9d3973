"""The goals: what this project is to cost at most, in CPU time where nothing else is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    limit: Callable[[AllFigures], Measured]
    measured: Callable[[AllFigures], Measured | None]
    """Finds what it does cost; None if that has not been measured."""

    shown: Callable[[float], str]
    """Writes a number of this kind."""

    floor: Callable[[AllFigures], Measured | None] = lambda found: None
    """Finds what the parts alone cost (`benchmarks.floor`)."""


def signed(nanoseconds: float) -> str:
    """Write what is added, in microseconds."""
    return f"{nanoseconds / 1000:+,.1f} µs"


def whole(number: float) -> str:
    """Write what is counted."""
    return f"{number:,.0f}"


def times(number: float) -> str:
    """Write a factor."""
    return f"x{number:.3f}"


def _fixed(limit: float) -> Callable[[AllFigures], Measured]:
    return lambda found: Measured(limit)


def _ratio(name: str, view: str) -> Callable[[AllFigures], Measured]:
    def ratio(found: AllFigures) -> Measured:
        cost = found[name].costs[view]
        return Measured(cost.ratio, cost.error)

    return ratio


def _added(name: str, view: str) -> Callable[[AllFigures], Measured]:
    return lambda found: Measured(found[name].costs[view].added)


def _multiplies(case: str, limit: float, view: str, rule: str = "") -> Goal:
    return Goal(case, _fixed(limit), _ratio("wsgi_session" + rule, view), times, _ratio("floor" + rule, view))


def _beside_flask_sqlalchemy(case: str, view: str) -> Goal:
    return Goal(
        f"in Flask, under the rule, {case}: Flask-SQLAlchemy's",
        _ratio("flask_sqlalchemy", view),
        _ratio("wsgi_session_flask", view),
        times,
    )


def _trips(view: str) -> Callable[[AllFigures], Measured | None]:
    def measured(found: AllFigures) -> Measured | None:
        counts = [found[name].round_trips.get(view) for name in ("wsgi_session", "wsgi_session_rule")]
        known = [count for count in counts if count is not None]
        return Measured(max(known)) if known else None

    return measured


def _memory(found: AllFigures) -> Measured:
    return Measured(found["wsgi_session"].memory)


def _growth(found: AllFigures) -> Measured:
    few, *_, many = found[FOLLOWED].open_responses.values()
    return Measured(many.added / few.added)


GOALS = (
    Goal(
        "a request that does not touch its session",
        _fixed(2_000),
        _added("wsgi_session", "untouched"),
        signed,
        _added("floor", "untouched"),
    ),
    Goal(
        "the same, with a commit rule",
        _fixed(3_000),
        _added("wsgi_session_rule", "untouched"),
        signed,
        _added("floor_rule", "untouched"),
    ),
    _multiplies("one SELECT by primary key", 1.01, "select"),
    _multiplies("a list of 100 rows", 1.01, "rows"),
    _multiplies("INSERT, committed by a rule", 1.015, "insert", "_rule"),
    *(
        _beside_flask_sqlalchemy(case, view)
        for case, view in (
            ("untouched", "untouched"),
            ("a stream", "stream"),
            ("SELECT", "select"),
            ("100 rows", "rows"),
            ("INSERT", "insert"),
        )
    ),
    Goal("bytes for each open untouched response", _fixed(600), _memory, whole),
    Goal("what each of 10,000 open responses costs, by each of 10", _fixed(1.05), _growth, times),
    Goal("round trips on PostgreSQL, untouched", _fixed(0), _trips("untouched"), whole),
    Goal("round trips on PostgreSQL, SELECT", _fixed(3), _trips("select"), whole),
    Goal("round trips on PostgreSQL, INSERT", _fixed(3), _trips("insert"), whole),
)
