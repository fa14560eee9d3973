"""The current scope: which one code runs in, and which session a registry means there."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from ._scope.look import look
from .errors import NoScopeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import WSGIEnvironment

    from ._scope.base import BaseScope
    from ._session.lazy import SessionSource
    from .scope import Scope


def current_scope() -> Scope:
    """Return the scope that this code runs in.

    Also a ``scopefunc``: ``scoped_session(sessionmaker(engine), scopefunc=current_scope)`` is a registry that a
    `SessionMiddleware` accepts.

    Raises:
        NoScopeError: If no scope is open here.
    """
    scope = look()
    if scope is None:
        raise no_session()
    return scope


def current_environ() -> WSGIEnvironment:
    """Return the environ of the request that this code runs in.

    Raises:
        NoScopeError: If this is not inside of a request.
    """
    scope = look()
    while scope is not None:
        if scope.environ is not None:
            return scope.environ
        scope = scope.outer
    raise _absent(
        "no request",
        "environ. A request has one, if 'SessionMiddleware' wraps the application;"
        " a block of 'session_scope' has none.",
    )


def no_session() -> NoScopeError:
    """Make the error for code that runs where no scope is open, or only a block of another registry."""
    return _absent(
        "another registry",
        "session. Wrap the application in 'SessionMiddleware', or open one with 'with session_scope(...)'.",
    )


def scope_of(source: SessionSource[Any]) -> BaseScope | None:
    """Find the scope that a registry's session is in: the nearest that was opened for it, else the nearest request's.

    Returns:
        The scope, or None outside of all of them.

    Raises:
        ScopeEndedError: If that scope has ended.
    """
    scope = look()
    request: BaseScope | None = None
    while scope is not None and scope.terms.source is not source:
        if request is None and scope.environ is not None:
            request = scope
        scope = scope.outer
    found = request if scope is None else scope
    if found is not None:
        found.require_open()
    return found


def _absent(owner: str, what: str) -> NoScopeError:
    scope = look()
    here = "No scope is open here" if scope is None else f"{scope!r} is {owner}'s"
    return NoScopeError(f"{here}, so there is no {what}{_cure()}")


def _cure() -> str:
    """Say what helps where this code runs, as far as that can be told."""
    return "".join(_cures())


def _cures() -> Iterator[str]:
    if hasattr(sys, "ps1") or ("IPython" in sys.modules and getattr(sys.modules["IPython"], "get_ipython", str)()):
        yield " At a prompt, 'session = session_scope(Session).__enter__()' opens one for as long as the prompt lasts."
    if "PYTEST_CURRENT_TEST" in os.environ:
        yield " In a test, ask for the fixture 'wsgi_session', or call the application by 'wsgi_client'."
    flask = sys.modules.get("flask")
    if flask is not None and flask.has_app_context() and not flask.has_request_context():
        yield " An 'app_context()' of Flask's is no request: open the block inside of it."
    elif threading.current_thread() is not threading.main_thread():
        yield (
            " On a thread of the server's, the request has not passed the middleware. One that a request starts is"
            " outside of it, and opens a block of its own."
        )
