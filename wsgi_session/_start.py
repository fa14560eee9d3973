"""A ``start_response`` that is held back, until the outcome has been carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _wsgi
from ._log import log

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse

    from ._lifetime import Lifetime
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

    def let_go_or_close(self, body: object) -> None:
        """Settle, if `write` has not; a body that is thrown away, because that failed, is closed (PEP 3333)."""
        try:
            self.let_go()
        except BaseException:
            _wsgi.close_quietly(body)
            raise

    def let_go(self) -> None:
        """Let the headers go, if they are still held."""
        if not self.is_held:
            return
        self.is_held = False
        call, exc_info = self.call, self._exc_info
        self._exc_info = None  # a traceback keeps frames alive
        self._carry_out(call, has_failed=exc_info is not None)
        if call is None:
            return
        self._write = self._start_response(*call) if exc_info is None else self._start_response(*call, exc_info)

    def _carry_out(self, call: tuple[str, _wsgi.Headers] | None, *, has_failed: bool) -> None:
        """Do what has to be done before the headers go."""

    def _come_late(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None) -> Callable[[bytes], object]:
        return (
            self._start_response(status, headers)
            if exc_info is None
            else self._start_response(status, headers, exc_info)
        )


class SettlingStart(HeldStart):
    """A ``start_response`` that is held back until the outcome is carried out.  Lives as long as a `HeldStart`."""

    __slots__ = ("_rule", "_scope")

    def __init__(self, scope: Lifetime, rule: CommitRule, start_response: StartResponse) -> None:
        """Hold back the call of *start_response*.

        Args:
            scope: What to settle.
            rule: Asked once.
            start_response: The server's.
        """
        super().__init__(start_response)
        self._rule = rule
        self._scope = scope

    def _carry_out(self, call: tuple[str, _wsgi.Headers] | None, *, has_failed: bool) -> None:
        """Decide the outcome, and commit or roll back.

        Raises:
            Exception: What the rule or COMMIT raised; nothing has been sent then.
        """
        if call is None or has_failed:
            self._scope.roll_back()
        else:
            self._scope.settle(self._rule, *call)

    def _come_late(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None) -> Callable[[bytes], object]:
        if exc_info is not None:
            log.warning("%r: start_response(%r, exc_info) comes too late to undo anything.", self._scope, status)
        return super()._come_late(status, headers, exc_info)
