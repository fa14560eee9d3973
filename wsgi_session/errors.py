"""The errors this package raises of its own; SQLAlchemy's and the driver's pass through untouched."""

from __future__ import annotations


class WSGISessionError(Exception):
    """Base of every error that is this package's own."""


class DeadlineExceededError(WSGISessionError, TimeoutError):
    """A transaction would have begun in a request whose deadline is over."""


class NoScopeError(WSGISessionError, RuntimeError):
    """Your code asked for a session where no scope is open."""


class ScopeEndedError(WSGISessionError, RuntimeError):
    """A session, or a registry, was used after the scope it belongs to had ended."""


class AutocommitError(WSGISessionError, RuntimeError):
    """A transaction could not be set up, because the connection is in AUTOCOMMIT and has none."""


class ScopeStateError(WSGISessionError, RuntimeError):
    """A method of a scope was called too late, or on a scope that cannot do it."""


class PendingChangesError(WSGISessionError, RuntimeError):
    """`Scope.release` was refused, because changes would have been lost."""


class OpenTransactionError(WSGISessionError, RuntimeError):
    """A commit rule met a ``session.begin()`` block that was still open."""


class TransactionLostError(WSGISessionError, RuntimeError):
    """A COMMIT was refused, because the database had rolled back the transaction after an error that was handled.

    The driver's error is the ``__cause__``. Everything has been rolled back.
    """


class PartialCommitError(WSGISessionError, RuntimeError):
    """One of several sessions could not be committed after another had been.

    The driver's error is the ``__cause__``.
    """
