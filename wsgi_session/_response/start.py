"""The ``start_response`` that an application is given: one that is noted, or one that is held back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .. import _wsgi
from .._log import log

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    Write = Callable[[bytes], object]


UNCALLED: Any = object()
"""In place of a status that the application has not given yet; it may give anything, also None."""


class Start(Protocol):
    """What an application has called its ``start_response`` with, so far."""

    headers: _wsgi.Headers
    status: Any
    """`UNCALLED`, and there are no headers, until it is called."""

    @property
    def written(self) -> int:
        """How many bytes of the body have been written, as far as that is known."""
        ...

    def let_go(self, body: object = None, /) -> None:
        """Have the outcome settled by it, once, before the headers go if they are held.

        Args:
            body: What is thrown away if that fails, and so is closed (PEP 3333).

        Raises:
            Exception: What the rule or COMMIT raised; nothing has been sent then.
        """


class Settling(Protocol):
    """A scope whose outcome is settled by what its application has called ``start_response`` with."""

    def settle(self, start: Start) -> None:
        """Decide the outcome, and carry it out."""

    def fail(self, error: BaseException | None, /) -> None:
        """Note that the response has failed, and with what."""


class NotedStart:
    """A ``start_response`` whose call is passed through, and noted.  Lives while the application refers to it.

    The application is given its `note`. `SessionMiddleware` makes one by plain stores.
    """

    __slots__ = ("headers", "scope", "start_response", "status")

    headers: _wsgi.Headers
    status: Any

    scope: Settling

    start_response: StartResponse
    """The server's."""

    written = 0
    """What goes to the server's own ``write()`` is not known."""

    def note(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None = None) -> Write:
        """Take what the application wants to be sent, and pass it on: its ``start_response`` (PEP 3333)."""
        self.status = status
        self.headers = headers
        if exc_info is None:
            return self.start_response(status, headers)
        _fail(self.scope, exc_info)
        return self.start_response(status, headers, exc_info)

    def let_go(self, _body: object = None, /) -> None:
        """Have the outcome settled; once, by who knows that it has been called."""
        self.scope.settle(self)


class HeldStart:
    """A ``start_response`` whose call is held back until it is let go.  Lives while the application refers to it.

    The application is given its `hold`; what that returns, the ``write()`` of PEP 3333, is the object itself. `held`
    makes one, and so does `SessionMiddleware`, by the same stores.
    """

    __slots__ = (
        "exc_info",
        "headers",
        "is_held",
        "scope",
        "server_write",
        "start_response",
        "status",
        "written",
    )

    exc_info: ExcInfo | None
    headers: _wsgi.Headers
    status: Any
    """What the application has called `hold` with, the last time; before, `UNCALLED`, and the others are not set."""

    is_held: bool
    """Whether it has not been let go yet."""

    scope: Settling | None
    """What to settle before the headers go, if anything."""

    server_write: Write | None
    """What the server has returned for *start_response*."""

    start_response: StartResponse
    """The server's."""

    written: int
    """How many bytes of the body have been written."""

    def hold(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None = None) -> Write:
        """Take what the application wants to be sent: its ``start_response`` (PEP 3333)."""
        if not self.is_held:
            return self._come_late(status, headers, exc_info)
        if self.status is not UNCALLED and exc_info is None:
            raise AssertionError("start_response() was called a second time, without exc_info (PEP 3333).")
        self.status = status
        self.headers = headers
        self.exc_info = exc_info
        if exc_info and self.scope is not None:
            _fail(self.scope, exc_info)
        return self

    @property
    def error(self) -> BaseException | None:
        """The error that the application has called it with, while it is held."""
        return self.exc_info[1] if self.status is not UNCALLED and self.exc_info else None

    def __call__(self, data: bytes) -> None:
        """Send *data* after settling: its ``write()``.  Nothing is sent before data that is not empty (PEP 3333)."""
        if not data and self.is_held:
            return
        self.let_go()
        if self.server_write is None:
            raise TypeError("This server's start_response() has not returned a write() callable.")
        self.server_write(data)
        self.written += len(data)

    def let_go(self, body: object = None, /) -> None:
        """Settle the outcome, and let the headers go, if they are still held.

        Args:
            body: What is thrown away if that fails, and so is closed (PEP 3333).

        Raises:
            Exception: What the rule or COMMIT raised; nothing has been sent then.
        """
        if not self.is_held:
            return
        self.is_held = False
        try:
            if self.scope is not None:
                self.scope.settle(self)
            status = self.status
            if status is not UNCALLED:
                start_response, exc_info = self.start_response, self.exc_info
                if exc_info is None:
                    self.server_write = start_response(status, self.headers)
                else:
                    self.server_write = start_response(status, self.headers, exc_info)
        except BaseException:
            _wsgi.close_quietly(body)
            raise
        finally:
            self.exc_info = None  # a traceback keeps frames alive

    def _come_late(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None) -> Write:
        start_response = self.start_response
        if exc_info is None:
            return start_response(status, headers)
        if self.scope is not None and _fail(self.scope, exc_info):
            log.warning("%r: start_response(%r, exc_info) comes too late to undo anything.", self.scope, status)
        return start_response(status, headers, exc_info)


def held(start_response: StartResponse) -> HeldStart:
    """Hold back the call of *start_response*, which is the server's, with nothing to settle before it goes."""
    start = HeldStart()  # in step with `SessionMiddleware.__call__`
    start.is_held = True
    start.scope = start.server_write = None
    start.start_response = start_response
    start.status = UNCALLED
    start.written = 0
    return start


def _fail(scope: Settling, exc_info: ExcInfo) -> bool:
    """Have *scope* fail if an application has shown an error, and say whether it has.

    It may give anything that is false, and what `sys.exc_info()` returns where nothing has failed.
    """
    if not exc_info or exc_info[0] is None:
        return False
    scope.fail(exc_info[1])
    return True
