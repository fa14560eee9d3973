"""The scope, what lives exactly as long as one request or one block, as its users see it."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sqlalchemy import Engine

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from sqlalchemy import Connection

SetUpHook: TypeAlias = "Callable[[Connection, WSGIEnvironment], object]"
"""Is called with a connection on which a transaction of a request has begun, before its first statement."""

ChooseBind: TypeAlias = "Callable[[WSGIEnvironment], Engine | None]"
"""Chooses the engine of a request's session; None for that of the `sessionmaker`."""

EndHook: TypeAlias = "Callable[[Scope], object]"
"""Is called with a scope that has ended."""

F = TypeVar("F", bound=Callable[..., object])
H = TypeVar("H", bound=Callable[["Scope"], object])


class State(Enum):
    """What has become of a scope."""

    OPEN = "open"
    DOOMED = "doomed"
    SETTLING = "being settled"
    COMMITTED = "committed"
    UNCOMMITTED = "not committed"
    ROLLED_BACK = "rolled back"
    ENDED = "ended"


class Scope(ABC):
    """What lives exactly as long as one request, or one `session_scope` block.

    It holds the sessions that were made in it, and ends them. `current_scope` returns the one that code runs in; a
    session's own is ``session.info["wsgi_session.scope"]``.
    """

    __slots__ = ()

    environ: WSGIEnvironment | None
    """The environ of the request; None in a `session_scope` block."""

    @property
    @abstractmethod
    def state(self) -> State:
        """What has become of this scope.

        In a child process, the scopes that it has inherited are ended.
        """

    @abstractmethod
    def on_end(self, hook: H) -> H:
        """Have *hook* called with this scope when it has ended; also as a decorator.

        Hooks run once, in the order in which they were registered, after the sessions have been closed. In a hook the
        registry raises `ScopeEndedError`. But ``Session.remove()`` does nothing there, so hooks that were written for
        SQLAlchemy's ``on_request_end`` work unchanged. If a hook raises, the error is logged, and the others run.

        Args:
            hook: A plain function of one argument.

        Returns:
            The hook itself.

        Raises:
            TypeError: If *hook* is not callable, or a generator or ``async`` function, which would never run.
            ScopeEndedError: If the scope has ended.
        """

    @abstractmethod
    def doom(self) -> None:
        """Have everything rolled back when the outcome is settled; the commit rule is not asked.

        Raises:
            ScopeStateError: If nothing would be committed anyway, or the outcome is settled already.
        """

    @abstractmethod
    def release(self) -> None:
        """End the transactions and give the connections back, now.

        Sessions, objects and loaded attributes stay as they are: nothing is expired or detached. Use it for long
        polls, slow calls and streams. The next use of a session begins another transaction, with a snapshot of its own.

        Raises:
            PendingChangesError: If something would be lost: changes, also those of a direct statement; a callback that
                waits for a commit; what text has set up (``SET LOCAL``, a temporary table); options that were given to
                ``session.connection()``; rows that are locked, or are still being read. Also in a ``session.begin()``
                block, a savepoint or a two-phase transaction, and on a driver that was not tried. Nothing has been
                released then.
            ScopeEndedError: If the scope has ended.
        """


def checked_bind(bind: Any, choose: object) -> Engine | None:
    """Return what *choose* has returned, or raise a `TypeError` if no session can be bound to it."""
    if bind is None or isinstance(bind, Engine):
        return bind
    raise TypeError(f"{choose!r} has to choose an Engine, or None for that of the sessionmaker; it returned {bind!r}.")


def checked_hook(hook: F, what: str = "An end hook") -> F:
    """Return *hook*, or raise a `TypeError` that says *what* it is if it could never run."""
    if not callable(hook):
        raise TypeError(f"{what} has to be callable; this one is {hook!r}.")
    if never_runs(hook):
        raise TypeError(
            f"{what} has to be a plain function: {_place_of(hook)} is a generator or 'async' function, so it would"
            " never run."
        )
    return hook


def checked_application(app: F, what: str) -> F:
    """Return *app*, or raise a `TypeError` that begins with *what* it has to be if it cannot be called as one."""
    if not callable(app):
        raise TypeError(f"{what}, which is callable; {app!r} is not.")
    if any(map(inspect.iscoroutinefunction, _called(app))):
        raise TypeError(f"{what}; {app!r} is an 'async' function, as ASGI has it.")
    return app


def never_runs(function: Callable[..., object]) -> bool:
    """Say whether a call of *function* does not run its body: it is a generator or ``async`` function."""
    return any(
        inspect.isgeneratorfunction(called) or inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
        for called in _called(function)
    )


def _called(function: Any) -> tuple[Any, Any]:
    """Return what may be called: a function, or the method of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(type(function), "__call__", None)  # noqa: B004


def _place_of(function: Any) -> str:
    function = getattr(function, "func", function)
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    return f"{function.__qualname__!r} ({code.co_filename}:{code.co_firstlineno})"
