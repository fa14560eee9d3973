"""The notes: what is noted of a request while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import ref

from .. import _wsgi
from .._scope.life import OVER
from .._scope.membership import scope_of_session
from .._sql.excerpt import excerpt
from ..scope import State
from ._fault import contained
from ._holds import Holds
from ._labels import error_name
from ._record import Loss
from ._transcript import Ending, Transcript
from ._verdict import Failure, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse

    from sqlalchemy.orm import Session

    from .._scope.base import BaseScope
    from ._callers import Callers
    from ._holds import Hold
    from ._record import RequestRecord


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

    keep: Callable[[Any], object]
    """Is given each recording that is over."""


class RequestNotes:
    """What is noted of one request while it runs.  Lives as long as the recording that it is."""

    __slots__ = (
        "_conflicts",
        "_errors",
        "_holds",
        "_manner",
        "_method",
        "_path",
        "_scope",
        "_started",
        "_status",
        "_transcript",
        "asked",
        "attempt",
        "began",
        "callers",
        "is_open",
        "keeps_values",
        "number",
        "verdict",
    )

    asked: Callable[[RequestRecord], object] | None
    """Who has asked to be told of this request when it began."""

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
            self.told().ruled_on = _wsgi.known_code(self._status)
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
        if scope is None or scope.life is OVER or scope.outcome is State.SETTLING:
            return None
        return self.callers.line()


_MAX_ERRORS = 20
_MAX_METHOD = 20
_MAX_PATH = 500
