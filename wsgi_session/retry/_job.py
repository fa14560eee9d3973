"""A job that is done again."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..block import session_scope
from . import _attempt
from ._conflict import is_retryable
from ._policy import IsRetryable, IsRetryableThere, Policy, RetryHook

if TYPE_CHECKING:
    from sqlalchemy.orm import scoped_session

P = ParamSpec("P")
R = TypeVar("R")


def retrying(
    registry: scoped_session[Any],
    *,
    attempts: int = 3,
    wait: float = 0.05,
    max_wait: float = 1.0,
    is_retryable: IsRetryable | IsRetryableThere = is_retryable,
    retry_disconnects: bool = False,
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
        retry_disconnects: Whether a connection that was lost, or could not be made, is worth another attempt, too.
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
        retry_disconnects=retry_disconnects,
    )
    _attempt.listen()

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        attempted = in_scope(function)
        name = getattr(function, "__qualname__", repr(function))

        @functools.wraps(function)
        def repeated(*args: P.args, **kwargs: P.kwargs) -> R:
            numbers = itertools.count()
            while True:
                with _attempt.observed() as attempt:
                    try:
                        return attempted(*args, **kwargs)
                    except Exception as error:
                        reason = policy.reason(attempt, error)
                        if reason is None:
                            raise
                        failed = policy.failed_attempt(next(numbers), reason, attempt.obstacle)
                        policy.tell(f"{name}()", failed)
                        if failed.wait is None:
                            raise
                        time.sleep(failed.wait)

        return repeated

    return decorate
