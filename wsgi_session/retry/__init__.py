"""The retry: a request, or a job, that is done again because its database has asked for it."""

from ._conflict import is_retryable
from ._middleware import RetryMiddleware, retrying, service_unavailable
from ._policy import FailedAttempt, IsRetryable, RetryHook

__all__ = [
    "FailedAttempt",
    "IsRetryable",
    "RetryHook",
    "RetryMiddleware",
    "is_retryable",
    "retrying",
    "service_unavailable",
]
