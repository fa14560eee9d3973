"""The recording: what is noted of a request while it runs, and which one code belongs to."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import ref

from .. import _wsgi
from .._scope.look import look
from .._scope.membership import scope_of_session
from .._session.codes import code_of
from .._sql.excerpt import excerpt
from ..scope import State
from ._findings import find
from ._holds import Holds
from ._record import RequestRecord
from ._transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sqlalchemy.orm import Session

    from .._scope.base import BaseScope
    from ._callers import Callers
    from ._holds import Hold


class Recording:
    """What is noted of one request.  Lives as long as its scope."""

    __slots__ = (
        "_errors",
        "_has_failed",
        "_scope",
        "_started",
        "_status",
        "attempt",
        "began",
        "callers",
        "holds",
        "is_open",
        "number",
        "transcript",
        "what",
    )

    transcript: Transcript | None
    """Of its statements; None where they are not recorded."""

    what: str
    """The method and the path."""

    def __init__(self, scope: BaseScope, callers: Callers, *, number: int, statements: bool, max_kept: int) -> None:
        """Begin with nothing.

        Args:
            scope: Of the request; referred to weakly.
            callers: Find the application's lines.
            number: Which of the requests of its recorder it is of, from 1.
            statements: Whether they are recorded.
            max_kept: How many of them, and of connections, are kept.
        """
        environ = scope.environ or {}
        self._errors: list[str] = []
        self._has_failed = False
        self._scope = ref(scope)
        self._started = time.time()
        self._status: str | None = None
        self.attempt: int = environ.get("retry.attempt", 0)
        self.began = perf_counter()
        self.callers = callers
        self.holds = Holds(self.began, max_kept)
        self.is_open = True
        self.number = number
        self.transcript = Transcript(self.began, max_kept) if statements else None
        self.what = _named(environ)

    def noting(self, start_response: StartResponse) -> StartResponse:
        """Return a *start_response* whose status is noted."""

        def start(status: str, headers: _wsgi.Headers, *exc_info: Any) -> Callable[[bytes], object]:
            self._status = status
            return start_response(status, headers, *exc_info)

        return start

    def fail(self, error: BaseException) -> None:
        """Note that the application's call has raised."""
        self._has_failed = True
        self.note_error(error_name(error))

    def note_error(self, name: str) -> None:
        """Note an error by its name."""
        if len(self._errors) < _MAX_ERRORS:
            self._errors.append(name)

    def take(self, hold: Hold) -> None:
        """Take over a connection that was taken for this request, but out of its context."""
        if hold.request is not self and hold.since >= self.began:
            if hold.request is not None:
                hold.request.holds.leave(hold)
            hold.request = self
            self.holds.take(hold)

    def is_rolled_back(self) -> bool:
        """Say whether the scope has rolled back by now because the request has failed."""
        scope = self._scope()
        return self._has_failed or (scope is not None and scope.state is State.ROLLED_BACK)

    def finish(self) -> RequestRecord:
        """End the recording, and return what it has come to, with its findings."""
        now = perf_counter()
        self.is_open = False
        self.holds.end(now)
        record = self._record(now)
        findings = find(record)
        return replace(record, findings=findings) if findings else record

    def _record(self, now: float) -> RequestRecord:
        method, _, path = self.what.partition(" ")
        status = _code(self._status)
        scope = self._scope()
        return RequestRecord(
            method=method,
            path=path,
            number=self.number,
            attempt=self.attempt,
            status=status,
            started=self._started,
            duration=now - self.began,
            waited=self.holds.waited,
            held=self.holds.duration,
            connections=tuple(self.holds.over),
            errors=tuple(self._errors),
            ran_dry=self.holds.ran_dry,
            is_dropped=scope is not None and scope.is_dropped,
            **self._statements(now, is_success=not self._has_failed and status is not None and status < 400),
        )

    def _statements(self, now: float, *, is_success: bool) -> dict[str, Any]:
        if (transcript := self.transcript) is None:
            return {}
        transcript.end_ending(now)
        return {
            "in_database": transcript.duration,
            "statement_count": transcript.count,
            "statements": tuple(transcript.kept),
            "commits": transcript.commits,
            "rollbacks": transcript.rollbacks,
            "uncommitted": transcript.lost if is_success else None,
        }


_MAX_ERRORS = 20
_MAX_METHOD = 20
_MAX_PATH = 500
_MAX_NAME = 200

_code_of_an_error = re.compile(r"[0-9A-Z_]{1,60}")
"""Whatever else a driver has in the place of a code may be a text, with values in it."""


def current() -> Recording | None:
    """Return the recording of the request that this code runs in, if there is one."""
    return _outwards(look())


def of_session(session: Session) -> Recording | None:
    """Return the recording of the request that *session* belongs to; of one made by hand, of the current request."""
    scope = scope_of_session(session)
    return current() if scope is None else _outwards(scope)


def _outwards(scope: BaseScope | None) -> Recording | None:
    while scope is not None:
        recording: Recording | None = getattr(scope, "recording", None)
        if recording is not None and recording.is_open:
            return recording
        scope = scope.outer
    return None


def error_name(error: BaseException) -> str:
    """Name an error by its class, its driver's, and its code; the text may have values in it."""
    cause: Any = getattr(error, "orig", None)
    name = type(error).__name__
    if cause is None:
        return excerpt(name, _MAX_NAME)
    code = str(code_of(cause))
    known = f" {code}" if _code_of_an_error.fullmatch(code) else ""
    return excerpt(f"{name}: {type(cause).__name__}", _MAX_NAME) + known


def _named(environ: WSGIEnvironment) -> str:
    """Name a request, whose client may have chosen a long method and a long path."""
    method, _, path = _wsgi.method_and_path(environ).partition(" ")
    return f"{excerpt(method, _MAX_METHOD)} {excerpt(path, _MAX_PATH)}"


def _code(status: str | None) -> int | None:
    try:
        return None if status is None else _wsgi.status_code(status)
    except ValueError:
        return None
