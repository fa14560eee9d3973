"""A ``start_response`` that is held back, until the outcome has been carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _wsgi
from ._log import log

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse

    from ._request import Request
    from .commit import CommitRule

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class HeldStart:
    """A ``start_response`` whose call is held back until it is let go.  Lives while the application refers to it."""

    __slots__ = ("_exc_info", "_start_response", "_write", "_written", "call", "is_held")

    call: tuple[str, _wsgi.Headers] | None
    """What the application has called it with, the last time."""

    is_held: bool
    """Whether it has not been let go yet."""

    def __init__(self, start_response: StartResponse) -> None:
        """Hold back the call of *start_response*, which is the server's."""
        self.call = None
        self.is_held = True
        self._exc_info: ExcInfo | None = None
        self._start_response = start_response
        self._write: Callable[[bytes], object] | None = None
        self._written = 0

    def __call__(
        self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Take what the application wants to be sent (PEP 3333)."""
        if not self.is_held:
            return self._come_late(status, headers, exc_info)
        if self.call is not None and exc_info is None:
            raise AssertionError("start_response() was called a second time, without exc_info (PEP 3333).")
        self.call = (status, headers)
        self._exc_info = exc_info
        return self.write

    @property
    def missing(self) -> int | None:
        """The declared length of the body in bytes, less what was written, if it can be relied on."""
        declared = None if self.call is None else _wsgi.content_length(self.call[1])
        return None if declared is None else declared - self._written

    def write(self, data: bytes) -> None:
        """Send *data* after settling, as PEP 3333 has it for ``write()``."""
        self.let_go()
        if self._write is None:
            raise TypeError("This server's start_response() has not returned a write() callable.")
        self._write(data)
        self._written += len(data)

    def let_go(self, body: object = None) -> None:
        """Let the headers go, if they are still held.

        Args:
            body: What is thrown away if that fails, and so is closed (PEP 3333).
        """
        if not self.is_held:
            return
        self.is_held = False
        call, exc_info = self.call, self._exc_info
        self._exc_info = None  # a traceback keeps frames alive
        try:
            self._carry_out(call, exc_info is not None)
            if call is not None:
                start_response = self._start_response
                self._write = start_response(*call) if exc_info is None else start_response(*call, exc_info)
        except BaseException:
            _wsgi.close_quietly(body)
            raise

    def _carry_out(self, call: tuple[str, _wsgi.Headers] | None, has_failed: bool) -> None:
        """Do what has to be done before the headers go."""

    def _come_late(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None) -> Callable[[bytes], object]:
        start_response = self._start_response
        return start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)


class SettlingStart(HeldStart):
    """A ``start_response`` that is held back until the outcome is carried out.  Lives as long as a `HeldStart`."""

    __slots__ = ("rule", "scope")

    rule: CommitRule
    """Asked once."""

    scope: Request
    """What to settle."""

    def _carry_out(self, call: tuple[str, _wsgi.Headers] | None, has_failed: bool) -> None:
        """Decide the outcome, and commit or roll back.

        Raises:
            Exception: What the rule or COMMIT raised; nothing has been sent then.
        """
        if call is None or has_failed:
            self.scope.roll_back()
        else:
            status, headers = call
            self.scope.settle(self.rule, status, headers)

    def _come_late(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None) -> Callable[[bytes], object]:
        if exc_info is not None:
            log.warning("%r: start_response(%r, exc_info) comes too late to undo anything.", self.scope, status)
        return super()._come_late(status, headers, exc_info)
