"""A request that is attempted: what is done with each answer, and with each error."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .. import _wsgi
from .._log import log
from .._response.start import HeldStart, held
from .._scope.beginning import DEADLINE, LATE
from .._scope.look import look, nearest_open
from .._session.codes import code_or_class, sqlstate
from . import _attempt
from ._conflict import is_retryable
from ._replay import RequestBody

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from ._attempt import Attempt
    from ._policy import Policy


AGAIN: Iterable[bytes] = iter(())
"""In place of an answer: there is to be another attempt."""

QUERY_CANCELED = "57014"
"""The SQLSTATE of a statement that PostgreSQL has ended, as by ``statement_timeout``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a `RetryMiddleware` was given.  Lives as long as it does."""

    app: WSGIApplication
    deadline: float | None
    exhausted: WSGIApplication | None
    timed_out: WSGIApplication | None
    max_body: int
    max_in_memory: int
    policy: Policy
    retry_responses: bool

    said: set[str] = field(default_factory=set)
    """What is said once only, and has been."""

    def first_time(self, what: str) -> bool:
        """Say whether *what* has not been said yet; it has been now."""
        is_first = what not in self.said
        self.said.add(what)
        return is_first


class AttemptedRequest:
    """A request that is attempted.  Lives until something of a response goes on to the server."""

    def __init__(self, options: Options, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        """Prepare the first attempt."""
        self.body = RequestBody(environ, max_body=options.max_body, max_in_memory=options.max_in_memory)
        self._conflicts: tuple[str, ...] = ()
        self._environ = environ
        if options.deadline is not None:
            until = time.monotonic() + options.deadline
            environ[DEADLINE] = min(until, environ.get(DEADLINE, until))
        self._options = options
        self._number = 0  # of the attempt; that in the environ is for the application, which may write to it
        self._start_response = start_response

    def attempt(self, number: int) -> Iterable[bytes]:
        """Make an attempt, and return what the server gets, or `AGAIN`.

        Raises:
            BaseException: What the application has raised, if that is final.
        """
        self._number = number
        environ = self._environ | {
            "retry.attempt": number,
            "retry.attempts": self._options.policy.attempts,
            "wsgi_session.conflicts": self._conflicts,
            "wsgi.input": self.body.reader(),
        }
        is_final = True
        try:
            with _attempt.observed() as attempt:
                answer = self._answer(environ, attempt)
            is_final = answer is not AGAIN
        finally:
            if is_final:
                self._environ.update(environ, **{"wsgi.input": self._environ["wsgi.input"]})
        return answer

    def _answer(self, environ: WSGIEnvironment, attempt: Attempt) -> Iterable[bytes]:
        start = held(self._start_response)
        body: Iterable[bytes] | None = None
        try:
            body = self._options.app(environ, start.hold)
            begun = self._begun(body, attempt)
            self._raise_what_was_hidden(start, environ, attempt)
        except BaseException as error:
            _wsgi.close_quietly(body)  # first, for it may commit
            instead = self._instead(error, environ, attempt, start) if isinstance(error, Exception) else None
            if instead is None:
                raise
            return instead
        start.let_go(body)
        return begun

    def _begun(self, body: Iterable[bytes], attempt: Attempt) -> Iterable[bytes]:
        """Take the first chunk of *body*, if its transaction may be committed with it."""
        if _wsgi.is_finished(body, self._environ.get("wsgi.file_wrapper")) or not _wsgi.is_iterable(body):
            return body
        chunks = iter(body)
        first = () if attempt.is_committed else tuple(itertools.islice(filter(None, chunks), 1))
        return BegunBody(body, itertools.chain(first, chunks), self.body)

    def _raise_what_was_hidden(self, start: HeldStart, environ: WSGIEnvironment, attempt: Attempt) -> None:
        """Raise the error of which a framework has made a page, if something is to come in place of the page."""
        policy, status = self._options.policy, start.status
        if not isinstance(status, str) or not status.startswith("5"):
            return
        if (late := self._late_error(attempt, start, environ)) is not None:
            raise late
        error = policy.reason(attempt, start.error, environ)
        may_excuse = self._options.retry_responses and self._may_excuse(attempt, start)
        if error is None:
            if attempt.ran_dry is not None and may_excuse:
                raise attempt.ran_dry
            self._mention_what_was_not_seen(start, environ, attempt)
            return
        obstacle = self._obstacle(attempt, start) or policy.obstacle(self._number)
        if not status.startswith("500"):
            obstacle = f"the application has answered {status[:3]} itself"
        elif not self._options.retry_responses:
            obstacle = "retry_responses=False"
        elif obstacle is None or may_excuse:
            raise error
        policy.tell(_wsgi.method_and_path(environ), policy.failed_attempt(self._number, error, obstacle, environ))

    def _mention_what_was_not_seen(self, start: HeldStart, environ: WSGIEnvironment, attempt: Attempt) -> None:
        """Say that an ``is_retryable`` of the user's could not be asked, for the framework has shown no error."""
        if self._options.policy.is_retryable is is_retryable or start.error or any(attempt.errors()):
            return
        if self._options.first_time("unseen"):
            log.warning(
                "%s was answered with %s, and the framework has kept the error to itself, so is_retryable was not"
                " asked. Let the error out of the application. This is logged once.",
                _wsgi.method_and_path(environ),
                start.status[:3],
            )

    def _instead(
        self, error: Exception, environ: WSGIEnvironment, attempt: Attempt, start: HeldStart
    ) -> Iterable[bytes] | None:
        """Decide what follows on an *error*: `AGAIN`, the answer in place of it, or None if it is final."""
        policy = self._options.policy
        if (late := self._late_error(attempt, start, environ)) is not None and self._options.timed_out is not None:
            environ["wsgi_session.error"] = late
            return self._options.timed_out(environ, self._start_response)
        reason = policy.reason(attempt, error, environ)
        if reason is not None:
            failed = policy.failed_attempt(self._number, reason, self._obstacle(attempt, start), environ)
            policy.tell(_wsgi.method_and_path(environ), failed)
            if failed.wait is not None:
                self._conflicts += (code_or_class(reason),)
                time.sleep(failed.wait)
                return AGAIN
        elif not isinstance(error, PoolTimeoutError):
            return None
        if self._options.exhausted is None or not self._may_excuse(attempt, start):
            return None
        environ["wsgi_session.error"] = reason or attempt.ran_dry or error
        return self._options.exhausted(environ, self._start_response)

    def _late_error(self, attempt: Attempt, start: HeldStart, environ: WSGIEnvironment) -> BaseException | None:
        """Return the error by which the time of the request was over, if another application is to answer for it."""
        if self._options.timed_out is None or not start.is_held or attempt.is_committed or not self._is_over(environ):
            return None
        late: BaseException | None = environ.get(LATE)
        if late is None and isinstance(attempt.last_error, DBAPIError):
            return attempt.last_error if sqlstate(attempt.last_error.orig) == QUERY_CANCELED else None
        return late

    def _is_over(self, environ: WSGIEnvironment) -> bool:
        """Say whether the time of the request is over, but for what is lost by rounding."""
        deadline: float = environ.get(DEADLINE, math.inf)
        return time.monotonic() > deadline - 0.002

    def _may_excuse(self, attempt: Attempt, start: HeldStart) -> bool:
        """Say whether another application may answer that there is nothing to be had now."""
        return self._options.exhausted is not None and start.is_held and not attempt.is_committed

    def _obstacle(self, attempt: Attempt, start: HeldStart) -> str | None:
        """Say why this request cannot be repeated, or None."""
        if not start.is_held:
            return "some of the response was sent"
        if not self.body.is_whole:
            return "its request body is too long to be kept"
        if (scope := nearest_open(look())) is not None:
            return f"it runs inside of {scope!r}; RetryMiddleware belongs outside of the SessionMiddleware"
        if self._is_over(self._environ):
            return "its time is over"
        return attempt.obstacle


class BegunBody:
    """A response whose first chunk has been taken.  Lives as long as the server holds it."""

    __slots__ = ("_body", "_chunks", "_request_body")

    def __init__(self, body: Iterable[bytes], chunks: Iterator[bytes], request_body: RequestBody) -> None:
        """Take over what is left of a body."""
        self._body = body
        self._chunks = chunks
        self._request_body = request_body

    def __iter__(self) -> Iterator[bytes]:
        """Return this very object."""
        return self

    def __next__(self) -> bytes:
        """Return the next chunk."""
        return next(self._chunks)

    def close(self) -> None:
        """Close the application's iterable, and forget the request body."""
        try:
            _wsgi.close(self._body)
        finally:
            self._request_body.close()
