"""A ``start_response`` that is held back until the outcome of the request has been carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _wsgi
from ._transaction import log
from .scope import State

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIEnvironment

    from ._lifetime import Lifetime
    from .commit import CommitRule

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class HeldStart:
    """A ``start_response`` whose call is held back until the outcome has been carried out.

    Lives as long as the application refers to it.
    """

    __slots__ = (
        "_call",
        "_environ",
        "_exc_info",
        "_rule",
        "_scope",
        "_start_response",
        "_write",
        "_written",
        "is_settled",
    )

    def __init__(
        self, scope: Lifetime, environ: WSGIEnvironment, rule: CommitRule, start_response: StartResponse
    ) -> None:
        """Hold back the call of *start_response*.

        Args:
            scope: What to settle.
            environ: For the rule.
            rule: Asked once.
            start_response: The server's.
        """
        self._call: tuple[str, _wsgi.Headers] | None = None
        self._exc_info: ExcInfo | None = None
        self._environ = environ
        self._rule = rule
        self._scope = scope
        self._start_response = start_response
        self._write: Callable[[bytes], object] | None = None
        self._written = 0
        self.is_settled = False

    def __call__(
        self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Take what the application wants to be sent (PEP 3333)."""
        if self.is_settled:
            if exc_info is not None:
                log.warning("%r: start_response(%r, exc_info) comes too late to undo anything.", self._scope, status)
            return self._send(status, headers, exc_info)
        if self._call is not None and exc_info is None:
            raise AssertionError("start_response() was called a second time, without exc_info (PEP 3333).")
        self._call = (status, headers)
        self._exc_info = exc_info
        return self.write

    @property
    def is_called(self) -> bool:
        """Whether the application has called ``start_response``."""
        return self._call is not None

    @property
    def missing(self) -> int | None:
        """The declared length of the body in bytes, less what was written, if it can be relied on."""
        declared = None if self._call is None else _wsgi.content_length(self._call[1])
        return None if declared is None else declared - self._written

    def write(self, data: bytes) -> None:
        """Send *data* after settling, as PEP 3333 has it for ``write()``."""
        if not self.is_settled:
            self.settle()
        if self._write is None:
            raise TypeError("This server's start_response() has not returned a write() callable.")
        self._write(data)
        self._written += len(data)

    def settle_or_close(self, body: object) -> None:
        """Settle, if `write` has not; a body that is thrown away, because that failed, is closed (PEP 3333)."""
        try:
            if not self.is_settled:
                self.settle()
        except BaseException:
            _close_quietly(body)
            raise

    def settle(self) -> None:
        """Decide the outcome, carry it out, and let the headers go.

        Raises:
            Exception: What the rule or COMMIT raised; nothing has been sent then.
        """
        self.is_settled = True
        self._carry_out()
        if self._call is not None:
            exc_info, self._exc_info = self._exc_info, None  # a traceback keeps frames alive
            self._write = self._send(*self._call, exc_info)

    def _carry_out(self) -> None:
        if self._call is None or self._exc_info is not None or self._scope.state is State.DOOMED:
            self._scope.roll_back()
            return
        status, headers = self._call
        try:
            code = _wsgi.status_code(status)
            to_commit = self._rule(self._environ, code, headers)
        except BaseException as error:
            self._scope.roll_back(error)
            raise
        if to_commit:
            self._scope.commit()
        elif code >= 400:
            self._scope.roll_back()
        else:
            self._scope.leave_uncommitted()

    def _send(self, status: str, headers: _wsgi.Headers, exc_info: ExcInfo | None) -> Callable[[bytes], object]:
        """Call the server's ``start_response`` as the application has called this one."""
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)


def _close_quietly(body: object) -> None:
    try:
        if close := getattr(body, "close", None):
            close()
    except Exception:  # the error that brought us here is the one to report
        log.warning("The close() of %r failed; ignored.", body, exc_info=True)
