"""The client: what makes requests in this process, as a server would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

from .work import ANSWER, CHUNKS

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

EXPECTED = {"untouched": ANSWER, "stream": ANSWER * CHUNKS, "select": ANSWER, "rows": ANSWER, "insert": ANSWER}


class Client:
    """Asks one view of one application, again and again."""

    def __init__(self, app: WSGIApplication, view: str) -> None:
        """Ask once, and look at the answer.

        Raises:
            RuntimeError: If it is another one than the view's.
        """
        self._app = app
        self._environ: WSGIEnvironment = {
            "REQUEST_METHOD": "POST" if view == "insert" else "GET",
            "PATH_INFO": f"/{view}",
            "QUERY_STRING": "",
        }
        setup_testing_defaults(self._environ)
        self._check(EXPECTED[view])

    def ask(self, times: int) -> None:
        """Make *times* requests, one after the other."""
        for _ in range(times):
            body = self._app(dict(self._environ), _start_response)
            for _chunk in body:
                pass
            _close(body)

    def opened(self) -> Response:
        """Make a request, and take the first chunk only."""
        return Response(self._app(dict(self._environ), _start_response))

    def _check(self, expected: bytes) -> None:
        statuses: list[str] = []

        def start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
            statuses.append(status)
            return _write

        body = self._app(dict(self._environ), start_response)
        answer = b"".join(body)
        _close(body)
        if (statuses, answer) != (["200 OK"], expected):
            raise RuntimeError(f"{self._environ['PATH_INFO']} answers {statuses} {answer!r}, not {expected!r}.")


class Response:
    """A response that is being read."""

    __slots__ = ("_body", "_chunks")

    def __init__(self, body: Iterable[bytes]) -> None:
        """Take the first chunk."""
        self._body = body
        self._chunks: Iterator[bytes] = iter(body)
        self.step()

    def step(self) -> None:
        """Take a chunk, if there is one."""
        next(self._chunks, None)

    def close(self) -> None:
        """Close it, wherever it is."""
        _close(self._body)


def _close(body: Any) -> None:
    if hasattr(body, "close"):
        body.close()


def _start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
    return _write


def _write(data: bytes) -> None:
    raise NotImplementedError("No view that is measured calls write().")
