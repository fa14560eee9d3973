"""The leaks: what a request has left open."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.pool import Pool

from .. import _wsgi
from .._response.steps import close, on_exhausted
from .._scope.membership import scope_of_session
from .._scope.outcome import on_complete
from ..current import current_environ
from ..errors import NoScopeError
from ..observe._callers import Callers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from .._response.request import RequestScope
    from .._scope.base import BaseScope

_SECONDS = 5.0
"""How long a server may take to close a response whose last byte its client has."""


class LeakWatch:
    """Notes the scopes and the connections that a test uses.  Lives as long as the block."""

    __slots__ = ("_callers", "_complete", "_out", "_scopes")

    def __init__(self) -> None:
        """Note nothing yet."""
        self._callers = Callers()
        self._complete: WeakSet[BaseScope] = WeakSet()
        self._out: dict[int, str] = {}
        self._scopes: list[tuple[Any, int]] = []

    def start(self) -> None:
        """Follow every pool, and every response that is taken in steps."""
        on_complete.append(self._complete.add)
        on_exhausted.append(_close_after_step)
        event.listen(Pool, "checkout", self._on_checkout)
        event.listen(Pool, "checkin", self._on_checkin)

    def stop(self) -> None:
        """Follow them no longer."""
        on_complete.remove(self._complete.add)
        on_exhausted.remove(_close_after_step)
        event.remove(Pool, "checkout", self._on_checkout)
        event.remove(Pool, "checkin", self._on_checkin)

    def add(self, session: Session) -> None:
        """Note the scope of *session*, and do for those before it what a server has done by now."""
        self._close_complete()
        scope = scope_of_session(session)
        if scope is not None and all(scope is not one for one, _ in self._scopes):
            self._scopes.append((scope, threading.get_ident()))

    def disregard(self, connection: Any) -> None:
        """Do not take the driver's *connection* for a leak."""
        self._out.pop(id(connection), None)

    def leaks(self) -> Iterator[str]:
        """Say what is open, or was dropped without having been closed."""
        self._close_complete()
        for scope, thread in self._scopes:
            if thread != threading.get_ident():
                self._wait_for_end(scope)
            if not scope.is_ended or (scope.is_dropped and scope not in self._complete):
                yield never_closed(scope)
        yield from self._out.values()

    def _close_complete(self) -> None:
        """Close the responses of this thread of which all was sent."""
        for scope, thread in self._scopes:
            if thread == threading.get_ident() and scope in self._complete and not scope.is_ended:
                _close_after_step(scope)
                close(scope)

    def _wait_for_end(self, scope: BaseScope) -> None:
        """Wait until another thread has closed a response of which its client has all."""
        until = time.monotonic() + _SECONDS
        while scope in self._complete and not scope.is_ended and time.monotonic() < until:
            time.sleep(0.001)

    def _on_checkout(self, connection: Any, _record: object, _proxy: object) -> None:
        line = self._callers.line()
        where = f" at {line}" if line else ""
        self._out[id(connection)] = f"{_who()} has taken a connection{where} and not given it back: close it."

    def _on_checkin(self, connection: Any, _record: object) -> None:
        self._out.pop(id(connection), None)


def never_closed(scope: BaseScope) -> str:
    """Say that the response, or the block, of *scope* is open."""
    if scope.environ is None:
        return f"A session_scope() block is still open: {scope!r}."
    return (
        f"The response of {_wsgi.method_and_path(scope.environ)} was never closed, nor read to its end. Read all of it"
        " ('response.data', 'response.streaming_content'), or call its 'close()', as a server does."
    )


def _close_after_step(scope: RequestScope) -> None:
    """Have a response closed when its step ends, as a server does that has sent it, and many test clients do not."""
    scope.is_closing = True


def _who() -> str:
    try:
        return _wsgi.method_and_path(current_environ())
    except NoScopeError:
        return "The test"
