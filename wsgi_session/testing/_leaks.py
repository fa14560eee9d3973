"""The leaks: what a request has left open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from .. import _wsgi
from .._scope.membership import scope_of_session
from ..current import current_environ
from ..errors import NoScopeError
from ..observe._callers import Callers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from .._scope.base import BaseScope


class LeakWatch:
    """Notes the scopes and the connections that a test uses.  Lives as long as the block."""

    __slots__ = ("_callers", "_out", "_scopes")

    def __init__(self) -> None:
        """Note nothing yet."""
        self._callers = Callers()
        self._out: dict[int, str] = {}
        self._scopes: list[BaseScope] = []

    def start(self) -> None:
        """Follow every pool."""
        event.listen(Pool, "checkout", self._on_checkout)
        event.listen(Pool, "checkin", self._on_checkin)

    def stop(self) -> None:
        """Follow them no longer."""
        event.remove(Pool, "checkout", self._on_checkout)
        event.remove(Pool, "checkin", self._on_checkin)

    def add(self, session: Session) -> None:
        """Note the scope of *session*."""
        scope = scope_of_session(session)
        if scope is not None and scope not in self._scopes:
            self._scopes.append(scope)

    def disregard(self, connection: Any) -> None:
        """Do not take the driver's *connection* for a leak."""
        self._out.pop(id(connection), None)

    def leaks(self) -> Iterator[str]:
        """Say what is open, or was dropped without having been closed."""
        for scope in self._scopes:
            if scope.is_dropped or not scope.is_ended:
                yield never_closed(scope)
        yield from self._out.values()

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
        f"The response of {_wsgi.method_and_path(scope.environ)} was never closed:"
        " call its 'close()', as a server does. Flask's and Werkzeug's test client"
        " does so only with 'buffered=True', or as 'with client.get(...)'."
    )


def _who() -> str:
    try:
        return _wsgi.method_and_path(current_environ())
    except NoScopeError:
        return "The test"
