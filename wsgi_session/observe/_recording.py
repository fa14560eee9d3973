"""The recording: what is noted of a request while it runs, and which one code belongs to."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
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
from ._fault import contained, log_once
from ._findings import Seen, find, may_be_odd
from ._holds import Holds
from ._labels import label_of
from ._record import Loss, RequestRecord
from ._transcript import Ending, Transcript
from ._verdict import Failure, Verdict, plain_kind, plain_outcome, repeated

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse

    from sqlalchemy.orm import Session

    from .._scope.base import BaseScope
    from ._callers import Callers
    from ._holds import Hold
    from ._record import Finding, Outcome
    from ._values import Values


@dataclass(frozen=True, slots=True)
class Manner:
    """How requests are recorded.  Lives as long as the recorder."""

    callers: Callers
    """Find the application's lines."""

    statements: bool
    """Whether statements are recorded."""

    max_kept: int
    """How many of them, and of connections, are kept of a request."""

    values: bool
    """Whether what is given to statements is kept."""

    keep: Callable[[Recording], object]
    """Is given each recording that is over."""


class Recording:
    """What is noted of one request.  Lives as long as its scope, and then for as long as its record is kept.

    Most of what a record says is found out when somebody asks for it, for most of them are never looked at.
    """

    __slots__ = (
        "_conflicts",
        "_duration",
        "_engine",
        "_errors",
        "_holds",
        "_is_dropped",
        "_manner",
        "_method",
        "_path",
        "_record",
        "_rule",
        "_scope",
        "_started",
        "_state",
        "_status",
        "_transcript",
        "asked",
        "attempt",
        "began",
        "callers",
        "findings",
        "is_open",
        "keeps_values",
        "number",
        "verdict",
    )

    asked: Callable[[RequestRecord], object] | None
    """Who has asked to be told of this request when it began."""

    findings: tuple[Finding, ...]
    """There, as all that is noted by `end`, when the request is over."""

    def __init__(
        self, scope: BaseScope, manner: Manner, number: int, asked: Callable[[RequestRecord], object] | None
    ) -> None:
        """Begin with nothing.

        Args:
            scope: Of the request; referred to weakly.
            manner: How it is recorded.
            number: Which of the requests of its recorder it is of, from 1.
            asked: Who is to be told.
        """
        environ: Any = scope.environ
        self._conflicts: tuple[str, ...] = ()
        self.attempt = 0
        if "retry.attempt" in environ:
            self._conflicts = environ.get("wsgi_session.conflicts", ())
            self.attempt = environ["retry.attempt"]
        self._errors: tuple[str, ...] = ()
        self._holds: Holds | None = None
        self._manner = manner
        self._method: str = environ.get("REQUEST_METHOD", "-")
        self._path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        if len(self._path) > _MAX_PATH or len(self._method) > _MAX_METHOD:  # what shows that it is too long is enough
            self._method, self._path = self._method[: _MAX_METHOD + 1], self._path[: _MAX_PATH + 1]
        self._record: RequestRecord | None = None
        self._scope = ref(scope)
        self._started = time.time()
        self._status: str | None = None
        self._transcript: Transcript | None = None
        self.asked = asked
        self.callers = manner.callers
        self.keeps_values = manner.values
        self.is_open = True
        self.number = number
        self.verdict: Verdict | None = None
        self.began = perf_counter()

    @property
    def method(self) -> str:
        """The method, as far as it is kept."""
        return excerpt(_wsgi.escaped(self._method), _MAX_METHOD)

    @property
    def path(self) -> str:
        """The path, as far as it is kept."""
        return excerpt(_wsgi.escaped(self._path), _MAX_PATH)

    @property
    def what(self) -> str:
        """The method and the path."""
        return f"{self.method} {self.path}"

    @property
    def holds(self) -> Holds:
        """Its connections."""
        if self._holds is None:
            self._holds = Holds(self._manner.max_kept)
        return self._holds

    @property
    def transcript(self) -> Transcript | None:
        """What it has sent; None where that is not recorded."""
        if self._transcript is None and self._manner.statements:
            self._transcript = Transcript(self._manner.max_kept)
        return self._transcript

    @property
    def state(self) -> State:
        """What has become of the request's scope so far."""
        scope = self._scope()
        assert scope is not None  # it ends the recording first
        return scope.outcome

    @property
    def kind(self) -> str:
        """What has become of the request's changes, as a value of `OutcomeKind`, when it is over."""
        if self.verdict is None:
            return plain_kind(self._state)
        return self.outcome().kind.value

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
            self._errors += (name,)

    def take(self, hold: Hold) -> None:
        """Take over a connection that was taken for this request, but out of its context."""
        if hold.request is not self and hold.since >= self.began:
            if hold.request is not None:
                hold.request.holds.leave(hold)
            hold.request = self
            self.holds.take(hold)

    @contained
    def lose_connection(self, hold: Hold) -> None:
        """Note that a connection is thrown away in the middle of a transaction, which ends it as a ROLLBACK does."""
        assert self.transcript is not None  # only a statement that is recorded shows that a connection is used
        self.transcript.end(Ending("rollback", perf_counter(), 0.0, hold.engine, self.line_of_ending()), hold)

    def line_of_ending(self) -> str | None:
        """Return the line of the application that ends a transaction; None for what a rule and the end do."""
        scope = self._scope()
        if scope is None or scope.is_untouched is None or scope.outcome is State.SETTLING:
            return None
        return self.callers.line()

    def end(self, scope: BaseScope) -> None:
        """Note that *scope* has ended, and with it the request."""
        try:
            now = perf_counter()
            terms = scope.terms
            self.is_open = False
            self._duration = now - self.began
            self._engine = None if terms.bind is None else scope.bind
            self._is_dropped = scope.is_dropped
            self._rule = terms.commit
            self._state = scope.outcome
            if self._holds is None and self._transcript is None and self.verdict is None:
                self.findings = ()
            else:
                self.holds.end(now)
                self.findings = find(self._seen(), terms.release_reads) if self._is_odd() else ()
            self._manner.keep(self)
        except Exception:
            log_once(self.end)

    def record(self) -> RequestRecord:
        """Return what it has come to, when it is over."""
        if self._record is None:
            self._record = self._made()
        return self._record

    def outcome(self) -> Outcome:
        """Say what has become of the changes, and why."""
        decided = plain_outcome if self.verdict is None else self.verdict.outcome
        found = decided(self._state, self._rule, self.method, _code(self._status))
        engine = (f"on {label_of(self._engine)}",) if isinstance(self._engine, Engine) else ()
        beside = repeated(self._conflicts) + engine
        return replace(found, notes=found.notes + beside) if beside else found

    def _made(self) -> RequestRecord:
        holds, transcript = self.holds, self._transcript
        sent: dict[str, Any] = {}
        if transcript is not None:
            sent = {
                "in_database": transcript.duration,
                "statement_count": transcript.count,
                "statements": transcript.statements(self.began),
                "commits": transcript.commits,
                "rollbacks": transcript.rollbacks,
                "ends": transcript.ends,
            }
        elif self._manner.statements:
            sent = {"in_database": 0.0}
        return RequestRecord(
            method=self.method,
            path=self.path,
            number=self.number,
            attempt=self.attempt,
            status=_code(self._status),
            started=self._started,
            duration=self._duration,
            waited=holds.waited,
            held=holds.duration,
            connections=holds.connections(self.began),
            errors=self._errors,
            ran_dry=holds.ran_dry,
            is_dropped=self._is_dropped,
            outcome=self.outcome(),
            loss=self._loss(),
            findings=self.findings,
            **sent,
        )

    def values(self) -> dict[int, Values]:
        """Return what was given to statements, by their place among those of the record."""
        return {} if self._transcript is None else self._transcript.values

    def _is_odd(self) -> bool:
        """Say whether there may be findings."""
        transcript, verdict = self._transcript, self.verdict
        if self._is_dropped or self.holds.ran_dry is not None or (verdict is not None and verdict.loss is not None):
            return True
        return transcript is not None and may_be_odd(transcript.count, self.holds.duration - transcript.duration)

    def _seen(self) -> Seen:
        holds, transcript = self.holds, self._transcript
        return Seen(
            statements=() if transcript is None else transcript.kept,
            connections=holds.over,
            held=holds.duration,
            idle=None if transcript is None else max(0.0, holds.duration - transcript.duration),
            ran_dry=holds.ran_dry,
            is_dropped=self._is_dropped,
            loss=self._loss(),
        )

    def _loss(self) -> Loss | None:
        loss = None if self.verdict is None else self.verdict.loss
        undone = None if self._transcript is None else self._transcript.undone
        return loss if loss is None or undone is None else replace(loss, line=undone.line)


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


def _code(status: str | None) -> int | None:
    try:
        return None if status is None else _wsgi.status_code(status)
    except ValueError:
        return None
