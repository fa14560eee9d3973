"""The response: the iterable that a server gets in place of the application's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import TYPE_CHECKING, TypeVar

from . import current
from ._lifetime import Lifetime
from ._transaction import log

if TYPE_CHECKING:
    from ._start import HeldStart

T = TypeVar("T")


class Response:
    """An application's iterable whose every step is taken in its scope.  Lives as long as the server holds it.

    Whoever takes the one token out of ``_idle`` may step or end the scope: a step puts it back, an end does not. So a
    ``close()`` from another thread, in the middle of a step, leaves the end to that step, and there is only one end.
    """

    __slots__ = ("__weakref__", "_body", "_closing", "_idle", "_inside", "_iterator", "_scope")

    def __init__(self, body: Iterable[bytes], scope: Lifetime, inside: Lifetime | None) -> None:
        """Take over *body*.

        Args:
            body: What the application returned.
            scope: The scope of the request.
            inside: What was the current scope when the application returned.
        """
        self._body = body
        self._closing = False
        self._idle = [True]
        self._inside = inside
        self._iterator: Iterator[bytes] | None = body if isinstance(body, GeneratorType) else None
        self._scope = scope

    def __iter__(self) -> Iterator[bytes]:
        """Return this very object, after the application's ``iter()``; a server may ask more than once."""
        if self._iterator is None:
            self._step(self._begin)
        return self

    def __next__(self) -> bytes:
        """Return the application's next chunk."""
        return self._step(self._chunk)

    def close(self) -> None:
        """Call the application's ``close()`` and end the scope, if nobody has yet."""
        self._closing = True
        if self._takes_token():
            self._end()

    def __del__(self) -> None:
        """End the scope of a response that the server has dropped.

        This may be any thread, in the middle of any other request, so no code of the application's is run but a
        generator's clean-up, and the environ is not touched.
        """
        if not self._takes_token():
            return
        held_connection = self._scope.holds_connection()
        previous = current.swap(self._inside)
        try:
            self._drop_body()
        finally:
            current.swap(previous)
            current.end(self._scope)
        if held_connection:
            warnings.warn(f"The response of {self._scope!r} was never closed.", ResourceWarning, stacklevel=2)

    def _step(self, step: Callable[[], T]) -> T:
        has_token = self._takes_token()
        previous = current.enter(self._scope, self._inside)
        try:
            return step()
        except StopIteration:
            raise
        except BaseException as error:
            self._scope.roll_back(error)
            raise
        finally:
            self._inside = current.leave(self._scope, previous)
            if has_token:
                self._idle.append(True)
                if self._closing and self._takes_token():
                    self._end_for_another()

    def _begin(self) -> None:
        self._iterator = iter(self._body)

    def _chunk(self) -> bytes:
        if self._iterator is None:
            self._begin()
        assert self._iterator is not None
        return next(self._iterator)

    def _end(self) -> None:
        previous = current.enter(self._scope, self._inside)
        try:
            try:
                if close := getattr(self._body, "close", None):
                    close()
            finally:
                self._drop_body()
        except BaseException as error:
            current.end(self._scope, error)
            raise
        else:
            current.end(self._scope)
        finally:
            current.leave(self._scope, previous)

    def _end_for_another(self) -> None:
        """End after a ``close()`` that came from elsewhere and has returned, so that nobody waits for an error."""
        try:
            self._end()
        except Exception:
            log.exception("The application's close() failed, in %r.", self._scope)

    def _takes_token(self) -> bool:
        try:
            return self._idle.pop()
        except IndexError:
            return False

    def _drop_body(self) -> None:
        """Let go of the body while its scope is current, for its clean-up to find its session."""
        iterator = self._iterator
        self._body, self._iterator = (), iter(())
        if isinstance(iterator, GeneratorType):
            iterator.close()


class SettledResponse(Response):
    """A response under a commit rule: the outcome is settled before its first byte.  Lives as long as a `Response`."""

    __slots__ = ("_missing", "_start")

    def __init__(self, body: Iterable[bytes], scope: Lifetime, inside: Lifetime | None, start: HeldStart) -> None:
        """Take over *body*, whose outcome is settled now or with its first chunk."""
        super().__init__(body, scope, inside)
        self._start: HeldStart | None = start
        self._missing: int | None = None
        if start.is_settled:
            self._count_from(start)

    def _chunk(self) -> bytes:
        chunk = self._settled_chunk() if self._start is not None else super()._chunk()
        if self._missing is not None:
            self._count(len(chunk))
        return chunk

    def _settled_chunk(self) -> bytes:
        """Return the first chunk that may go on to the server.

        An empty one does, too, as long as the application has not called ``start_response``. Afterwards it waits for
        the first that is not empty: a server takes no chunk before its ``start_response`` was called.
        """
        assert self._start is not None
        while True:
            try:
                chunk = super()._chunk()
            except StopIteration:
                self._settle()
                raise
            if chunk and self._start.is_called:
                self._settle()
                return chunk
            if not self._start.is_called:
                return chunk

    def _settle(self) -> None:
        assert self._start is not None
        if not self._start.is_settled:
            self._start.settle()
        self._count_from(self._start)

    def _count_from(self, start: HeldStart) -> None:
        """Forget ``start_response``, for a server's bound method would close a cycle through this object."""
        self._start = None
        self._missing = start.missing
        if self._missing is not None:
            self._count(0)

    def _count(self, length: int) -> None:
        assert self._missing is not None
        self._missing -= length
        if self._missing <= 0:
            self._missing = None
            self._scope.finish_transactions()
