"""The recording: what is noted of a request while it runs, and which one code belongs to."""

from __future__ import annotations

import time
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy import Engine

from .. import _wsgi
from .._scope.look import look
from .._scope.membership import scope_of_session
from .._session.codes import code_of
from .._sql.excerpt import excerpt
from ..scope import State
from ._fault import contained
from ._findings import find
from ._holds import Holds
from ._labels import label_of
from ._record import Loss, RequestRecord
from ._transcript import Transcript
from ._verdict import Failure, Verdict, plain_outcome, repeated

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from sqlalchemy.orm import Session

    from .._scope.base import BaseScope
    from ._callers import Callers
    from ._holds import Hold
    from ._record import Outcome


class Recording:
    """What is noted of one request.  Lives as long as its scope."""

    __slots__ = (
        "_conflicts",
        "_errors",
        "_scope",
        "_started",
        "_status",
        "attempt",
        "began",
        "callers",
        "holds",
        "is_open",
        "method",
        "number",
        "path",
        "transcript",
        "verdict",
    )

    transcript: Transcript | None
    """Of its statements; None where they are not recorded."""

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
        self._conflicts: tuple[str, ...] = environ.get("wsgi_session.conflicts", ())
        self._errors: list[str] = []
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
        self.verdict: Verdict | None = None
        self.method, self.path = _named(environ)

    @property
    def what(self) -> str:
        """The method and the path."""
        return f"{self.method} {self.path}"

    @property
    def state(self) -> State:
        """What has become of the request's scope so far."""
        scope = self._scope()
        assert scope is not None  # it ends the recording first
        return scope.outcome

    def told(self) -> Verdict:
        """Return what has been told of the outcome, to be told more."""
        if self.verdict is None:
            self.verdict = Verdict()
        return self.verdict

    def noting(self, start_response: StartResponse) -> StartResponse:
        """Return a *start_response* whose status is noted."""

        def start(status: str, headers: _wsgi.Headers, *exc_info: Any) -> Callable[[bytes], object]:
            self._status = status
            return start_response(status, headers, *exc_info)

        return start

    @contained
    def doom(self) -> None:
        """Note that the application has doomed the request."""
        self.told().doom(self.callers.line())

    @contained
    def fail(self, error: BaseException) -> None:
        """Note the error that ends the request."""
        scope = self._scope()
        failure = Failure(
            error_name(error),
            self.callers.line_of(error),
            is_of_commit=scope is not None and scope.outcome is State.SETTLING,
        )
        self.told().fail(failure)
        if failure.error not in self._errors:
            self.note_error(failure.error)

    @contained
    def lose(self, what: str, remedy: str) -> None:
        """Note what is lost."""
        self.told().loss = Loss(what, remedy)

    def catch(self, error: BaseException) -> None:
        """Note an error that the application handles, and logs."""
        self.told().caught = Failure(error_name(error), self.callers.line_of(error))

    def commit(self, session: Session) -> None:
        """Note that *session* was committed."""
        scope = scope_of_session(session)
        if scope is not None and scope is self._scope() and scope.outcome is State.SETTLING:
            self.told().ruled_on = _code(self._status)
        else:
            self.told().commit(self.callers.line())

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

    def finish(self) -> RequestRecord:
        """End the recording, and return what it has come to, with its findings."""
        now = perf_counter()
        self.is_open = False
        self.holds.end(now)
        scope = self._scope()
        assert scope is not None  # it calls this
        record = self._record(scope, now)
        findings = find(record, releases_reads=scope.terms.release_reads)
        return replace(record, findings=findings) if findings else record

    def _record(self, scope: BaseScope, now: float) -> RequestRecord:
        status = _code(self._status)
        return RequestRecord(
            method=self.method,
            path=self.path,
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
            is_dropped=scope.is_dropped,
            outcome=self._outcome(scope, status),
            loss=None if self.verdict is None else self._loss(self.verdict),
            **self._statements(now),
        )

    def _outcome(self, scope: BaseScope, status: int | None) -> Outcome:
        decided = plain_outcome if self.verdict is None else self.verdict.outcome
        found = decided(scope.outcome, scope.terms.commit, self.method, status)
        beside = repeated(self._conflicts) + _engine_of(scope)
        return replace(found, notes=found.notes + beside) if beside else found

    def _loss(self, verdict: Verdict) -> Loss | None:
        loss = verdict.loss
        undone = None if self.transcript is None else self.transcript.undone
        return loss if loss is None or undone is None else replace(loss, line=undone.line)

    def _statements(self, now: float) -> dict[str, Any]:
        if (transcript := self.transcript) is None:
            return {}
        transcript.end_ending(now)
        return {
            "in_database": transcript.duration,
            "statement_count": transcript.count,
            "statements": tuple(transcript.kept),
            "commits": transcript.commits,
            "rollbacks": transcript.rollbacks,
            "ends": transcript.ends,
        }


_MAX_ERRORS = 20
_MAX_METHOD = 20
_MAX_PATH = 500
_MAX_NAME = 200


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
    code = code_of(cause)
    known = f" {code}" if code else ""
    return excerpt(f"{name}: {type(cause).__name__}", _MAX_NAME) + known


def _named(environ: WSGIEnvironment) -> tuple[str, str]:
    """Return the method and the path of a request, whose client may have chosen long ones."""
    method, _, path = _wsgi.method_and_path(environ).partition(" ")
    return excerpt(method, _MAX_METHOD), excerpt(path, _MAX_PATH)


def _engine_of(scope: BaseScope) -> tuple[str, ...]:
    """Name the engine that was chosen for the session of *scope*, if one was."""
    return (f"on {label_of(scope.bind)}",) if isinstance(scope.bind, Engine) else ()


def _code(status: str | None) -> int | None:
    try:
        return None if status is None else _wsgi.status_code(status)
    except ValueError:
        return None
