"""The errors this package raises of its own; SQLAlchemy's and the driver's pass through untouched."""

from __future__ import annotations


class WSGISessionError(Exception):
    """Base of every error that is this package's own."""


class DeadlineExceededError(WSGISessionError, TimeoutError):
    """A transaction was to begin in a request whose time is over."""


class NoScopeError(WSGISessionError, RuntimeError):
    """A session was asked for where no scope is open."""


class ScopeEndedError(WSGISessionError, RuntimeError):
    """A session, or a registry, was used after the scope it belongs to had ended."""


class AutocommitError(WSGISessionError, RuntimeError):
    """A transaction was to be set up where there is none: the connection is in AUTOCOMMIT."""


class ScopeStateError(WSGISessionError, RuntimeError):
    """A scope was told something that it can no longer do, or never could."""


class PendingChangesError(WSGISessionError, RuntimeError):
    """`Scope.release` was refused, for it would have lost changes."""


class OpenTransactionError(WSGISessionError, RuntimeError):
    """A commit rule met a ``session.begin()`` block that was still open."""


class TransactionLostError(WSGISessionError, RuntimeError):
    """A COMMIT was refused, for the database had rolled back the transaction with an error that was handled.

    The driver's error is the ``__cause__``. Everything has been rolled back.
    """


class PartialCommitError(WSGISessionError, RuntimeError):
    """One of several sessions could not be committed after another had been.

    The driver's error is the ``__cause__``.
    """
