"""What does a request, or a job, again."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .. import _wsgi
from .._response.start import UNCALLED, HeldStart, held
from .._scope.look import look, nearest_open
from ..block import session_scope
from . import _attempt
from ._conflict import is_retryable
from ._policy import IsRetryable, Policy, RetryHook
from ._replay import RequestBody

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from sqlalchemy.orm import scoped_session

    from ._attempt import Attempt

P = ParamSpec("P")
R = TypeVar("R")


class RetryMiddleware:
    """Answer a request again, from the start, when its database asks for it.  Lives as long as the application.

    It belongs outside of the `SessionMiddleware`, so that each attempt has a new scope::

        application = SessionMiddleware(application, Session, commit=on_unsafe_success)
        application = RetryMiddleware(application)

    A request is repeated only if nothing of its response was sent, and nothing was committed in the attempt, by any
    session or connection, nor may have been: a connection that was lost during COMMIT, or one in AUTOCOMMIT. What an
    attempt has done beside the database (a mail that was sent) cannot be seen: leave that to `on_commit`.

    Each attempt has a copy of the environ as it was first received, with ``"retry.attempt"`` (from 0) and
    ``"retry.attempts"`` in it, and reads the request body from its beginning. The environ that was received is updated
    from the last attempt's. The first chunk of a response is taken when the application is called, for its transaction
    may be committed with it.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        attempts: int = 3,
        wait: float = 0.05,
        max_wait: float = 1.0,
        is_retryable: IsRetryable = is_retryable,
        retry_responses: bool = False,
        exhausted: WSGIApplication | None = None,
        on_failed_attempt: RetryHook | None = None,
        max_body: int = 16 * 2**20,
        max_in_memory: int = 2**18,
    ) -> None:
        """Wrap *app*.

        Args:
            app: A `SessionMiddleware`, or what leads to one.
            attempts: How many there are at most, with the first.
            wait: The most seconds before the second attempt; before each further one it is twice as much.
            max_wait: The most seconds before any. What is waited is a random part of it.
            is_retryable: Whether an error is worth another attempt.
            retry_responses: Whether a 500 that a framework has made of such an error is, too: if that error was the
                last thing that a database did, with no statement or savepoint after it. Each statement pays for it.
            exhausted: A WSGI application that answers when the attempts have run out, and when a pool of connections
                has, such as `service_unavailable`; the error is its ``environ["wsgi_session.error"]``. None to leave
                the error to the server.
            on_failed_attempt: Is told of each failed attempt.
            max_body: The bytes of a request body up to which the request can be repeated.
            max_in_memory: The bytes of it that are kept in memory; what is more is on disk.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If a number is out of its range.
        """
        if not callable(app):
            raise TypeError(f"RetryMiddleware wraps a WSGI application, which is callable; {app!r} is not.")
        if exhausted is not None and not callable(exhausted):
            raise TypeError(
                f"exhausted has to be a WSGI application, such as 'service_unavailable', not {exhausted!r}."
            )
        for name, size in (("max_body", max_body), ("max_in_memory", max_in_memory)):
            if not isinstance(size, int) or size < 0:
                raise ValueError(f"{name}={size!r} has to be a number of bytes, 0 or more.")
        self.app = app
        self.exhausted = exhausted
        self.max_body = max_body
        self.max_in_memory = max_in_memory
        self.policy: Policy = Policy(
            attempts=attempts,
            wait=wait,
            max_wait=max_wait,
            is_retryable=is_retryable,
            on_failed_attempt=on_failed_attempt,
        )
        self.retry_responses = retry_responses
        _attempt.listen()
        if retry_responses:
            _attempt.listen_to_statements()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        request = _Request(self, environ, start_response)
        answer = _AGAIN
        numbers = itertools.count()
        try:
            while answer is _AGAIN:
                answer = request.attempt(next(numbers))
        finally:
            if not isinstance(answer, _BegunBody):
                request.body.close()
        return answer


def service_unavailable(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer 503 with a Retry-After of one second: a WSGI application for ``RetryMiddleware(..., exhausted=...)``."""
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else b"The database is busy. Please try again.\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", "1"), ("Cache-Control", "no-store")]
    start_response(f"503 {HTTPStatus.SERVICE_UNAVAILABLE.phrase}", headers)
    return [body]


def retrying(
    registry: scoped_session[Any],
    *,
    attempts: int = 3,
    wait: float = 0.05,
    max_wait: float = 1.0,
    is_retryable: IsRetryable = is_retryable,
    on_failed_attempt: RetryHook | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run a function in a `session_scope`, and again in a new one when its database asks for it: a decorator for jobs.

    ::

        @retrying(Session, attempts=5)
        def transfer(source: int, target: int, amount: int) -> None:
            session = Session()
            ...

    It is run again on the terms of a `RetryMiddleware`: only if nothing was committed in the attempt, which is the rule
    for a function that leaves the commit to its block.

    Args:
        registry: As for `session_scope`.
        attempts: How many there are at most, with the first.
        wait: The most seconds before the second attempt; before each further one it is twice as much.
        max_wait: The most seconds before any. What is waited is a random part of it.
        is_retryable: Whether an error is worth another attempt.
        on_failed_attempt: Is told of each failed attempt.

    Raises:
        TypeError: If an argument is of another kind, or the function is a generator or ``async`` function.
        ValueError: If a number is out of its range.
    """
    in_scope = session_scope(registry)
    policy = Policy(
        attempts=attempts,
        wait=wait,
        max_wait=max_wait,
        is_retryable=is_retryable,
        on_failed_attempt=on_failed_attempt,
    )
    _attempt.listen()

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        attempted = in_scope(function)

        @functools.wraps(function)
        def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
            numbers = itertools.count()
            while True:
                with _attempt.observed() as attempt:
                    try:
                        return attempted(*args, **kwargs)
                    except Exception as error:
                        if not policy.is_retryable(error):
                            raise
                        failed = policy.failed_attempt(next(numbers), error, attempt.obstacle)
                        policy.tell(f"{function.__qualname__}()", failed)
                        if failed.wait is None:
                            raise
                        time.sleep(failed.wait)

        return repeated

    return decorate


_AGAIN: Iterable[bytes] = iter(())
"""In place of an answer: there is to be another attempt."""


class _Request:
    """A request that is attempted.  Lives until something of a response goes on to the server."""

    def __init__(self, middleware: RetryMiddleware, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.body = RequestBody(environ, max_body=middleware.max_body, max_in_memory=middleware.max_in_memory)
        self._environ = environ
        self._middleware = middleware
        self._number = 0  # of the attempt; that in the environ is for the application, which may write to it
        self._start_response = start_response

    def attempt(self, number: int) -> Iterable[bytes]:
        """Make an attempt, and return what the server gets, or `_AGAIN`.

        Raises:
            BaseException: What the application has raised, if that is final.
        """
        self._number = number
        environ = self._environ | {
            "retry.attempt": number,
            "retry.attempts": self._middleware.policy.attempts,
            "wsgi.input": self.body.reader(),
        }
        is_final = True
        try:
            with _attempt.observed() as attempt:
                answer = self._answer(environ, attempt)
            is_final = answer is not _AGAIN
        finally:
            if is_final:
                self._environ.update(environ, **{"wsgi.input": self._environ["wsgi.input"]})
        return answer

    def _answer(self, environ: WSGIEnvironment, attempt: Attempt) -> Iterable[bytes]:
        start = held(self._start_response)
        body: Iterable[bytes] | None = None
        try:
            body = self._middleware.app(environ, start.hold)
            begun = self._begun(body, attempt)
            self._raise_conflict_of_page(attempt, start)
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
        return _BegunBody(body, itertools.chain(first, chunks), self.body)

    def _raise_conflict_of_page(self, attempt: Attempt, start: HeldStart) -> None:
        """Raise the conflict of which a framework has made a 500, if something is to come in its place."""
        policy, error = self._middleware.policy, attempt.last_error
        if not self._middleware.retry_responses or error is None or not policy.is_retryable(error):
            return
        if start.status is UNCALLED or not start.status.startswith("500") or self._obstacle(attempt, start):
            return
        if self._middleware.exhausted is not None or not policy.obstacle(self._number):
            raise error

    def _instead(
        self, error: Exception, environ: WSGIEnvironment, attempt: Attempt, start: HeldStart
    ) -> Iterable[bytes] | None:
        """Decide what follows on an *error*: `_AGAIN`, the answer in place of it, or None if it is final."""
        middleware = self._middleware
        is_conflict = middleware.policy.is_retryable(error)
        if is_conflict:
            failed = middleware.policy.failed_attempt(self._number, error, self._obstacle(attempt, start), environ)
            middleware.policy.tell(_wsgi.method_and_path(environ), failed)
            if failed.wait is not None:
                time.sleep(failed.wait)
                return _AGAIN
        if middleware.exhausted is None or not start.is_held or attempt.is_committed:
            return None
        if not is_conflict and not isinstance(error, PoolTimeoutError):
            return None
        environ["wsgi_session.error"] = error
        return middleware.exhausted(environ, self._start_response)

    def _obstacle(self, attempt: Attempt, start: HeldStart) -> str | None:
        """Say why this request cannot be repeated, or None."""
        if not start.is_held:
            return "some of the response was sent"
        if not self.body.is_whole:
            return "its request body is too long to be kept"
        if (scope := nearest_open(look())) is not None:
            return f"it runs inside of {scope!r}; RetryMiddleware belongs outside of the SessionMiddleware"
        return attempt.obstacle


class _BegunBody:
    """A response whose first chunk has been taken.  Lives as long as the server holds it."""

    __slots__ = ("_body", "_chunks", "_request_body")

    def __init__(self, body: Iterable[bytes], chunks: Iterator[bytes], request_body: RequestBody) -> None:
        self._body = body
        self._chunks = chunks
        self._request_body = request_body

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Close the application's iterable, and forget the request body."""
        try:
            _wsgi.close(self._body)
        finally:
            self._request_body.close()
