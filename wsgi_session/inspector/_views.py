"""The views: what each page shows of a recorder, as values that become HTML or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..replicas._replicas import all_gauges
from ._comparison import comparison
from ._filters import filter_of, is_quiet
from ._groups import groups
from ._literals import as_sql, shown
from ._parts import cut
from ._plan import why_not
from ._routes import routes

if TYPE_CHECKING:
    from ..observe import Recorder, RequestRecord

_REDIRECTIONS = (301, 302, 303, 307, 308)

_SOON = 2.0
"""The seconds within which a browser follows a redirection."""

REQUESTS = 50
"""How many requests a page has."""

STATEMENTS = 200
"""How many statements, or groups of them, a page has."""

ORDERS: dict[str, Callable[[RequestRecord], float]] = {
    "newest": lambda record: record.number,
    "duration": lambda record: record.duration,
    "in_database": lambda record: record.in_database or 0,
    "waited": lambda record: record.waited,
    "held": lambda record: record.held,
    "idle": lambda record: record.idle or 0,
    "statements": lambda record: record.statement_count,
    "findings": lambda record: len(record.findings),
}
"""By what requests can be sorted; the most comes first, and of equals the newest."""

Query = Mapping[str, str]


class View(NamedTuple):
    """What a page shows."""

    name: str
    values: dict[str, Any]


class Given(NamedTuple):
    """What was given to a statement, as it is shown."""

    parameters: list[tuple[str, str]]
    sql: str | None
    """The statement with its values in it, if that can be written."""

    has_plan: bool
    """Whether there is a plan of it."""


def view_of(path: str, query: Query, recorder: Recorder) -> View | None:
    """Return what is to be seen at *path*, or None if there is nothing."""
    if path.startswith("/requests/"):
        return _request(path.removeprefix("/requests/"), query, recorder)
    if path.startswith("/badge/"):
        return _badge(path.removeprefix("/badge/"), recorder)
    found = _VIEWS.get(path)
    return None if found is None else found(query, recorder)


def _requests(query: Query, recorder: Recorder) -> View:
    """Show the latest requests."""
    sort = query["sort"] if query.get("sort") in ORDERS else "newest"
    order = ORDERS[sort]
    chosen, kept = filter_of(query), recorder.records
    records = sorted(filter(chosen.takes, kept), key=lambda record: (order(record), record.number), reverse=True)
    requests = cut(records, _number(query, "part"), REQUESTS)
    hidden = 0 if chosen.every else sum(map(is_quiet, kept))
    values = {"requests": requests, "sort": sort, "filter": chosen, "kept": len(kept), "hidden": hidden}
    return View("requests", {**values, "gauges": recorder.gauges(), "replicas": all_gauges()})


def _request(number: str, query: Query, recorder: Recorder) -> View | None:
    """Show one request, if it is among those that are kept."""
    records = recorder.records
    record = next((one for one in records if str(one.number) == number), None)
    if record is None:
        return None
    statements = cut(record.statements, _number(query, "part"), STATEMENTS)
    shapes = cut(groups([record]), _number(query, "shapes"), STATEMENTS)
    values = {"request": record, "statements": statements, "shapes": shapes}
    return View("request", {**values, "comparison": comparison(record, records)})


def _badge(number: str, recorder: Recorder) -> View:
    """Show in a few words what a request did, or that it is not over."""
    records = recorder.records
    record = next((one for one in records if str(one.number) == number), None)
    is_live = record is None and any(str(one.number) == number for one in recorder.live())
    before = None if record is None else _redirection_to(record, records)
    return View("badge", {"request": record, "before": before, "is_live": is_live})


def _redirection_to(record: RequestRecord, records: Iterable[RequestRecord]) -> RequestRecord | None:
    """Return the request that has probably led to *record* by a redirection, as a form does: nobody sees its page."""
    before = next((one for one in records if one.number == record.number - 1), None)
    if before is None or before.status not in _REDIRECTIONS:
        return None
    return before if record.started - (before.started + before.duration) < _SOON else None


def _routes(_query: Query, recorder: Recorder) -> View:
    """Show how long the requests of each route took."""
    return View("routes", {"routes": routes(recorder.records), "requests": len(recorder.records)})


def _live(_query: Query, recorder: Recorder) -> View:
    """Show the requests that are not over, and who has the connections."""
    return View("live", {"live": recorder.live(), "holders": recorder.holders()})


def _statements(query: Query, recorder: Recorder) -> View:
    """Show the statements of all requests that are kept."""
    shapes = cut(groups(recorder.records), _number(query, "shapes"), STATEMENTS)
    return View("statements", {"shapes": shapes, "requests": len(recorder.records)})


def _pools(_query: Query, recorder: Recorder) -> View:
    """Show how full each pool is, and what went to replicas."""
    return View("pools", {"gauges": recorder.gauges(), "replicas": all_gauges()})


def given_in(record: RequestRecord, recorder: Recorder, *, has_plans: bool) -> dict[int, Given]:
    """Return what was given to the statements of *record*, by their number from 1."""
    return {
        place + 1: Given(shown(values), as_sql(values), has_plan=has_plans and why_not(values) is None)
        for place, values in recorder.values_of(record.number).items()
    }


def _number(query: Query, name: str) -> int:
    given = query.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 7 else 1


_VIEWS: dict[str, Callable[[Query, Recorder], View]] = {
    "": _requests,
    "/": _requests,
    "/live": _live,
    "/routes": _routes,
    "/statements": _statements,
    "/pools": _pools,
}
