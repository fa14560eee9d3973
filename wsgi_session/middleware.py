"""The middleware: what opens a scope around every request to an application."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from . import _wsgi
from ._chunks import settled_chunks
from ._lifetime import Lifetime, Terms, innermost
from ._response import Response
from ._start import SettlingStart
from .observe import Recorder
from .registry import RequestScopedSession, adopt, engines_of
from .scope import H, checked_hook

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from .commit import CommitRule


class SessionMiddleware:
    """Open a scope around every request to *app*.  Lives as long as the application.

    The request's session is ``environ["sqlalchemy.session"]``, and what the registry returns.
    """

    registry: scoped_session[Any]
    """The registry that was given, or the one made for what was given."""

    def __init__(
        self,
        app: WSGIApplication,
        registry: scoped_session[Any] | sessionmaker[Any] | Engine | URL | str,
        *,
        environ_key: str = "sqlalchemy.session",
        commit: CommitRule | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Wrap *app*.

        Args:
            app: Any WSGI application.
            registry: A `RequestScopedSession`, a `scoped_session` with ``scopefunc=current_scope``, a `sessionmaker`,
                an `Engine`, or a database URL.
            environ_key: Where the session is put in the environ.
            commit: When to commit for the application: a rule such as `on_unsafe_success`; None for an application that
                commits for itself, at any time until its body is closed.
            recorder: What records the requests, if they are to be recorded.

        Raises:
            TypeError: If an argument is of another kind.
        """
        if not callable(app):
            raise TypeError(f"SessionMiddleware wraps a WSGI application, which is callable; {app!r} is not.")
        if not isinstance(environ_key, str):
            raise TypeError(f"environ_key has to be a string, not {environ_key!r}.")
        if commit is not None and not callable(commit):
            raise TypeError(
                f"commit={commit!r} is no rule. Use 'on_unsafe_success', 'on_success', 'never',"
                " a function (environ, status, headers) -> bool, or None."
            )
        if recorder is not None and not isinstance(recorder, Recorder):
            raise TypeError(f"recorder has to be a wsgi_session.observe.Recorder, not {recorder!r}.")
        self.app: WSGIApplication = app if recorder is None else recorder.watching(app)
        self.commit = commit
        self.environ_key = environ_key
        self._own_engine = create_engine(registry) if isinstance(registry, str | URL) else None
        self.registry = _registry(registry if self._own_engine is None else self._own_engine)
        self._terms = Terms(adopt(self.registry).source, settles=commit is not None, key=environ_key)
        if recorder is not None:
            recorder.watch(*engines_of(self.registry.session_factory))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        file_wrapper = environ.get("wsgi.file_wrapper")
        scope = Lifetime.opened(self._terms, environ)
        held = None
        token = innermost.set(scope)
        try:
            if self.commit is not None:
                start_response = held = SettlingStart(scope, self.commit, start_response)
            body = self.app(environ, start_response)
            if type(body) is list or _wsgi.is_finished(body, file_wrapper):
                if held is not None:
                    held.let_go_or_close(body)
                scope.end()
                return body
            return _stepped(body, scope, held)
        except BaseException as error:
            scope.end(error)
            raise
        finally:
            innermost.reset(token)
            if scope.shadowed is not None:
                scope.hide()

    def on_request_end(self, hook: H) -> H:
        """Have *hook* called with the scope of every request that has ended; also as a decorator.

        As `Scope.on_end`, for all requests to come: it is the ``on_request_end`` of SQLAlchemy's `documentation`_.

        .. _documentation: https://docs.sqlalchemy.org/en/21/orm/contextual.html

        Args:
            hook: A plain function of one argument.

        Returns:
            The hook itself.

        Raises:
            TypeError: If *hook* is not callable, or a generator or ``async`` function.
        """
        self._terms = replace(self._terms, hooks=(*self._terms.hooks, checked_hook(hook)))
        return hook

    def close(self) -> None:
        """Dispose of the engine, if it was made for this middleware, from a URL."""
        if self._own_engine is not None:
            self._own_engine.dispose()


def _stepped(body: Iterable[bytes], scope: Lifetime, held: SettlingStart | None) -> Iterable[bytes]:
    """Return what the server gets for a body in which code of the application may still run."""
    is_iterable = _wsgi.is_iterable(body)
    if held is not None and (held.call is not None or not is_iterable):
        held.let_go_or_close(body)
    if not is_iterable:
        _end_when_collected(body, scope)
        return body
    return Response(body, scope, body if held is None else settled_chunks(body, scope, held))


def _registry(given: Any) -> scoped_session[Any]:
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


def _end_when_collected(body: object, scope: Lifetime) -> None:
    """Leave to the server what only it can send (uWSGI's file wrapper around a file-like object)."""
    try:
        weakref.finalize(body, scope.end).atexit = False
    except TypeError:
        scope.end()
