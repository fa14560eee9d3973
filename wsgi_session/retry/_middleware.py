"""What does a request again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from .._checks import checked_application
from .._log import log
from .._scope import beginning
from .._scope.look import look, nearest_open
from .._wsgi import Repeating
from . import _attempt
from ._conflict import is_retryable
from ._policy import IsRetryable, IsRetryableThere, Policy, RetryHook
from ._request import AGAIN, AttemptedRequest, BegunBody, Options

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class RetryMiddleware(Repeating):
    """Answer a request again, from the start, when its database asks for it.  Lives as long as the application.

    It belongs outside of the `SessionMiddleware`, so that each attempt has a new scope::

        application = SessionMiddleware(application, Session, commit=on_unsafe_success)
        application = RetryMiddleware(application)

    A request is repeated only if nothing of its response was sent, and if no session or connection has committed
    anything in the attempt. It is not repeated either if something may have been committed, by a connection that was
    lost during COMMIT or one in AUTOCOMMIT. The middleware cannot see what an attempt has done outside of the database,
    such as a mail that was sent: do such things in `on_commit`.

    Each attempt has a copy of the environ as it was first received, and reads the request body from its beginning. The
    copy has ``"retry.attempt"`` (from 0), ``"retry.attempts"``, and ``"wsgi_session.conflicts"``, which names the
    conflicts of the attempts before it. The environ that was received is updated from the last attempt's. The first
    chunk of a response is taken when the application is called, because its transaction may be committed with it.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        attempts: int = 3,
        wait: float = 0.05,
        max_wait: float = 1.0,
        is_retryable: IsRetryable | IsRetryableThere = is_retryable,
        retry_disconnects: bool = False,
        retry_responses: bool = True,
        exhausted: WSGIApplication | None = None,
        deadline: float | None = None,
        timed_out: WSGIApplication | None = None,
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
            is_retryable: Whether an error is worth another attempt. A function of three arguments is also told the
                environ of the attempt, and the engine that its last error has come from.
            retry_disconnects: Whether a connection that was lost, or could not be made, is worth another attempt, too.
                One that was lost in COMMIT never is: nobody knows what became of it.
            retry_responses: Whether a 500 that a framework has made of an error is repeated as the error would be: if
                the last error of a database, or of a flush, is worth it, and no savepoint has absorbed that.
            exhausted: A WSGI application that answers when the attempts have run out, and when a pool of connections
                has, such as `service_unavailable`; the error is its ``environ["wsgi_session.error"]``. None to leave
                the error to the server.
            deadline: The seconds that a request may take, with all its attempts; None for as long as it takes. A
                transaction that begins after that is a `DeadlineExceededError`, there is no other attempt, and on
                PostgreSQL a statement is ended (``statement_timeout``). ``environ["wsgi_session.deadline"]`` has it.
            timed_out: A WSGI application that answers where that has happened, such as `gateway_timeout`; None to leave
                the error to the server.
            on_failed_attempt: Is told of each failed attempt.
            max_body: The bytes of a request body up to which the request can be repeated.
            max_in_memory: The bytes of it that are kept in memory; what is more is on disk.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If a number is out of its range.
        """
        self.app: WSGIApplication = checked_application(app, "RetryMiddleware wraps a WSGI application")
        if exhausted is not None:
            checked_application(exhausted, "exhausted has to be a WSGI application, such as 'service_unavailable'")
        if timed_out is not None:
            checked_application(timed_out, "timed_out has to be a WSGI application, such as 'gateway_timeout'")
        if deadline is not None:
            if not isinstance(deadline, int | float) or not deadline > 0:
                raise ValueError(f"deadline={deadline!r} has to be a number of seconds, more than 0.")
            beginning.listen()
        for name, size in (("max_body", max_body), ("max_in_memory", max_in_memory)):
            if not isinstance(size, int) or size < 0:
                raise ValueError(f"{name}={size!r} has to be a number of bytes, 0 or more.")
        self._options = Options(
            app=app,
            deadline=deadline,
            exhausted=exhausted,
            timed_out=timed_out,
            max_body=max_body,
            max_in_memory=max_in_memory,
            policy=Policy(
                attempts=attempts,
                wait=wait,
                max_wait=max_wait,
                is_retryable=is_retryable,
                on_failed_attempt=on_failed_attempt,
                retry_disconnects=retry_disconnects,
            ),
            retry_responses=retry_responses,
        )
        _attempt.listen()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        if (scope := nearest_open(look())) is not None and self._options.first_time("inside"):
            log.warning(
                "RetryMiddleware is called inside of %r, and repeats nothing there. Put it outside of the"
                " SessionMiddleware: 'RetryMiddleware(SessionMiddleware(app, ...))'. This is logged once.",
                scope,
            )
        request = AttemptedRequest(self._options, environ, start_response)
        answer = AGAIN
        numbers = itertools.count()
        try:
            while answer is AGAIN:
                answer = request.attempt(next(numbers))
        finally:
            if not isinstance(answer, BegunBody):
                request.body.close()
        return answer


def service_unavailable(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer 503 with a Retry-After of one second: a WSGI application for ``RetryMiddleware(..., exhausted=...)``."""
    said = "The database is busy. Please try again.\n"
    return _answer(environ, start_response, HTTPStatus.SERVICE_UNAVAILABLE, said, ("Retry-After", "1"))


def gateway_timeout(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer 504: a WSGI application for ``RetryMiddleware(..., timed_out=...)``."""
    return _answer(environ, start_response, HTTPStatus.GATEWAY_TIMEOUT, "The database has not answered in time.\n")


def _answer(
    environ: WSGIEnvironment,
    start_response: StartResponse,
    status: HTTPStatus,
    said: str,
    *headers: tuple[str, str],
) -> Iterable[bytes]:
    usual = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
    start_response(f"{status.value} {status.phrase}", [*usual, *headers])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else said.encode()]
