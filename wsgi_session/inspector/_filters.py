"""The filter: which of the requests a page shows.  Pure: from a query and records to records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ._routes import route_of

if TYPE_CHECKING:
    from ..observe import RequestRecord


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests are shown, as a query says it."""

    path: str
    """What their paths have in them."""

    method: str
    status: str
    """What their status begins with, such as ``"5"`` or ``"404"``."""

    route: str
    """The path of their route, with ``*`` for what differs."""

    found: bool
    """Whether only those with findings or errors are shown."""

    every: bool
    """Whether those are shown, too, that have not used a database, as static files do not."""

    def takes(self, record: RequestRecord) -> bool:
        """Say whether *record* is shown."""
        return (
            self.path in record.path
            and self.method.upper() in ("", record.method)
            and str(record.status or "").startswith(self.status)
            and self.route in ("", route_of(record.path))
            and (not self.found or is_found(record))
            and (self.every or not is_quiet(record))
        )

    @property
    def query(self) -> str:
        """The query that says the same, for a link; ``&`` follows, if there is one."""
        said = {name: getattr(self, name) for name in ("path", "method", "status", "route")}
        said |= {name: "1" for name in ("found", "every") if getattr(self, name)}
        query = urlencode({name: value for name, value in said.items() if value})
        return query and f"{query}&"


def filter_of(query: Mapping[str, str]) -> Filter:
    """Return the filter that a query asks for."""
    path, method, status, route = (query.get(name, "").strip() for name in ("path", "method", "status", "route"))
    return Filter(path, method, status, route, bool(query.get("found")), bool(query.get("every")))


def is_found(record: RequestRecord) -> bool:
    """Say whether there is anything about a request that somebody should look at."""
    return bool(record.findings or record.errors) or record.status is None or record.status >= 500


def is_quiet(record: RequestRecord) -> bool:
    """Say whether a request has not used a database, and went well."""
    return not (record.connections or record.statement_count or is_found(record))
