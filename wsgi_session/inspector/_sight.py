"""The sight: what a response of the application shows of its request to who may see the inspector.

A header leads to the page of the request, and a badge on a page of HTML shows what it did: an `iframe` of the
inspector's, so that neither styles nor scripts of the two get into each other's way. Nothing is inline, and nothing of
the request is in it but its number. It is at the very end, which every browser takes for a part of the body, so that a
body is neither kept back nor searched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _wsgi
from ..observe._recorder import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from ..observe import Recorder

HEADER = "Wsgi-Session-Request"
"""The header that has the address of the page of a request."""

_HIDING = ("content-encoding", "content-range", "content-digest", "content-md5", "digest")
"""The headers of a response to which nothing can be added, so that it would still be right."""

_WITHOUT_BODY = ("204", "205", "206", "304")


class Shown(NamedTuple):
    """What is shown."""

    header: bool
    badge: bool


class Sight:
    """Shows one request on its response.  Lives as long as the response."""

    def __init__(self, recorder: Recorder, shown: Shown, base: str, environ: WSGIEnvironment) -> None:
        """Have *recorder* say which request it is.

        Args:
            recorder: The inspector's.
            shown: What is shown.
            base: The path of the inspector, quoted.
            environ: Of the request.
        """
        self._base = base
        self._recorder = recorder
        self._told: list[tuple[Recorder, int]] = environ.setdefault(NUMBERS, [])
        self._shown = shown
        self._takes_badge = shown.badge and _is_opened_as_page(environ)
        self.is_head = environ["REQUEST_METHOD"] == "HEAD"
        self.is_started = False
        self.snippet = b""

    def answer(self, application: WSGIApplication, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Call *application*, and show its request on what it answers."""
        body = application(environ, self._starting(start))
        if self.is_head or (self.is_started and not self.snippet) or not self._takes_badge:
            return body
        if type(body) is list or type(body) is tuple:
            return [*body, self.snippet] if self.is_started else body
        return Badged(body, self)

    def _number(self) -> int | None:
        """Return the number of the request, the last attempt at it; None if it is not recorded."""
        numbers = [number for recorder, number in self._told if recorder is self._recorder]
        return numbers[-1] if numbers else None

    def _starting(self, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: _wsgi.Headers, *exc_info: Any) -> Callable[[bytes], object]:
            self.is_started, self.snippet = True, b""
            number = self._number()
            if number is not None:
                if self._takes_badge and _takes_more(status, headers):
                    self.snippet = _snippet(self._base, number)
                    headers = _longer(headers, len(self.snippet))
                if self._shown.header:
                    headers = [*headers, (HEADER, f"{self._base}/requests/{number}")]
            return start_response(status, headers, *exc_info)

        return start


class Badged:
    """A body with a badge at its end.  Lives as long as the server holds it."""

    def __init__(self, body: Iterable[bytes], sight: Sight) -> None:
        """Iterate over *body*, and then over what *sight* has to add by then."""
        self._body = body
        self._chunks: Iterator[bytes] | None = None
        self._sight = sight

    def __iter__(self) -> Badged:
        """Return itself."""
        return self

    def __next__(self) -> bytes:
        """Return the next chunk; the last is the badge."""
        if self._chunks is None:
            self._chunks = iter(self._body)
        for chunk in self._chunks:
            return chunk
        if self._sight.snippet:
            snippet, self._sight.snippet = self._sight.snippet, b""
            return snippet
        raise StopIteration

    def close(self) -> None:
        """Close the body."""
        _wsgi.close(self._body)


def _is_opened_as_page(environ: WSGIEnvironment) -> bool:
    """Say whether a browser opens the response as a page, and does not put it into one, as scripts do with parts."""
    return environ["REQUEST_METHOD"] in ("GET", "HEAD", "POST") and environ.get("HTTP_SEC_FETCH_DEST") == "document"


def _takes_more(status: str, headers: _wsgi.Headers) -> bool:
    """Say whether a response is a page to whose end something can be added."""
    found = [(name.lower(), value) for name, value in headers]
    kinds = [value.lower() for name, value in found if name == "content-type"]
    lengths = [value for name, value in found if name == "content-length"]
    return (
        status[:1] in ("2", "4", "5")
        and status[:3] not in _WITHOUT_BODY
        and len(kinds) == 1
        and kinds[0].partition(";")[0].strip() == "text/html"
        and "utf-16" not in kinds[0]
        and "utf-32" not in kinds[0]
        and not any(name in _HIDING for name, _ in found)
        and not any(name == "content-disposition" and value.lower().startswith("attachment") for name, value in found)
        and (not lengths or (len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit()))
    )


def _longer(headers: _wsgi.Headers, more: int) -> _wsgi.Headers:
    """Return *headers* with a ``Content-Length`` of so many bytes *more*, if they have one."""
    return [(name, str(int(value) + more) if name.lower() == "content-length" else value) for name, value in headers]


def _snippet(base: str, number: int) -> bytes:
    return (
        f'<link rel="stylesheet" href="{base}/badge.css"><aside aria-label="Inspector">'
        f'<iframe class="wsgi-session-badge" src="{base}/badge/{number}" width="448" height="48"'
        ' title="What this request did to the database"></iframe></aside>'
    ).encode()
