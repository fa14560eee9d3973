"""The filter: what puts the request that a line of the log belongs to on that line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from . import _whose
from ._fault import contained
from ._record import RequestRecord

if TYPE_CHECKING:
    from logging import LogRecord


class RequestFilter(logging.Filter):
    """Puts the number and the outcome of the request on each line of the log.  Lives as long as its handler.

    ::

        handler = logging.StreamHandler()
        handler.addFilter(RequestFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s [%(request_id)s %(outcome)s] %(message)s"))

    It belongs on a handler: what is on a logger is not asked about the lines of the loggers below it. It lets all lines
    pass, and gives each two attributes: ``request_id``, the number of the request's record, and ``outcome``, what has
    become of the request so far, such as ``"open"`` or ``"committed"``. On the lines of ``wsgi_session.requests`` it is
    the kind of the final outcome. Both are ``"-"`` outside of a request that is recorded.
    """

    def filter(self, record: LogRecord) -> bool:
        """Complete *record*."""
        record.request_id, record.outcome = _described(record) or ("-", "-")
        return True


@contained
def _described(line: LogRecord) -> tuple[str, str] | None:
    for told in line.args if isinstance(line.args, tuple) else ():
        if isinstance(told, RequestRecord):
            return str(told.number), told.outcome.kind.value
    recording = _whose.current()
    return None if recording is None else (str(recording.number), recording.state.value)
