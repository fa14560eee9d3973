"""What carries the position between a client and its requests."""

from __future__ import annotations

from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from .._checks import checked_application
from .._response.start import held
from .._wsgi import method_and_path
from ._position import NOWHERE, furthest
from ._visit import Visit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from ._position import Position
    from ._token import Tokens


class PositionMiddleware:
    """Read the position that a client brings, and send one where a request has written.  Lives as long as the program.

    `Replicas.middleware` makes it. It holds back the headers until the application has returned, or has something to
    send.
    """

    def __init__(self, app: WSGIApplication, key: str, tokens: Tokens, cookie: str, header: str | None) -> None:
        """Wrap *app*.

        Args:
            app: A `SessionMiddleware`, or what leads to one.
            key: Where the visit of the request is in the environ.
            tokens: Makes and reads the tokens.
            cookie: The name of the cookie.
            header: The name of a header, in both directions, for clients without cookies.
        """
        self.app: WSGIApplication = checked_application(app, "Replicas.middleware() wraps a WSGI application")
        self._cookie = cookie
        self._header = header
        self._key = key
        self._tokens = tokens
        self._variable = None if header is None else f"HTTP_{header.upper().replace('-', '_')}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        visit = environ[self._key] = Visit(method_and_path(environ), self._brought(environ))
        start = held(partial(self._start, visit, environ, start_response))
        body = self.app(environ, start.hold)
        start.let_go(body)
        return body

    def _start(
        self,
        visit: Visit,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        status: str,
        headers: list[tuple[str, str]],
        *exc_info: Any,
    ) -> Any:
        visit.has_begun = True
        if visit.took:
            token = self._tokens.token_of(visit.position)
            secure = "; Secure" if environ["wsgi.url_scheme"] == "https" else ""
            kept = f"{self._cookie}={token}; Path=/; Max-Age={self._tokens.max_age}; HttpOnly; SameSite=Lax{secure}"
            headers = [*headers, ("Set-Cookie", kept)]
            if self._header is not None:
                headers.append((self._header, token))
        return start_response(status, headers, *exc_info)

    def _brought(self, environ: WSGIEnvironment) -> Position:
        """Read the furthest position in the header and the cookies; what is forged or too old is none."""
        shown = [environ[self._variable]] if self._variable in environ else []
        shown += _cookies(environ.get("HTTP_COOKIE", ""), self._cookie)
        return reduce(furthest, filter(None, map(self._tokens.position_in, shown)), NOWHERE)


def _cookies(header: str, name: str) -> list[str]:
    """Return the values of the cookies of that *name*.

    `http.cookies` reads none of a header in which there is one that it does not understand, as others' often are.
    """
    pairs = (pair.partition("=") for pair in header.split(";"))
    return [value.strip() for found, _, value in pairs if found.strip() == name]
