"""The sessions of threads, outside of scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy.orm import Session

from .. import _fork
from . import transaction

if TYPE_CHECKING:
    from . import lazy

S = TypeVar("S", bound=Session)


class ThreadSession(Generic[S]):
    """The session of one thread, outside of scopes.  Lives as long as the thread, or until ``remove()``."""

    __slots__ = ("__weakref__", "_session")

    def __init__(self) -> None:
        """Hold no session yet."""
        self._session: S | None = None
        _sessions.add(self)

    @property
    def is_made(self) -> bool:
        """Whether there is a session: to make one may have failed, and in a child process there is none."""
        return self._session is not None

    def session(self, source: lazy.SessionSource[S], **kw: Any) -> S:
        """Return the session, made now if there is none."""
        if self._session is None:
            self._session = source.make_now(None, **kw)
        return self._session

    def replace(self, session: S) -> None:
        """Hold another session."""
        self._session = session

    def disown(self) -> None:
        """Hold none, in a child process."""
        _fork.kept.append(self._session)
        self._session = None

    def __del__(self) -> None:
        """Close the session of a thread that is over."""
        if self._session is not None:
            transaction.close(self._session)


_sessions: _fork.Inheritance[ThreadSession[Any]] = _fork.Inheritance(ThreadSession.disown)
