"""The current scope: which one code runs in, and the steps in which that changes.

A server may take the steps of one request on several threads, and interleave those of several requests on one thread in
one context. So the variable is only a look-up: it is set before a step and set back after it, never left set while the
server holds the response, and never by a token of another context.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from . import _fork
from ._lifetime import Lifetime, nearest_open
from .errors import NoScopeError

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from ._lazy import SessionSource
    from .scope import EndHook, Scope

_current: ContextVar[Lifetime | None] = ContextVar("wsgi_session.scope", default=None)


def current_scope() -> Scope:
    """Return the scope that this code runs in.

    Also a ``scopefunc``: ``scoped_session(sessionmaker(engine), scopefunc=current_scope)`` is a registry that a
    `SessionMiddleware` accepts.

    Raises:
        NoScopeError: If no scope is open here.
    """
    scope = _current.get()
    if scope is None:
        raise no_scope()
    return scope


def current_environ() -> WSGIEnvironment:
    """Return the environ of the request that this code runs in.

    Raises:
        NoScopeError: If this is not inside of a request.
    """
    scope = _current.get()
    while scope is not None:
        if scope.environ is not None:
            return scope.environ
        scope = scope.outer
    raise no_scope()


def no_scope() -> NoScopeError:
    """Make the error for code that runs where no scope is open."""
    return NoScopeError(
        "No scope is open here, so there is no session."
        " Wrap the application in 'SessionMiddleware', or open one with 'with session_scope(...)'."
        " (A thread that a request starts is outside of it.)"
    )


def open_request(
    source: SessionSource[Any], environ: WSGIEnvironment, key: str, hooks: tuple[EndHook, ...], settles: bool
) -> Lifetime:
    """Open the scope of a request inside of the nearest one that has not ended."""
    _fork.check()
    return Lifetime(source, nearest_open(_current.get()), hooks=hooks, settles=settles, environ=environ, key=key)


def open_block(source: SessionSource[Any], settles: bool) -> Lifetime:
    """Open the scope of a block inside of the nearest one that has not ended."""
    _fork.check()
    return Lifetime(source, nearest_open(_current.get()), settles=settles)


def swap(scope: Lifetime | None) -> Lifetime | None:
    """Make *scope* the current one, and return the one that was."""
    previous = _current.get()
    _current.set(scope)
    return previous


def enter(scope: Lifetime, inside: Lifetime | None) -> Lifetime | None:
    """Begin a step of *scope*.

    Args:
        scope: The scope that the step belongs to.
        inside: What was current when its last step ended: the scope itself, or that of a block in it.

    Returns:
        What was current until now, for `leave`.
    """
    scope.show()
    return swap(inside)


def leave(scope: Lifetime, previous: Lifetime | None) -> Lifetime | None:
    """End a step of *scope*.

    Args:
        scope: The scope that the step belongs to.
        previous: What `enter` returned; it is current again.

    Returns:
        What was current at the end of the step.
    """
    scope.hide()
    return swap(previous)


def end(scope: Lifetime, error: BaseException | None = None) -> None:
    """End *scope*, in itself: whatever is current here, its hooks run in the scope that has ended.

    Args:
        scope: The scope.
        error: What is on its way while it ends.
    """
    previous = swap(scope)
    try:
        scope.end(error)
    finally:
        swap(previous)


def scope_of(source: SessionSource[Any]) -> Lifetime | None:
    """Find the scope that a registry's session is in: the nearest that was opened for it, else the nearest request's.

    Returns:
        The scope, or None outside of all of them.

    Raises:
        ScopeEndedError: If that scope has ended.
    """
    scope = _current.get()
    request: Lifetime | None = None
    while scope is not None and scope.source is not source:
        if request is None and scope.environ is not None:
            request = scope
        scope = scope.outer
    found = request if scope is None else scope
    if found is not None:
        found.require_open()
    return found
