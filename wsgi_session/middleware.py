"""The middleware: what opens a scope around every request to an application."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from . import _fork, _wsgi
from ._checks import checked_application, checked_hook
from ._response.request import RequestScope
from ._response.response import stepped
from ._response.start import UNCALLED, HeldStart, NotedStart
from ._scope import beginning
from ._scope.end import end
from ._scope.life import OPEN, OVER, UNTOUCHED
from ._scope.look import enter, leave, look, nearest_open
from ._scope.terms import Terms
from ._session import engines
from .commit import check_rule, never, until_close
from .registry import adopt, engines_of, registry_of
from .scope import H

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from typing_extensions import TypeVar as TypeVarWithDefault  # SQLAlchemy brings it

    from .commit import CommitRule
    from .observe import Recorder
    from .scope import ChooseBind, SetUpHook

    S = TypeVarWithDefault("S", bound=Session, default=Session)
else:
    S = TypeVar("S", bound=Session)


class SessionMiddleware(Generic[S]):
    """Open a scope around every request to *app*.  Lives as long as the application.

    The request's session is ``environ["sqlalchemy.session"]``, and what the registry returns.
    """

    registry: scoped_session[S]
    """The registry that was given, or the one made for what was given."""

    def __init__(
        self,
        app: WSGIApplication,
        registry: scoped_session[S] | sessionmaker[S] | Engine | URL | str,
        *,
        environ_key: str = "sqlalchemy.session",
        commit: CommitRule = never,
        release_reads: bool = False,
        bind: ChooseBind | None = None,
        on_begin: SetUpHook | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Wrap *app*.

        Args:
            app: Any WSGI application.
            registry: A `RequestScopedSession`, a `scoped_session` with ``scopefunc=current_scope``, a `sessionmaker`,
                an `Engine`, or a database URL.
            environ_key: Where the session is put in the environ.
            commit: Who commits. `never`, the default: the views do, before they return. A rule such as
                `on_unsafe_success`: the middleware does, before the first byte. `until_close`: the application does, at
                any time until its response is closed.
            release_reads: Whether a response that has committed nothing gives its connections back before the first
                byte, unless `Scope.release` would be refused. Use it on sites that stream to slow clients. The body
                then reads in a new transaction.
            bind: A function that chooses the engine of a request, ``bind(environ) -> Engine | None``, such as a
                database for each tenant, or a replica. It is called once, when the session is first used. None means
                the engine of the `sessionmaker`. If it returns an engine with options
                (``engine.execution_options(...)``), keep that engine, and do not make it anew for each request. The
                recorder knows the engines in ``bind.engines`` from the start.
            on_begin: A function that sets up each transaction, ``on_begin(connection, environ)``, before its first
                statement, such as for a tenant or an audit user. It is called when a session of *registry* begins a
                transaction in a request, again after each commit, and in the body. If it returns a mapping, its
                settings hold for this transaction (PostgreSQL's ``set_config``). If it raises, nothing can be sent.
            recorder: What records the requests, if they are to be recorded.

        Raises:
            TypeError: If an argument is of another kind.
        """
        checked_application(app, "SessionMiddleware wraps a WSGI application")
        if isinstance(app, _wsgi.Repeating):
            raise TypeError(
                f"{type(app).__name__} belongs outside of the SessionMiddleware, so that each attempt has a new scope:"
                f" '{type(app).__name__}(SessionMiddleware(app, ...))'."
            )
        if not isinstance(environ_key, str):
            raise TypeError(f"environ_key has to be a string, not {environ_key!r}.")
        check_rule(commit)
        _check_recorder(recorder)
        if bind is not None:
            checked_hook(bind, "bind, which chooses the engine of a request,")
        if on_begin is not None:
            checked_hook(on_begin, "on_begin")
            beginning.listen()
        self.app: WSGIApplication = _fork.checking(app if recorder is None else recorder.watching(app))
        self.commit = commit
        self.environ_key = environ_key
        self._own_engine = create_engine(registry) if isinstance(registry, str | URL) else None
        self.registry = registry_of(registry if self._own_engine is None else self._own_engine)
        adopted = adopt(self.registry)
        adopted.keys = tuple(dict.fromkeys((*adopted.keys, environ_key)))
        source = adopted.source
        self._unbuilt: Any = None if source.forms is None else source.forms.unbuilt
        # Where a request is recorded, and where there are hooks, `end` has more to do than `__call__` does for it.
        self._has_plain_end = source.forms is not None and recorder is None
        self._terms = Terms(
            source,
            settles=commit is not until_close,
            commit=commit,
            has_rule=commit is not never and commit is not until_close,
            key=environ_key,
            release_reads=release_reads,
            bind=bind,
            on_begin=on_begin,
            is_recorded=recorder is not None,
        )
        _middlewares.add(self)
        known = [*engines_of(self.registry.session_factory), *getattr(bind, "engines", ())]
        for engine in known:
            engines.meet(engine)
        if recorder is not None:
            recorder.watch(*known)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        # All that a request needs that does not touch its session is in this one function, with plain stores in place
        # of an `__init__` (those of `start.held` under a rule), and with what `end` does for it. It is what most
        # requests cost: with calls a quarter more (1.9 µs in place of 1.4, under a rule 2.6 in place of 2.1, on Python
        # 3.13).
        app = self.app
        file_wrapper = environ.get("wsgi.file_wrapper")
        terms = self._terms
        has_plain_end = self._has_plain_end
        holds = terms.has_rule
        unbuilt = self._unbuilt

        scope = RequestScope()
        scope.environ = environ
        scope.life = UNTOUCHED
        scope.outcome = OPEN
        scope.outer = outer = look()
        if outer is not None:
            scope.outer = nearest_open(outer)
        scope.terms = terms
        if unbuilt is None:
            session = terms.source.make_now(scope)
        else:
            session = unbuilt()
            session._wsgi_session_owner = scope
        scope.session = session
        shadowed = environ.setdefault(terms.key, session)
        is_shadowing = shadowed is not session
        if is_shadowing:
            scope.shadowed = shadowed
            environ[terms.key] = session

        start: NotedStart | HeldStart
        token = enter(scope)
        try:
            if holds:
                start = HeldStart()
                start.is_held = True
                start.scope = scope
                start.server_write = None
                start.start_response = start_response
                start.status = UNCALLED
                start.written = 0
                body = app(environ, start.hold)
            else:
                start = NotedStart()
                start.scope = scope
                start.start_response = start_response
                start.status = UNCALLED
                body = app(environ, start.note)
            kind = type(body)
            if kind is list or kind is tuple or _wsgi.is_file(body, file_wrapper):
                if holds or scope.life is not UNTOUCHED:
                    start.let_go(body)
                if has_plain_end and scope.life is UNTOUCHED:
                    scope.life = OVER
                    scope.session._wsgi_session_owner = None
                else:
                    end(scope)
                return body
            return stepped(body, scope, start, is_shadowing)
        except BaseException as error:
            end(scope, error)
            raise
        finally:
            leave(token)
            if is_shadowing:
                scope.hide()

    def on_request_end(self, hook: H) -> H:
        """Have *hook* called with the scope of every request that has ended; also as a decorator.

        It is `Scope.on_end` for all requests to come, and the ``on_request_end`` of SQLAlchemy's `documentation`_.

        .. _documentation: https://docs.sqlalchemy.org/en/21/orm/contextual.html

        Args:
            hook: A plain function of one argument.

        Returns:
            The hook itself.

        Raises:
            TypeError: If *hook* is not callable, or a generator or ``async`` function.
        """
        self._terms = replace(self._terms, hooks=(*self._terms.hooks, checked_hook(hook)))
        self._has_plain_end = False
        return hook

    def close(self) -> None:
        """Dispose of the engine, if it was made for this middleware, from a URL."""
        if self._own_engine is not None:
            self._own_engine.dispose()


def _check_recorder(recorder: Any) -> None:
    """Refuse what is no recorder, without importing those who are, for an application that has none.

    Raises:
        TypeError: If *recorder* is something else.
    """
    if recorder is None:
        return
    from .observe import Recorder  # noqa: PLC0415

    if not isinstance(recorder, Recorder):
        raise TypeError(f"recorder has to be a wsgi_session.observe.Recorder, not {recorder!r}.")


def _renew_terms(middleware: SessionMiddleware[Any]) -> None:
    own = middleware._terms  # pyright: ignore[reportPrivateUsage]
    middleware._terms = replace(own, generation=_fork.generation)  # pyright: ignore[reportPrivateUsage]


_middlewares: _fork.Inheritance[SessionMiddleware[Any]] = _fork.Inheritance(_renew_terms)
