"""The steps of a response: each chunk is taken in the scope of its request, and so is the ``close()`` of the body."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from .. import _wsgi
from .._log import log
from .._scope.end import end
from .._scope.life import UNTOUCHED
from .._scope.look import enter, leave, look
from .._scope.outcome import roll_back
from .request import NOTHING

if TYPE_CHECKING:
    from contextvars import Token

    from .._scope.base import BaseScope
    from .request import RequestScope


on_exhausted: list[Callable[[RequestScope], object]] = []
"""Are called with the scope of a response whose last chunk was taken, in the step that has found no more."""


def steps(scope: RequestScope, is_generator: bool) -> Generator[bytes]:
    """Yield the chunks, each taken with *scope*, or what it was in the step before, as the current one.

    Args:
        scope: Of the request.
        is_generator: Whether the body is one: it is its own iterator, and at its end there is nothing to close.
    """
    token: Token[BaseScope | None] | None = enter(scope.current)
    try:
        chunks: Any = scope.chunks
        if not is_generator:
            scope.chunks = iterator = iter(chunks)
            # A loop over the iterator would ask it for its iterator. No chunk is the scope, so nothing else ends this.
            chunks = iter(iterator.__next__, scope)
        for chunk in chunks:
            if scope.missing is not None:
                scope.missing -= len(chunk)
                if scope.missing <= 0 and scope.life is not UNTOUCHED:
                    scope.finish()
            scope.current = look()
            token = leave(token)  # type: ignore[arg-type]  # None, in the same step, for an interrupt may come
            scope.is_handing_over = True
            if scope.is_closing:
                _close_for_another(scope)
                yield chunk
                return
            yield chunk
            scope.is_handing_over = False
            token = enter(scope.current)
        for tell in on_exhausted:
            tell(scope)
        if is_generator:
            scope.body = scope.chunks = None
    except BaseException as error:
        if token is not None:
            roll_back(scope, error)
        raise
    finally:
        _leave(scope, token)


def shown_steps(scope: RequestScope, is_generator: bool) -> Generator[bytes]:
    """Yield as `steps` does, with the session in the environ during each step."""
    chunks = steps(scope, is_generator)
    while True:
        scope.show()
        try:
            chunk = next(chunks)
        except StopIteration:
            return
        finally:
            scope.hide()
        if scope.is_closing:  # asked for since the last look of the step, which could not see these steps under way
            _close_for_another(scope)
            yield chunk
            return
        yield chunk


def close(scope: RequestScope, *, is_dropped: bool = False) -> bool:
    """Call the ``close()`` of what the application returned, and end *scope*; only once.

    Args:
        scope: Of the request.
        is_dropped: Whether this is the server's collection of the response, in any thread, in the middle of any other
            request: no code of the application's is run but a generator's clean-up, and the environ is not touched.

    Returns:
        Whether it has ended now.
    """
    try:
        current = scope.current
        del scope.current
    except AttributeError:  # somebody else ends it, or has
        return False
    is_shadowing = not is_dropped and scope.shadowed is not NOTHING
    if scope.body is None and not is_shadowing:
        end(scope)
        return True
    token = enter(current)
    try:
        if is_shadowing:
            scope.show()
        try:
            if not is_dropped or isinstance(scope.body, GeneratorType):
                _wsgi.close(scope.body)
        finally:
            _drop_body(scope)
    except BaseException as error:
        end(scope, error)
        raise
    else:
        end(scope)
    finally:
        leave(token)
        if is_shadowing:
            scope.hide()
    return True


def drop(scope: RequestScope) -> None:
    """End *scope* without that ``close()``, for the server has dropped the response."""
    held_connection = scope.holds_connection()
    if close(scope, is_dropped=True) and held_connection:
        warnings.warn(f"The response of {scope!r} was never closed.", ResourceWarning, stacklevel=2)


def _leave(scope: RequestScope, token: Token[BaseScope | None] | None) -> None:
    """Leave the last step, if it is not over, and close if that was asked for meanwhile."""
    if token is None:
        return
    current = look()
    try:
        leave(token)
    except RuntimeError:  # an interrupt has struck when that had just been done
        pass
    else:
        scope.current = current
    scope.is_handing_over = True
    if scope.is_closing:
        _close_for_another(scope)


def _close_for_another(scope: RequestScope) -> None:
    """Close after a ``close()`` that came from elsewhere and has returned, so that nobody waits for an error."""
    try:
        close(scope)
    except Exception:
        log.exception("The application's close() failed, in %r.", scope)


def _drop_body(scope: RequestScope) -> None:
    """Let go of the body while its scope is current, for its clean-up to find its session."""
    chunks = scope.chunks
    scope.body = scope.chunks = None
    if isinstance(chunks, GeneratorType):
        chunks.close()
