"""A SQLAlchemy session for every WSGI request."""

from .block import session_scope
from .callbacks import on_commit
from .commit import CommitRule, CommitVeto, from_veto, never, on_success, on_unsafe_success, until_close
from .current import current_environ, current_scope
from .errors import (
    AutocommitError,
    DeadlineExceededError,
    NoScopeError,
    OpenTransactionError,
    PartialCommitError,
    PendingChangesError,
    ScopeEndedError,
    ScopeStateError,
    TransactionLostError,
    WSGISessionError,
)
from .middleware import SessionMiddleware
from .registry import RequestScopedSession, session_of
from .retry._conflict import is_retryable
from .retry._job import retrying
from .retry._middleware import RetryMiddleware, gateway_timeout, service_unavailable
from .retry._policy import FailedAttempt, IsRetryable, IsRetryableThere, RetryHook
from .scope import ChooseBind, Scope, SetUpHook, State

__all__ = [
    "AutocommitError",
    "ChooseBind",
    "CommitRule",
    "CommitVeto",
    "DeadlineExceededError",
    "FailedAttempt",
    "IsRetryable",
    "IsRetryableThere",
    "NoScopeError",
    "OpenTransactionError",
    "PartialCommitError",
    "PendingChangesError",
    "RequestScopedSession",
    "RetryHook",
    "RetryMiddleware",
    "Scope",
    "ScopeEndedError",
    "ScopeStateError",
    "SessionMiddleware",
    "SetUpHook",
    "State",
    "TransactionLostError",
    "WSGISessionError",
    "current_environ",
    "current_scope",
    "from_veto",
    "gateway_timeout",
    "is_retryable",
    "never",
    "on_commit",
    "on_success",
    "on_unsafe_success",
    "retrying",
    "service_unavailable",
    "session_of",
    "session_scope",
    "until_close",
]
