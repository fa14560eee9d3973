"""A SQLAlchemy session for every WSGI request."""

from .block import session_scope
from .commit import CommitRule, CommitVeto, from_veto, never, on_success, on_unsafe_success
from .current import current_environ, current_scope
from .errors import (
    NoScopeError,
    OpenTransactionError,
    PartialCommitError,
    PendingChangesError,
    ScopeEndedError,
    ScopeStateError,
    WSGISessionError,
)
from .hooks import on_commit
from .middleware import SessionMiddleware
from .registry import RequestScopedSession
from .scope import Scope, State

__all__ = [
    "CommitRule",
    "CommitVeto",
    "NoScopeError",
    "OpenTransactionError",
    "PartialCommitError",
    "PendingChangesError",
    "RequestScopedSession",
    "Scope",
    "ScopeEndedError",
    "ScopeStateError",
    "SessionMiddleware",
    "State",
    "WSGISessionError",
    "current_environ",
    "current_scope",
    "from_veto",
    "never",
    "on_commit",
    "on_success",
    "on_unsafe_success",
    "session_scope",
]
