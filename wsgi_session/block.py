"""The block: a scope for scripts, jobs and tests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from sqlalchemy.orm import Session, scoped_session

from ._checks import never_runs
from ._scope.base import BaseScope
from ._scope.end import end
from ._scope.life import OPEN, UNTOUCHED
from ._scope.look import enter, look, nearest_open
from ._scope.outcome import commit_block
from ._scope.terms import Terms
from .registry import adopt

if TYPE_CHECKING:
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Session)


class session_scope(Generic[S]):  # noqa: N801
    """Open a scope for a registry, for scripts, jobs and tests: a block, or a decorator.  Lives as long as the block.

    ::

        with session_scope(Session) as session:
            session.add(User(name="ada"))

        @session_scope(Session)
        def add_user(name: str) -> None:
            Session.add(User(name=name))

    means the same as, written out::

        session = factory()
        try:
            session.add(User(name="ada"))
            session.commit()
        except BaseException:
            session.rollback()
            raise
        finally:
            session.close()

    In the block, the registry means this session: ``Session() is session``. This is also so in a request: the registry
    means the block's session in the block, and the request's session after it. A decorated function is called
    unchanged.
    """

    def __init__(self, registry: scoped_session[S], *, commit: bool = True) -> None:
        """Prepare a block.

        Args:
            registry: A `RequestScopedSession`, or a `scoped_session` with ``scopefunc=current_scope``.
            commit: Whether to commit when the block is left without an error; False for a block that only reads.

        Raises:
            TypeError: If *registry* is anything else.
        """
        if not isinstance(registry, scoped_session):
            raise TypeError(
                f"session_scope() takes a registry, not {registry!r}."
                " Make one where the program starts: 'Session = RequestScopedSession(sessionmaker(engine))'."
            )
        self._registry = registry
        self._source = adopt(registry).source
        self._settles = commit
        self._scope: BaseScope | None = None
        self._previous: BaseScope | None = None
        self._was_over = False

    def __enter__(self) -> S:
        """Open the scope and return its session.

        Raises:
            RuntimeError: If this very block is open already.
        """
        if self._scope is not None:
            raise RuntimeError(
                "This session_scope() block is open already. Make another one with 'session_scope(...)'."
            )
        self._previous = previous = look()
        self._was_over = previous is not None and previous.is_ended
        self._scope = scope = _opened(Terms(self._source, settles=self._settles))
        enter(scope)
        session: S = scope.session_of(self._source)
        return session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit, or roll back if there was an error or the scope was doomed, and end the scope."""
        scope, self._scope = self._scope, None
        assert scope is not None
        now = look()
        enter(scope)
        try:
            if error is None and self._settles:
                commit_block(scope)
        except BaseException as failure:
            error = failure
            raise
        finally:
            try:
                end(scope, error)
            finally:
                enter(self._outside_of(scope, now))

    def _outside_of(self, scope: BaseScope, now: BaseScope | None) -> BaseScope | None:
        """Return the scope that is current when the block has been left.

        It is the one that was current before, also an ended one, in a hook of whose end the block was. But blocks in
        generators that run in turn are not left in the order in which they were entered: the current one may be of
        another such block, which goes on, and the one before may have been left meanwhile, which goes outwards.

        Args:
            scope: The block's own.
            now: The current one when it is left.
        """
        previous, self._previous = self._previous, None
        if now is scope and self._was_over:
            return previous
        return nearest_open(previous if now is scope else now)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Wrap *function* in a block of its own for each call.

        Raises:
            TypeError: If it is a generator or ``async`` function, whose body would run after the block.
        """
        if not callable(function):
            raise TypeError(f"A block wraps a function, or is entered by 'with'; {function!r} is neither.")
        if never_runs(function):
            name = getattr(function, "__qualname__", repr(function))
            raise TypeError(
                f"{name!r} is a generator or 'async' function: its body would run after the block."
                " Open the block in its body: 'with session_scope(...)'."
            )

        @functools.wraps(function)
        def in_scope(*args: P.args, **kwargs: P.kwargs) -> R:
            with session_scope(self._registry, commit=self._settles):
                return function(*args, **kwargs)

        return in_scope


def _opened(terms: Terms) -> BaseScope:
    """Open the scope of a block, inside of the nearest one that has not ended."""
    scope = BaseScope()
    scope.environ = None
    scope.life = UNTOUCHED
    scope.outer = nearest_open(look())
    scope.terms = terms
    scope.outcome = OPEN
    scope.session = terms.source.make(scope)
    return scope
