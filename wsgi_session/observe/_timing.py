"""The Server-Timing header: what a response says of the databases' part in the time that it took."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from ._fault import contained

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse

    from .. import _wsgi
    from ._recording import Recording


def timing(start_response: StartResponse, recording: Recording) -> StartResponse:
    """Return a *start_response* that appends to the headers what *recording* has come to by then.

    The list of the application stays as it is, and so does a header of the same name in it: there may be several
    (https://www.w3.org/TR/server-timing/).
    """

    def start(status: str, headers: _wsgi.Headers, *exc_info: Any) -> Callable[[bytes], object]:
        value = _value(recording)
        return start_response(status, headers if value is None else [*headers, ("Server-Timing", value)], *exc_info)

    return start


@contained
def _value(recording: Recording) -> str:
    now = perf_counter()
    holds = recording.holds
    held = holds.duration + sum(now - hold.since for hold in holds.open)
    waits = f"dbwait;dur={1000 * holds.waited:.1f}, dbheld;dur={1000 * held:.1f}"
    if (transcript := recording.transcript) is None:
        return waits
    return f'db;dur={1000 * transcript.duration:.1f};desc="{transcript.count} statements", {waits}'
