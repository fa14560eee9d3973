"""The isolation of a test: the sessions in it, and the test's own among them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event
from sqlalchemy.orm import Session, scoped_session

from .. import callbacks
from .._scope.membership import on_build, scope_of_session
from .._session import changes, forms, transaction
from ..registry import adopt
from ._leaks import LeakWatch
from ._problems import Problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from sqlalchemy import Connection
    from sqlalchemy.orm import SessionTransaction

S = TypeVar("S", bound=Session)


class Isolation(ABC):
    """What a test does to databases, and what becomes of that.  Lives as long as its block.

    There is one at a time in a process.
    """

    commits: list[Callable[[], object]]
    """The callbacks of `on_commit` that have run, in order."""

    sessions: list[Session]
    """The test's own, in order."""

    def __init__(self) -> None:
        """Prepare a block."""
        self.commits = []
        self.sessions = []
        self._built: list[Session] = []
        self._stack = ExitStack()
        self._thread = threading.get_ident()
        self._leaks = LeakWatch()
        self._problems = Problems()

    def session(self, registry: scoped_session[S]) -> S:
        """Make a session of the test's own, of the kind that *registry* makes; it is closed with the block.

        Its objects are expired when a request has committed, and do not show what was. Commit it before a request that
        is to see its changes.

        Raises:
            TypeError: If *registry* is no registry.
        """
        if not isinstance(registry, scoped_session):
            raise TypeError(f"session() takes a registry, as session_scope() does, not {registry!r}.")
        session: S = adopt(registry).source.make_now(None)
        self.sessions.append(session)
        return session

    def check(self, error: BaseException | None = None) -> None:
        """Raise what the block has to complain of so far: leaks, and what would have fooled the test.

        Args:
            error: What is on its way already; it is given notes, and nothing is raised.

        Raises:
            IsolationError: If there is anything that was not told before.
        """
        self._note_leaks()
        self._problems.tell(error)

    def __enter__(self) -> Self:
        """Begin.

        Raises:
            RuntimeError: If there is a block already.
        """
        global _current
        if _current is not None:
            raise RuntimeError("There is a block of wsgi_session.testing already; they cannot be nested.")
        _current = self
        self._stack.callback(_forget_current)
        self._leaks.start()
        self._stack.callback(self._leaks.stop)
        self._follow(on_build, self._on_build)
        self._follow(callbacks.on_run, self.commits.append)
        for target, name, listener in [(Session, "after_begin", self._after_begin), *self._listeners()]:
            event.listen(target, name, listener)
            self._stack.callback(event.remove, target, name, listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the sessions, undo everything, and raise what would have fooled the test.

        Raises:
            IsolationError: If there is anything, and no error is on its way; it is given notes instead, as is one
                that has kept the block from undoing everything.
        """
        self._note_leaks()
        try:
            with self._stack:
                self._stack.callback(self._undo)
                for session in self._built:
                    if forms.is_built(session):
                        self._stack.callback(transaction.close, session)
        except BaseException as failure:
            self._problems.tell(failure)
            raise
        self._problems.tell(error)

    @abstractmethod
    def _listeners(self) -> list[tuple[Any, str, Any]]:
        """List the events of SQLAlchemy that are followed in the block, but for ``after_begin``."""

    @abstractmethod
    def _undo(self) -> None:
        """Undo what was written; all sessions are closed."""

    def _note_leaks(self) -> None:
        for leak in self._leaks.leaks():
            self._problems.note(leak)

    def _may_refresh_own(self) -> bool:
        """Say whether this thread may touch the test's own sessions."""
        return threading.get_ident() == self._thread

    def _follow(self, followers: list[Any], tell: Any) -> None:
        followers.append(tell)
        self._stack.callback(followers.remove, tell)

    def _on_build(self, session: Session) -> None:
        self._built.append(session)
        self._leaks.add(session)

    def _after_begin(self, session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        """Leave the connection of a session to that: it goes back with the scope, or with the block."""
        if session in self._built:
            self._leaks.disregard(connection.connection.dbapi_connection)

    def _refresh_own(self, other: Session) -> None:
        """Have the test's own sessions read anew what *other* may have changed."""
        if not self._may_refresh_own():
            return
        for session in self.sessions:
            if session is not other and not changes.of(session):
                session.expire_all()


def is_of_root(session: Session) -> bool:
    """Say whether an event of *session* is about its transaction, and not about a savepoint in it."""
    return session.get_nested_transaction() is None


def name_of(session: Session) -> str:
    """Say whose *session* is."""
    scope = scope_of_session(session)
    return "a session of the test's" if scope is None else f"the session of {scope!r}"


def capitalized(name: str) -> str:
    """Begin a sentence with *name*."""
    return name[0].upper() + name[1:]


def isolated_session() -> Session:
    """Return the first session that the test has made in its block, for factories such as factory_boy's.

    ::

        class Meta:
            model = User
            sqlalchemy_session_factory = isolated_session

    Raises:
        RuntimeError: If there is no block, or no session in it yet.
    """
    if _current is None or not _current.sessions:
        raise RuntimeError(
            "The test has no session of its own here. Ask for the fixture 'wsgi_session',"
            " or call 'session(registry)' of the block."
        )
    return _current.sessions[0]


def _forget_current() -> None:
    global _current
    _current = None


_current: Isolation | None = None
