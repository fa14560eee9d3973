"""The policy of a retry: when there is another attempt, and after what time."""

from __future__ import annotations

import inspect
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .._checks import checked_hook
from .._log import log
from ._conflict import is_echo

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from sqlalchemy import Engine

    from ._attempt import Attempt


class IsRetryable(Protocol):
    """Says whether an error is worth another attempt, as `is_retryable` does."""

    def __call__(self, error: BaseException, /) -> bool:
        """Say it."""
        ...


class IsRetryableThere(Protocol):
    """Says the same, and wants to know where the error has come from."""

    def __call__(self, error: BaseException, environ: WSGIEnvironment | None, engine: Engine | None, /) -> bool:
        """Say it.

        Args:
            error: The error.
            environ: That of the attempt; None for a job.
            engine: Of the last error of a database in the attempt; None if there was none.
        """
        ...


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """What a hook is told about an attempt that has failed."""

    number: int
    """Which it was, from 0, as the ``retry.attempt`` of the environ is."""

    attempts: int
    """How many there are at most."""

    error: BaseException
    """The error for which it is worth another one; behind a framework, the last one that was seen."""

    wait: float | None
    """The seconds until the next attempt; None if there is none."""

    obstacle: str | None
    """Why there is none; None if there is one."""

    environ: WSGIEnvironment | None
    """The environ of the attempt; None for a job."""


class RetryHook(Protocol):
    """Is told about each attempt that failed, before the next one begins."""

    def __call__(self, failed: FailedAttempt, /) -> object:
        """Be told."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When there is another attempt, and after what time.  Lives as long as what it is for."""

    attempts: int
    wait: float
    max_wait: float
    is_retryable: IsRetryable | IsRetryableThere
    on_failed_attempt: RetryHook | None
    retry_disconnects: bool
    _asks: IsRetryableThere = field(init=False)

    def __post_init__(self) -> None:
        """Refuse what could not work."""
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise ValueError(f"attempts={self.attempts!r} has to be a whole number from 1.")
        for name in ("wait", "max_wait"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not seconds >= 0:
                raise ValueError(f"{name}={seconds!r} has to be a number of seconds, 0 or more.")
        checked_hook(self.is_retryable, "is_retryable")
        if self.on_failed_attempt is not None:
            checked_hook(self.on_failed_attempt, "on_failed_attempt")
        object.__setattr__(self, "_asks", _asking(self.is_retryable))

    def reason(
        self, attempt: Attempt, raised: BaseException | None, environ: WSGIEnvironment | None = None
    ) -> BaseException | None:
        """Return the error for which *attempt*, which has failed, is worth another one; None if it is not.

        Args:
            attempt: Knows the errors of databases and of flushes.
            raised: What has ended it; None where a framework has made a response of that.
            environ: That of the attempt; None for a job.
        """
        engine = attempt.last_engine
        if raised is not None and self._asks(raised, environ, engine):
            return raised
        hidden = [error for error in attempt.errors() if raised is None or _is_behind(error, raised)]
        for error in hidden:
            if self._asks(error, environ, engine):
                return error
        return attempt.last_error if self.retry_disconnects and attempt.has_lost_connection and hidden else None

    def obstacle(self, number: int) -> str | None:
        """Say why there is no attempt after *number*, which begins at 0; None if there is one."""
        return "it was the last attempt" if number + 1 >= self.attempts else None

    def tell(self, what: str, failed: FailedAttempt) -> None:
        """Tell of an attempt that has failed.

        Args:
            what: Has failed, for the log.
            failed: How.
        """
        then = f"not again: {failed.obstacle}" if failed.wait is None else f"again in {failed.wait:.3f} s"
        log.warning(
            "Attempt %d of %d of %s failed (%s); %s.", failed.number + 1, self.attempts, what, _name(failed.error), then
        )
        if self.on_failed_attempt is not None:
            self.on_failed_attempt(failed)

    def failed_attempt(
        self, number: int, error: BaseException, obstacle: str | None, environ: WSGIEnvironment | None = None
    ) -> FailedAttempt:
        """Make the record of an attempt that has failed."""
        obstacle = obstacle or self.obstacle(number)
        wait = None if obstacle else self._backoff(number)
        return FailedAttempt(number, self.attempts, error, wait, obstacle, environ)

    def _backoff(self, number: int) -> float:
        """Choose the seconds to wait, with full jitter: those who have met in a conflict should not meet again."""
        return random.uniform(0, min(self.max_wait, self.wait * 2 ** min(number, 60)))


def _asking(is_retryable: Any) -> IsRetryableThere:
    """Return what can be asked with three arguments, whether *is_retryable* takes them or one."""
    try:
        parameters = list(inspect.signature(is_retryable).parameters.values())
    except (TypeError, ValueError):  # of a function in C
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in positional and one.default is one.empty]
    if len(needed) == 3:
        there: IsRetryableThere = is_retryable
        return there
    return lambda error, _environ, _engine: is_retryable(error)


def _is_behind(error: BaseException, raised: BaseException) -> bool:
    """Say whether *raised* is *error*, comes from it, or only says that its transaction is gone."""
    seen: list[BaseException] = []
    at: BaseException | None = raised
    while at is not None and at not in seen:
        if at is error or at is getattr(error, "orig", None) or is_echo(at):
            return True
        seen.append(at)
        at = at.__cause__ or at.__context__
    return False


def _name(error: BaseException) -> str:
    """Name an error for the log, by its class and its driver's; the text may have values in it."""
    cause = getattr(error, "orig", None)
    return type(error).__name__ if cause is None else f"{type(error).__name__}: {type(cause).__name__}"
