"""Django's test client and its live server, which call Django past the application, and so past its sessions."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import _wsgi
from ..registry import adopt

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from sqlalchemy.orm import scoped_session

_ANSWER = "wsgi_session.django_client"
"""The key of an environ under which a test client's own handler is."""


@contextmanager
def sent_through(app: WSGIApplication, registry: scoped_session[Any]) -> Generator[None]:
    """Send what comes to Django in this block, and has not passed the middleware of *registry*, through *app*.

    Both have a handler of their own, which no setting names, in place of the one that is in *app*.
    """
    server: Any = import_module("django.core.handlers.wsgi").WSGIHandler
    client: Any = import_module("django.test.client").ClientHandler
    keys = adopt(registry).keys
    serve, call = server.__call__, client.__call__

    def serve_through(handler: Any, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not any(key in environ for key in keys):
            return app(environ, start_response)
        answer: WSGIApplication = environ.get(_ANSWER) or serve.__get__(handler)
        return answer(environ, start_response)

    def call_through(handler: Any, environ: WSGIEnvironment) -> Any:
        return _Call(call.__get__(handler)).make(app, environ)

    server.__call__, client.__call__ = serve_through, call_through
    try:
        yield
    finally:
        server.__call__, client.__call__ = serve, call


class _Call:
    """A request of Django's test client, which wants Django's own response.  Lives as long as the request."""

    def __init__(self, handle: Callable[[WSGIEnvironment], Any]) -> None:
        """Have it answered by *handle*, what the client's own handler does."""
        self._handle = handle
        self._head: tuple[str, list[tuple[str, str]]] = ("", [])
        self._response: Any = None
        self._written: list[bytes] = []

    def make(self, app: WSGIApplication, environ: WSGIEnvironment) -> Any:
        """Send it through *app*, and return the response."""
        environ[_ANSWER] = self._answer
        body = app(environ, self._start_response)
        if getattr(self._response, "streaming", False):
            self._response.streaming_content = body  # which Django closes
            return self._response
        try:
            content = b"".join([*self._written, *body])
        finally:
            _wsgi.close(body)
        return self._response if self._is_djangos() else self._made_of(content, environ)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer in the place of the handler in the application; once for each attempt."""
        response = self._response = self._handle(environ)
        start_response(f"{response.status_code} {response.reason_phrase}", [*response.items()])
        chunks: Iterator[bytes] = iter(response)
        return chunks

    def _start_response(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
        self._head = status, headers
        return self._written.append

    def _is_djangos(self) -> bool:
        """Say whether the answer is Django's, and not a middleware's."""
        return self._response is not None and self._head[0].startswith(f"{self._response.status_code} ")

    def _made_of(self, content: bytes, environ: WSGIEnvironment) -> Any:
        """Make a response of Django's of what a middleware has answered."""
        status, headers = self._head
        make = import_module("django.http").HttpResponse
        response: Any = make(content, status=_wsgi.status_code(status), headers=dict(headers))
        response.wsgi_request = import_module("django.core.handlers.wsgi").WSGIRequest(environ)
        return response
