"""The response: the iterable that a server gets in place of the application's."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import TYPE_CHECKING

from . import _wsgi
from ._lifetime import innermost
from ._log import log

if TYPE_CHECKING:
    from ._lifetime import Lifetime


class Response:
    """An application's iterable whose every step is taken in its scope.  Lives as long as the server holds it.

    What was the current scope when a step ended, which may be that of a block in it, is the current one in the next; it
    lies in ``_resting`` between them. Whoever takes it out may step or end the scope: a step puts it back, an end does
    not. So a ``close()`` from another thread, in the middle of a step, leaves the end to that step, and there is only
    one end.
    """

    __slots__ = ("__weakref__", "_body", "_chunks", "_closing", "_iterator", "_resting", "_scope")

    def __init__(self, body: Iterable[bytes], scope: Lifetime, chunks: Iterable[bytes]) -> None:
        """Take over *body*, at the end of the step in which the application has returned it.

        Args:
            body: What the application returned, to be closed.
            scope: The scope of the request.
            chunks: What to iterate.
        """
        self._body = body
        self._chunks = chunks
        self._closing = False
        self._iterator: Iterator[bytes] | None = None
        self._resting = [innermost.get()]
        self._scope = scope

    def __iter__(self) -> Iterator[bytes]:
        """Return this very object; a server may ask more than once."""
        return self

    def __next__(self) -> bytes:
        """Return the application's next chunk."""
        scope = self._scope
        try:
            token = innermost.set(self._resting.pop())
        except IndexError:
            raise self._not_now() from None
        try:
            if scope.shadowed is not None:
                scope.show()
            if self._iterator is None:
                self._iterator = iter(self._chunks)
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException as error:
            scope.roll_back(error)
            raise
        finally:
            self._resting.append(innermost.get())
            innermost.reset(token)
            if scope.shadowed is not None:
                scope.hide()
            if self._closing:
                self._end_for_another()

    def close(self) -> None:
        """Call the application's ``close()`` and end the scope, if nobody has yet."""
        self._closing = True
        self._end()

    def __del__(self) -> None:
        """End the scope of a response that the server has dropped.

        This may be any thread, in the middle of any other request, so no code of the application's is run but a
        generator's clean-up, and the environ is not touched.
        """
        if not self._resting:
            return
        held_connection = self._scope.holds_connection()
        token = innermost.set(self._resting.pop())
        try:
            self._drop_body()
        finally:
            innermost.reset(token)
            self._scope.drop()
        if held_connection:
            warnings.warn(f"The response of {self._scope!r} was never closed.", ResourceWarning, stacklevel=2)

    def _end(self) -> None:
        scope = self._scope
        try:
            token = innermost.set(self._resting.pop())
        except IndexError:  # somebody else ends it, or has
            return
        if scope.shadowed is not None:
            scope.show()
        try:
            try:
                _wsgi.close(self._body)
            finally:
                self._drop_body()
        except BaseException as error:
            scope.end(error)
            raise
        else:
            scope.end()
        finally:
            innermost.reset(token)
            if scope.shadowed is not None:
                scope.hide()

    def _end_for_another(self) -> None:
        """End after a ``close()`` that came from elsewhere and has returned, so that nobody waits for an error."""
        try:
            self._end()
        except Exception:
            log.exception("The application's close() failed, in %r.", self._scope)

    def _not_now(self) -> Exception:
        if self._closing or self._scope.is_ended:
            return StopIteration()
        return ValueError(f"{self._scope!r}: a step of this response is under way already, in another thread.")

    def _drop_body(self) -> None:
        """Let go of the body while its scope is current, for its clean-up to find its session."""
        iterator, self._iterator = self._iterator, None
        self._body = self._chunks = ()
        if isinstance(iterator, GeneratorType):
            iterator.close()
