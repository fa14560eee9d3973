"""The application: who may see the pages, and which one they get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote

from .._log import log
from ..observe import Recorder, is_local
from ..observe._visitors import is_from_same_origin
from ..scope import checked_hook
from ._pages import POLICY, rendered
from ._plain import plain
from ._views import view_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment


class Answer(NamedTuple):
    """What is sent."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Inspector:
    """Shows what a recorder has seen: a WSGI application.  Lives as long as the recorder.

    Nothing mounts it but you. Mount it outside of the `SessionMiddleware`, or its own requests are among those it
    shows. It runs no script, loads nothing from elsewhere, asks no database, and shows no values, for the recorder
    keeps none.

    It answers GET, and POST at ``/clear``, from a page of its own alone; ``?format=json`` has each page as JSON.
    """

    def __init__(self, recorder: Recorder, *, allow: Callable[[WSGIEnvironment], bool] = is_local) -> None:
        """Show what *recorder* has seen.

        Args:
            recorder: Of the middleware.
            allow: Who may see it, by the environ; everybody else gets a 404, as if it were not there.

        Raises:
            TypeError: If an argument is of another kind.
        """
        if not isinstance(recorder, Recorder):
            raise TypeError(f"Inspector takes a wsgi_session.observe.Recorder, not {recorder!r}.")
        self._allow = checked_hook(allow, "allow, a function of the environ such as is_local,")
        self._has_warned = False
        self._recorder = recorder

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        answer = _NOT_FOUND
        if self._allow(environ):
            self._warn_of_strangers(environ)
            answer = self._answer(environ)
        length = ("Content-Length", str(len(answer.body)))
        start_response(answer.status, [*answer.headers, length])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path, query = environ.get("PATH_INFO", ""), dict(parse_qsl(environ.get("QUERY_STRING", "")))
        if path == "/clear":
            return self._clear(environ)
        view = view_of(path, query, self._recorder)
        if view is None:
            return _NOT_FOUND
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _told("405 Method Not Allowed", ("Allow", "GET, HEAD"))
        if query.get("format") == "json":
            return _shown("application/json", json.dumps(plain(view.values), indent=1))
        is_one_of_many = bool(environ.get("wsgi.multiprocess"))
        return _shown("text/html", rendered(view, _base(environ), path, is_one_of_many=is_one_of_many))

    def _warn_of_strangers(self, environ: WSGIEnvironment) -> None:
        """Say once in the log that there are visitors from elsewhere, for that may be a mistake."""
        if not self._has_warned and not is_local(environ):
            self._has_warned = True
            who, host = environ.get("REMOTE_ADDR"), environ.get("HTTP_HOST")
            log.warning("An inspector answers %r at %r, who is not at this computer: its 'allow' says so.", who, host)

    def _clear(self, environ: WSGIEnvironment) -> Answer:
        """Forget what is over, and show the list that has nothing in it."""
        if environ["REQUEST_METHOD"] != "POST":
            return _told("405 Method Not Allowed", ("Allow", "POST"))
        if not is_from_same_origin(environ):
            return _told("403 Forbidden")
        self._recorder.clear()
        return _told("303 See Other", ("Location", _base(environ) + "/"))


def _shown(kind: str, text: str) -> Answer:
    return Answer("200 OK", [("Content-Type", f"{kind}; charset=utf-8"), *_HEADERS], text.encode())


def _told(status: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, [("Content-Type", "text/plain; charset=utf-8"), *headers, *_HEADERS], status.encode())


def _base(environ: WSGIEnvironment) -> str:
    """Return the path that the inspector is mounted at; never one that begins with ``//``, which names a host."""
    mounted = environ.get("SCRIPT_NAME", "").strip("/")
    return "/" + quote(mounted.encode("latin-1")) if mounted else ""


_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
)
_NOT_FOUND = Answer("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")], b"Not Found")
