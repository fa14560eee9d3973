"""The look-up: which scope code runs in.

A server may take the steps of one request on several threads, and interleave those of several requests on one thread in
one context. So the variable is only a look-up: it is set before a step and set back after it, in the same function, and
never left set while the server holds the response.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import BaseScope

_innermost: ContextVar[BaseScope | None] = ContextVar("wsgi_session.scope", default=None)

look = _innermost.get
"""Return the scope that code runs in, or None."""

enter = _innermost.set
"""Make another scope the one that code runs in, and return a token for `leave`."""

leave = _innermost.reset
"""Go back to what was current before; in the same function, for a token belongs to its context."""


def nearest_open(scope: BaseScope | None) -> BaseScope | None:
    """Look outwards from *scope* for one that has not ended."""
    while scope is not None and scope.is_ended:
        scope = scope.outer
    return scope


def is_around(outer: BaseScope | None, scope: BaseScope | None) -> bool:
    """Say whether *outer* is *scope*, or one that it was opened in, so that it ends later."""
    while scope is not None:
        if scope is outer:
            return True
        scope = scope.outer
    return False
