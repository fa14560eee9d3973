"""The response: the iterable that a server gets in place of the application's."""

from __future__ import annotations

import time
import weakref
from types import GeneratorType
from typing import TYPE_CHECKING

from .. import _holders
from .._scope.end import end
from .._scope.life import OVER
from .._scope.look import look
from .chunks import unsettled_chunks
from .request import NOTHING
from .start import UNCALLED
from .steps import close, drop, shown_steps, steps

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from .request import RequestScope
    from .start import Start


class Response:
    """An application's iterable whose every step is taken in its scope.  Lives as long as the server holds it.

    The steps are those of a generator. Python lets nobody into it while a step is under way, who comes from another
    thread or from the step itself; so a ``close()`` in the middle of a step leaves a mark, and the end to that step.
    """

    __slots__ = ("scope", "steps")

    scope: RequestScope
    """The scope of the request."""

    steps: Generator[bytes]
    """Its steps. They hold the scope and not this response, for that would be a cycle."""

    def __iter__(self) -> Iterator[bytes]:
        """Return this very object; a server may ask more than once."""
        return self

    def __next__(self) -> bytes:
        """Return the application's next chunk."""
        return next(self.steps)

    def close(self) -> None:
        """Call the application's ``close()`` and end the scope, if nobody has yet.

        A step that is under way sees the mark and closes instead; one that is past its last look is waited for. Where
        that takes longer than it can, its thread has died, and the response is ended when it is collected.
        """
        scope = self.scope
        scope.is_closing = True
        for _ in range(_TRIES):
            try:
                self.steps.close()
            except ValueError:  # a step is under way
                if not scope.is_handing_over:  # and will see the mark
                    return
                time.sleep(0.0001)
            else:
                close(scope)
                return

    def __del__(self) -> None:
        """End the scope of a response that the server has dropped."""
        scope = self.scope
        if scope.life is OVER or scope.is_ended:  # the first asks nobody, and is how nearly all have ended
            return
        if _holders.number(self, "steps") == 1:
            self.steps.close()
            drop(scope)
        else:
            weakref.finalize(self.steps, drop, scope).atexit = False


class GeneratorResponse(Response):
    """A response whose body is a generator.  Its iterator is that of the steps, without a detour for each chunk.

    A loop over the call of the application holds the iterator alone, and drops the response when that is dropped.
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[bytes]:
        """Return the one iterator; a server may ask more than once."""
        return self.steps


_TRIES = 1000
"""How often a ``close()`` is tried while a step hands its chunk over, which takes a few instructions."""


def stepped(body: Iterable[bytes], scope: RequestScope, start: Start, is_shadowing: bool) -> Iterable[bytes]:
    """Return what the server gets for a *body* in which code of the application may still run.

    In one function with plain stores, for every such response runs them.

    Args:
        body: What the application returned, in the step that ends now.
        scope: Of the request.
        start: Its ``start_response``.
        is_shadowing: Whether the request shares its environ with another one.
    """
    is_generator = type(body) is GeneratorType
    is_iterable = is_generator or hasattr(body, "__iter__") or hasattr(body, "__getitem__")
    if start.status is not UNCALLED or not is_iterable:
        start.let_go(body)
    if not is_iterable:
        _end_when_collected(body, scope)
        return body
    scope.body = body
    scope.chunks = unsettled_chunks(body, scope, start) if start.status is UNCALLED else body
    scope.count(start)
    scope.current = look()
    scope.is_closing = scope.is_handing_over = False
    if not is_shadowing:
        scope.shadowed = NOTHING
    response = GeneratorResponse() if is_generator else Response()
    response.scope = scope
    response.steps = (shown_steps if is_shadowing else steps)(scope, is_generator)
    return response


def _end_when_collected(body: object, scope: RequestScope) -> None:
    """Leave to the server what only it can send (uWSGI's file wrapper around a file-like object)."""
    try:
        weakref.finalize(body, end, scope).atexit = False
    except TypeError:
        end(scope)
