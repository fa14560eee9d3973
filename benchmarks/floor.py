"""The floor: the parts of which a session in step with the request is made, and nothing else.

A scope in a `ContextVar`, a session that is built on first touch and refuses use afterwards, a ``start_response`` that
waits for a rule, a body whose steps are taken in the scope: all of it in as few functions as Python allows. Nothing is
guarded. An error keeps a session open, an early end of a body keeps it open, a fork shares connections, late use is no
error that says what to do. So this is no example. It tells how much of what this project costs is the price of what it
promises, and which goals these parts cannot reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session, sessionmaker

from wsgi_session._session import dispatch
from wsgi_session._wsgi import status_code

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

KEY = "sqlalchemy.session"

Rule = Callable[["WSGIEnvironment", int, list[tuple[str, str]]], object]


class Scope:
    """What belongs to one request: as many attributes as one has that does not touch its session."""

    __slots__ = ("environ", "is_untouched", "outer", "session", "terms")

    environ: WSGIEnvironment
    is_untouched: bool
    outer: Scope | None
    session: Any
    terms: object


_innermost: ContextVar[Scope | None] = ContextVar("floor", default=None)
_look, _enter, _leave = _innermost.get, _innermost.set, _innermost.reset


class Floor:
    """The middleware."""

    def __init__(self, app: WSGIApplication, factory: sessionmaker[Session], rule: Rule | None) -> None:
        """Wrap *app*."""
        self._app, self._rule = app, rule
        self._ended, self._unbuilt = _ended_form(factory.class_), _unbuilt_form(factory)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        app, rule, unbuilt = self._app, self._rule, self._unbuilt
        scope = Scope()
        scope.environ = environ
        scope.is_untouched = True
        scope.outer = _look()
        scope.terms = self
        environ[KEY] = scope.session = session = unbuilt()
        token = _enter(scope)
        try:
            if rule is None:
                body = app(environ, start_response)
            else:
                held = _Held()
                body = app(environ, held.hold)
                if rule(environ, status_code(held.status), held.headers) and type(session) is not unbuilt:
                    session.commit()
                start_response(held.status, held.headers)
            if type(body) is not list:
                return _body(body, scope, self._ended)
            if type(session) is not unbuilt:
                session.close()
            session.__class__ = self._ended
            return body
        finally:
            _leave(token)


class _Held:
    """A ``start_response`` that is held back."""

    __slots__ = ("headers", "status")

    headers: list[tuple[str, str]]
    status: str

    def hold(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
        self.status = status
        self.headers = headers
        return print


class _Body:
    """A body whose steps are taken in its scope."""

    __slots__ = ("ended", "scope", "steps")

    ended: type[Session]
    scope: Scope
    steps: Iterator[bytes]

    def __iter__(self) -> Iterator[bytes]:
        return self.steps

    def close(self) -> None:
        session = self.scope.session
        if type(session) is Session:
            session.close()
        session.__class__ = self.ended


def _body(body: Iterable[bytes], scope: Scope, ended: type[Session]) -> _Body:
    response = _Body()
    response.ended = ended
    response.scope = scope
    response.steps = _steps(body, scope)
    return response


def _steps(body: Iterable[bytes], scope: Scope) -> Iterator[bytes]:
    token = _enter(scope)
    for chunk in body:
        _leave(token)
        yield chunk
        token = _enter(scope)
    _leave(token)


def _unbuilt_form(factory: sessionmaker[Session]) -> type[Session]:
    real = factory.class_
    known = dispatch.of_class(real)

    def build(self: Any, name: str) -> Any:
        self.__class__ = real
        dispatch.share(known, self.dispatch)
        self.__init__(**factory.kw)
        return getattr(self, name)

    return type(real.__name__, (real,), {"__init__": object.__init__, "__getattribute__": build})


def _ended_form(real: type[Session]) -> type[Session]:
    def refuse(self: Any, name: str) -> Any:
        raise RuntimeError(f"The request is over: {name}")

    return type(real.__name__, (real,), {"__getattribute__": refuse})
