"""The chunks of a body that calls ``start_response`` itself, as a generator does that is an application."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from .start import UNCALLED

if TYPE_CHECKING:
    from .request import RequestScope
    from .start import Start


def unsettled_chunks(body: Iterable[bytes], scope: RequestScope, start: Start) -> Iterator[bytes]:
    """Return the chunks of a *body* in which ``start_response`` is to be called, and have the outcome settled by it."""
    return _awaited_chunks(body, scope, start) if scope.terms.has_rule else _noted_chunks(body, scope, start)


def _noted_chunks(body: Iterable[bytes], scope: RequestScope, start: Start) -> Iterator[bytes]:
    """Yield the chunks of an application that calls ``start_response`` in its iterable, where that goes on at once."""
    chunks = iter(body)
    first: tuple[bytes, ...] = ()
    for chunk in chunks:
        if start.status is not UNCALLED:
            first = (chunk,)
            break
        yield chunk
    start.let_go()
    scope.count(start)
    del start
    yield from chain(first, chunks)


def _awaited_chunks(body: Iterable[bytes], scope: RequestScope, start: Start) -> Iterator[bytes]:
    """Yield the chunks of an application that calls ``start_response`` in its iterable, where that is held back.

    An empty chunk goes on to the server as long as that has not been called. Afterwards it waits for the first that is
    not empty: a server takes no chunk before its ``start_response`` was called.

    Args:
        body: What the application returned.
        scope: The scope of the request.
        start: Forgotten when it has been used, for a server's bound method would close a cycle through the response.
    """
    chunks = iter(body)
    first: tuple[bytes, ...] = ()
    for chunk in chunks:
        if start.status is UNCALLED:
            yield chunk
        elif chunk:
            first = (chunk,)
            break
    start.let_go()
    scope.count(start)
    del start
    yield from chain(first, chunks)
