"""The report: the figures of all subjects, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .figures import FOLLOWED, AllFigures, Figures
from .goals import GOALS, TRIPS, Goal, Measured, signed, times, whole


def report(found: AllFigures, heading: str) -> str:
    """Render everything that is known."""
    parts = [heading]
    if set(found) >= JUDGED:
        parts += ["## Goals", _goals(found), FLOOR]
    parts += ["## Beside the peers", PEERS, _peers(found)]
    if FOLLOWED in found:
        parts += ["## Growth", GROWTH, _growth(found[FOLLOWED])]
    parts += ["## Versions", _versions(found)]
    return "\n\n".join(parts) + "\n"


FLOORS = ("floor", "floor_rule")
"""The subjects that nobody could use."""

JUDGED = {"wsgi_session", "wsgi_session_rule", "wsgi_session_flask", "flask_sqlalchemy", *FLOORS}
"""The subjects that the goals are about."""

FLOOR = """\
*Floor* is what the parts cost of which this project is made, put together in as few functions as Python allows, with
nothing that guards them ([`benchmarks/floor.py`](../benchmarks/floor.py)): a scope, a `ContextVar` that is set and set
back, a session that is built on first touch, a step of a body in its scope. What lies between the floor and what was
measured is the price of the promises, for an error, a second thread, a fork, a dropped response and late use are all
minded."""

PEERS = """\
Each row is a way to have a session in every request, beside the same application in the same framework whose views
open theirs by hand (`with Session() as session:`). *Untouched* is a request that needs no session, *stream* one that
is answered with a generator of ten chunks and needs none; *SELECT* reads one row by its primary key, *100 rows* a
list; *INSERT* adds a row, and is committed by whom the table says. What is added to the first two is shown, and what
the others are multiplied by. *Memory* is what is added to each of 1,000 streamed responses that are open at the same
time, in bytes; where it is near zero, the session is gone before the body is sent. *Round trips* are those on
PostgreSQL for an untouched request, a SELECT and an INSERT; by hand they are 0, 3 and 3.

bottle-sqlalchemy gives a session to those views alone that ask for one, so that the others cost nothing."""

GROWTH = """\
What wsgi_session adds to a streamed response of ten chunks when so many are open at the same time on one thread, and
step in turn; and to an untouched request when so many threads make them, each of which holds a streamed response open.
The second includes a little of what the switches between threads cost. Both are from one process of each side, for
where its objects lie hardly matters to them."""


def _goals(found: AllFigures) -> str:
    return _table(("case", "goal", "floor", "measured", ""), [_goal(goal, found) for goal in GOALS])


def _goal(goal: Goal, found: AllFigures) -> tuple[str, ...]:
    limit = goal.limit(found)
    measured = goal.measured(found)
    floor = goal.floor(found)
    return (
        goal.case,
        _with_error(goal, limit),
        "" if floor is None else _with_error(goal, floor),
        "not measured" if measured is None else _with_error(goal, measured),
        "" if measured is None else "met" if measured.value <= limit.value else "**missed**",
    )


def _with_error(goal: Goal, measured: Measured) -> str:
    return goal.shown(measured.value) + ("" if measured.error is None else f" ±{measured.error:.3f}")


def _peers(found: AllFigures) -> str:
    heads = (
        "",
        "in",
        "SQLAlchemy",
        "untouched",
        "stream",
        "SELECT",
        "100 rows",
        "INSERT",
        "by",
        "memory",
        "round trips",
    )
    return _table(heads, [_peer(figures) for name, figures in found.items() if name not in FLOORS])


def _peer(figures: Figures) -> tuple[str, ...]:
    subject, costs = figures.subject, figures.costs
    return (
        subject.title,
        {"wsgi": "plain WSGI"}.get(subject.framework.__name__, subject.framework.__name__.capitalize()),
        figures.versions["SQLAlchemy"],
        signed(costs["untouched"].added),
        signed(costs["stream"].added),
        times(costs["select"].ratio),
        times(costs["rows"].ratio),
        times(costs["insert"].ratio),
        subject.commits,
        whole(figures.memory),
        ", ".join(str(figures.round_trips[view]) for view in TRIPS) if figures.round_trips else "not measured",
    )


def _growth(figures: Figures) -> str:
    return "\n\n".join(
        _table((head, *costs), [("added", *(signed(cost.added) for cost in costs.values()))])
        for head, costs in (("open on one thread", figures.open_responses), ("threads", figures.threads))
    )


def _versions(found: AllFigures) -> str:
    return "\n".join(f"- {line}" for line in dict.fromkeys(_versions_of(figures) for figures in found.values()))


def _versions_of(figures: Figures) -> str:
    words = re.findall(r"[a-z0-9]+[a-z0-9_.-]*", " ".join(("sqlalchemy", *figures.subject.requirements)).lower())
    wanted = {_normal(word) for word in words}
    return ", ".join(f"{name} {figures.versions[name]}" for name in sorted(figures.versions) if _normal(name) in wanted)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
