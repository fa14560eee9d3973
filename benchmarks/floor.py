"""The floor: the parts of which a session in step with the request is made, and nothing else.

A scope in a `ContextVar`, a session that is built on first touch and refuses use afterwards, a look at the process id,
a body whose steps are taken in the scope: all of it in as few functions as Python allows. Nothing is guarded. An error
keeps a session open, two threads may take one step, late use is no error that says what to do. So this is no example.
It tells how much of what this project costs is the price of what it promises, and which goals these parts cannot reach.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session, sessionmaker

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

KEY = "sqlalchemy.session"

Rule = Callable[["WSGIEnvironment", int, list[tuple[str, str]]], object]


class Scope:
    """What belongs to one request: as many attributes as a scope has that is one."""

    __slots__ = ("environ", "hooks", "may_warn", "others", "outer", "session", "shadowed", "state", "terms")

    environ: WSGIEnvironment
    hooks: tuple[object, ...]
    may_warn: bool
    others: tuple[object, ...]
    outer: Scope | None
    session: Any
    shadowed: object
    state: str
    terms: object


_innermost: ContextVar[Scope | None] = ContextVar("floor", default=None)


class Floor:
    """The middleware."""

    def __init__(self, app: WSGIApplication, factory: sessionmaker[Session], rule: Rule | None) -> None:
        """Wrap *app*."""
        self._app = app
        self._ended, self._pid, self._rule = _ended_form(factory.class_), os.getpid(), rule
        self._unbuilt = _unbuilt_form(factory)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if os.getpid() != self._pid:
            raise RuntimeError("This is another process.")
        scope = Scope()
        scope.environ, scope.outer, scope.state, scope.terms = environ, _innermost.get(), "open", self
        scope.hooks = scope.others = ()
        scope.may_warn, scope.shadowed = False, environ.get(KEY)
        environ[KEY] = scope.session = self._unbuilt()
        token = _innermost.set(scope)
        try:
            if self._rule is None:
                body = self._app(environ, start_response)
            else:
                body = self._settled(self._rule, scope, start_response)
            if type(body) is not list:
                return Body(self, body, scope)
            self.end(scope)
            return body
        finally:
            _innermost.reset(token)

    def end(self, scope: Scope) -> None:
        """Close the session."""
        scope.state, session = "ended", scope.session
        if type(session) is not self._unbuilt:
            session.close()
        session.__class__ = self._ended

    def _settled(self, rule: Rule, scope: Scope, start_response: StartResponse) -> Iterable[bytes]:
        calls: list[Any] = []

        def held(*call: Any) -> Callable[[bytes], object]:
            calls.append(call)
            return print

        body = self._app(scope.environ, held)
        [(status, headers)] = calls
        if rule(scope.environ, int(status[:3]), headers) and type(scope.session) is not self._unbuilt:
            scope.session.commit()
        start_response(status, headers)
        return body


class Body:
    """A body whose steps are taken in its scope."""

    __slots__ = ("_body", "_chunks", "_floor", "_scope")

    def __init__(self, floor: Floor, body: Iterable[bytes], scope: Scope) -> None:
        """Take over *body*."""
        self._body, self._chunks, self._floor, self._scope = body, iter(body), floor, scope

    def __iter__(self) -> Iterator[bytes]:
        """Return this very object."""
        return self

    def __next__(self) -> bytes:
        """Take a step."""
        token = _innermost.set(self._scope)
        try:
            return next(self._chunks)
        finally:
            _innermost.reset(token)

    def close(self) -> None:
        """Close the body, and end."""
        token = _innermost.set(self._scope)
        try:
            if hasattr(self._body, "close"):
                self._body.close()
            self._floor.end(self._scope)
        finally:
            _innermost.reset(token)


def _unbuilt_form(factory: sessionmaker[Session]) -> type[Session]:
    real = factory.class_

    def build(self: Any, name: str) -> Any:
        self.__class__ = real
        self.__init__(**factory.kw)
        return getattr(self, name)

    return type(real.__name__, (real,), {"__init__": object.__init__, "__getattribute__": build})


def _ended_form(real: type[Session]) -> type[Session]:
    def refuse(self: Any, name: str) -> Any:
        raise RuntimeError(f"The request is over: {name}")

    return type(real.__name__, (real,), {"__getattribute__": refuse})
