"""The registry: what finds the session that belongs here."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.util import ScopedRegistry

from . import _fork, current
from ._scope.life import OVER
from ._scope.look import look
from ._scope.membership import note_built, scope_holding
from ._session import engines, forms, lazy, listening
from ._session.threads import ThreadSession
from .current import current_scope
from .errors import NoScopeError, ScopeEndedError

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from ._scope.base import BaseScope

S = TypeVar("S", bound=Session)


class RequestScopedSession(scoped_session[S]):
    """A `scoped_session` that is keyed on the current request.  Lives as long as the program.

    Make it where the program starts, and call it where you need a session. In a request or in a `session_scope` block
    it returns the session of that request or block. As a proxy (``Session.scalars(...)``) it acts on that session.
    """

    def __init__(self, session_factory: sessionmaker[S], *, outside: Literal["error", "thread"] = "error") -> None:
        """Make a registry of the sessions that *session_factory* makes.

        Args:
            session_factory: The `sessionmaker`; it may be configured later, by ``Session.configure(bind=engine)``.
            outside: What a call does where no scope is open. With ``"error"`` it raises a `NoScopeError`. With
                ``"thread"`` the calling thread has a session of its own, freed with the thread or by ``remove()``.

        Raises:
            TypeError: If *session_factory* cannot be called.
            ValueError: If *outside* is neither of the two.
        """
        if not callable(session_factory):
            raise TypeError(f"A RequestScopedSession is made from a sessionmaker, not from {session_factory!r}.")
        if outside not in ("error", "thread"):
            raise ValueError(f"outside={outside!r} means nothing; it is 'error' or 'thread'.")
        super().__init__(session_factory, scopefunc=current_scope)
        self._sessions = ScopeRegistry(session_factory, outside == "thread")
        self.registry: ScopedRegistry[S] = self._sessions

    def __call__(self, **kw: Any) -> S:
        """Return the session that belongs here.

        Args:
            **kw: Arguments for the `sessionmaker`, if the session has not been touched yet.

        Raises:
            NoScopeError: If no scope is open, and there is no session for the thread.
            ScopeEndedError: If the scope has ended.
            sqlalchemy.exc.InvalidRequestError: If there are arguments, and the session is there already.
        """
        if not kw:
            return self._sessions()
        if self._sessions.has():
            return super().__call__(**kw)  # SQLAlchemy's own refusal
        return self._sessions.build(kw)


class ScopeRegistry(ScopedRegistry[S]):
    """What a `scoped_session` keeps its sessions in: the scopes.  Lives as long as the `scoped_session`."""

    __slots__ = ("__weakref__", "_threads", "keys", "source")

    keys: tuple[str, ...]
    """Where the middlewares that were made with it put its session in the environ."""

    def __init__(self, session_factory: Callable[..., S], with_threads: bool) -> None:
        """Make a registry.

        Args:
            session_factory: Makes the sessions.
            with_threads: Whether each thread has a session of its own outside of scopes.
        """
        super().__init__(session_factory, current_scope)
        self.keys = ()
        self.source: lazy.SessionSource[S] = lazy.SessionSource(session_factory, listening.listen_to, note_built)
        self._threads = threading.local() if with_threads else None
        _registries.add(self)

    def __call__(self) -> S:
        """Return the session that belongs here."""
        scope, source = look(), self.source
        if scope is not None and scope.life is not OVER:  # as nearly always, and soon found out
            terms = scope.terms
            if terms.source is source and terms.generation == _fork.generation:
                return scope.session  # type: ignore[no-any-return]
        scope = current.scope_of(source)
        if scope is not None:
            return scope.session_of(source)
        return self._of_thread().session(source)

    def has(self) -> bool:
        """Say whether there is a session that has been touched; in a scope that has ended there is none."""
        try:
            scope = current.scope_of(self.source)
        except ScopeEndedError:
            return False
        if scope is not None:
            return forms.is_built(scope.session_of(self.source))
        own: ThreadSession[S] | None = getattr(self._threads, "own", None)
        return own is not None and own.is_made

    def build(self, kw: dict[str, Any]) -> S:
        """Build the session that belongs here, which has not been touched yet, with arguments."""
        scope = current.scope_of(self.source)
        if scope is None:
            return self._of_thread().session(self.source, **kw)
        session = scope.session_of(self.source)
        self.source.build(session, **kw)
        return session

    def set(self, obj: S) -> None:
        """Make *obj* the session that belongs here."""
        scope = current.scope_of(self.source)
        if scope is None:
            self._of_thread().replace(obj)
        else:
            listening.listen_to(type(obj))
            note_built(obj, scope)
            scope.replace(self.source, obj)

    def clear(self) -> None:
        """Forget the session, which has been closed: it is built anew at the next touch."""
        try:
            scope = current.scope_of(self.source)
        except ScopeEndedError:
            return
        if scope is None:
            if self._threads is not None:
                self._threads.__dict__.clear()
            return
        session = scope.session_of(self.source)
        if not self.source.unbuild(session, scope):
            scope.replace(self.source, self.source.make(scope))

    def _of_thread(self) -> ThreadSession[S]:
        if self._threads is None:
            raise current.no_session()
        try:
            own: ThreadSession[S] = self._threads.own
        except AttributeError:
            own = self._threads.own = ThreadSession()
        return own


def session_of(environ: WSGIEnvironment, registry: scoped_session[S]) -> S:
    """Return the session of a request, from its environ, with the type that *registry* gives it.

    ::

        session = session_of(environ, Session)  # environ["sqlalchemy.session"], and a type checker knows what it is

    Args:
        environ: Of the request.
        registry: That of its `SessionMiddleware`.

    Raises:
        NoScopeError: If the request has not passed a `SessionMiddleware` of *registry*; it says what is missing.
        TypeError: If *registry* is no registry.
    """
    if not isinstance(registry, scoped_session):
        raise TypeError(f"session_of() takes the registry of a SessionMiddleware, not {registry!r}.")
    adopted = adopt(registry)
    found = [scope for key in adopted.keys if (scope := scope_holding(environ.get(key), adopted.source)) is not None]
    if found:
        return max(found, key=_depth).session_of(adopted.source)
    if not adopted.keys:
        raise NoScopeError(
            "No SessionMiddleware was made with this registry. Wrap the application: 'SessionMiddleware(app, Session)'."
        )
    raise NoScopeError(
        f"This request has not passed the SessionMiddleware: its environ has no {adopted.keys[0]!r}. A test client that"
        " is made from the framework's application goes past a middleware that is around it: in Flask assign"
        " 'app.wsgi_app = SessionMiddleware(app.wsgi_app, Session)'; in Django wrap what 'get_wsgi_application()'"
        " returns, and in a test ask for the fixture 'wsgi_django', or use 'wsgi_client'."
    )


def _depth(scope: BaseScope) -> int:
    """Count the scopes that are open around *scope*."""
    depth = 0
    while scope.outer is not None:
        scope, depth = scope.outer, depth + 1
    return depth


def adopt(registry: scoped_session[S]) -> ScopeRegistry[S]:
    """Have a `scoped_session` keep its sessions in the scopes.

    Raises:
        TypeError: If it is keyed on something else than `current_scope`.
    """
    with _adopting:
        return _adopted(registry)


def _adopted(registry: scoped_session[S]) -> ScopeRegistry[S]:
    inner = registry.registry
    if isinstance(inner, ScopeRegistry):
        return inner
    if getattr(inner, "scopefunc", None) is not current_scope:
        raise TypeError(
            f"{registry!r} is not keyed on the current request."
            " Make it with 'scoped_session(..., scopefunc=wsgi_session.current_scope)',"
            " or use 'RequestScopedSession(...)'."
        )
    adopted: ScopeRegistry[S] = ScopeRegistry(registry.session_factory, with_threads=False)
    registry.registry = adopted
    return adopted


_adopting = threading.Lock()
os.register_at_fork(before=_adopting.acquire, after_in_child=_adopting.release, after_in_parent=_adopting.release)


def registry_of(given: Any) -> scoped_session[Any]:
    """Return the registry that a `SessionMiddleware` is given, or one that is made of what it is given.

    Raises:
        TypeError: If no registry can be made of it.
    """
    if isinstance(given, scoped_session):
        return given
    if isinstance(given, sessionmaker):
        return RequestScopedSession(given)
    if isinstance(given, Engine):
        return RequestScopedSession(sessionmaker(given, class_=Session))
    raise TypeError(
        f"SessionMiddleware cannot make sessions from {given!r}. It takes a RequestScopedSession,"
        " a scoped_session with scopefunc=wsgi_session.current_scope, a sessionmaker, an Engine or a database URL."
    )


def engines_of(session_factory: Any) -> list[Engine]:
    """List the engines that a `sessionmaker` names by now."""
    kw = getattr(session_factory, "kw", {})
    return [bind for bind in (kw.get("bind"), *(kw.get("binds") or {}).values()) if isinstance(bind, Engine)]


def has_sessions(engine: Engine) -> bool:
    """Say whether a registry of this process makes sessions on *engine*, as far as its `sessionmaker` says that."""
    factories = [registry.source.session_factory for registry in _registries]
    return any(known.pool is engine.pool for factory in factories for known in engines_of(factory))


def _replace_pools(registry: ScopeRegistry[Any]) -> None:
    for engine in engines_of(registry.source.session_factory):
        engines.replace_pool(engine)


_registries: _fork.Inheritance[ScopeRegistry[Any]] = _fork.Inheritance(_replace_pools)
