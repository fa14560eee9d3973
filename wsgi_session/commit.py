"""Commit rules: whether a response is one whose request is to be committed.

A rule is any callable ``(environ, status, headers) -> bool``. It is asked once for each request, before the status line
or any byte of the body goes on to the server, and not at all for a response that failed.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from ._checks import checked_hook

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

CommitRule: TypeAlias = "Callable[[WSGIEnvironment, int, list[tuple[str, str]]], object]"
"""Takes the environ, the status code and the headers; what it returns is true for *commit*."""

CommitVeto: TypeAlias = "Callable[[WSGIEnvironment, str, list[tuple[str, str]]], object]"
"""Takes the environ, the status line and the headers; what it returns is true for *do not commit*."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
"""The methods that do not ask for a change (RFC 9110, section 9.2.1, and the QUERY method)."""


def on_success(environ: WSGIEnvironment, status: int, headers: list[tuple[str, str]]) -> bool:
    """Commit every response below 400.

    A commit ends the transaction, so this rule is not for responses that stream the rows of an open cursor.
    """
    return status < 400


def on_unsafe_success(environ: WSGIEnvironment, status: int, headers: list[tuple[str, str]]) -> bool:
    """Commit a response below 400, unless its method is GET, HEAD, OPTIONS, TRACE or QUERY.

    This is SQLAlchemy's own `basic pattern`_: a request that may change data ends in a commit.

    .. _basic pattern: https://docs.sqlalchemy.org/en/21/orm/session_basics.html
    """
    return status < 400 and environ["REQUEST_METHOD"] not in SAFE_METHODS


def never(environ: WSGIEnvironment, status: int, headers: list[tuple[str, str]]) -> bool:
    """Commit nothing: the views commit, before they return.  This is the default.

    The middleware rolls back what a view leaves uncommitted, when the view has returned or when its response is
    complete, and logs a warning. It does not hold ``start_response`` back.
    """
    return False


def until_close(environ: WSGIEnvironment, status: int, headers: list[tuple[str, str]]) -> bool:
    """Commit nothing: the application commits, at any time until its response is closed.

    For applications that commit while their body is sent, or in its ``close()``. The middleware gives no connection
    back before the end, so a response holds its own until the client has read it: five slow clients use up a pool of
    five.
    """
    return False


def from_veto(veto: CommitVeto) -> CommitRule:
    """Turn a veto, the convention of older transaction middleware, into a rule.

    Args:
        veto: Called as ``veto(environ, status_line, headers)``; the line is the status code with its standard reason
            phrase. It is not asked from 400 on: such a response is never committed.

    Returns:
        A rule for ``SessionMiddleware(..., commit=...)``.

    Raises:
        TypeError: If *veto* is not callable, or a generator or ``async`` function.
    """
    checked_hook(veto, "A veto")

    def rule(environ: WSGIEnvironment, status: int, headers: list[tuple[str, str]]) -> bool:
        line = f"{status} {_phrase(status)}".rstrip()
        return status < 400 and not veto(environ, line, headers)

    return rule


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def check_rule(commit: Any) -> None:
    """Refuse what says nothing of commits.

    Raises:
        TypeError: If *commit* is no rule.
    """
    if commit is None:
        raise TypeError(
            "commit=None says nothing. Leave it out if the views commit before they return ('never', the default), or"
            " write 'commit=until_close' if the application commits in its body or later."
        )
    if not callable(commit):
        raise TypeError(
            f"commit={commit!r} is no rule. Use 'on_unsafe_success', 'on_success', 'never', 'until_close' or a function"
            " (environ, status, headers) -> bool."
        )
    checked_hook(commit, "commit")
