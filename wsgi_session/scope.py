"""The scope, what lives exactly as long as one request or one block, as its users see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from sqlalchemy import Connection, Engine

SetUpHook: TypeAlias = "Callable[[Connection, WSGIEnvironment], object]"
"""Is called with a connection on which a transaction of a request has begun, before its first statement."""

ChooseBind: TypeAlias = "Callable[[WSGIEnvironment], Engine | None]"
"""Chooses the engine of a request's session; None for that of the `sessionmaker`."""

EndHook: TypeAlias = "Callable[[Scope], object]"
"""Is called with a scope that has ended."""

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
