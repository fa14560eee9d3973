"""The chunks of a body, and what is done between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from .._scope.outcome import finish
from ..commit import until_close
from .start import UNCALLED

if TYPE_CHECKING:
    from .._scope.base import BaseScope
    from .start import Start


def settled_chunks(body: Iterable[bytes], scope: BaseScope, start: Start) -> Iterable[bytes]:
    """Return the chunks of *body*, with what is done for them; *body* itself where that is nothing.

    The outcome is settled before the first chunk that is not empty, and the connections are given back before the one
    that completes the declared length.
    """
    if start.status is not UNCALLED:
        return _counted_chunks(body, scope, start.missing)
    return _awaited_chunks(body, scope, start) if scope.terms.has_rule else _noted_chunks(body, scope, start)


def _counted_chunks(chunks: Iterable[bytes], scope: BaseScope, missing: int | None) -> Iterable[bytes]:
    """Return *chunks*; the connections are given back when no more than *missing* bytes are to come, if declared."""
    if missing is None or scope.terms.commit is until_close:
        return chunks
    if missing > 0:
        return _counted(chunks, scope, missing)
    finish(scope)
    return chunks


def _counted(chunks: Iterable[bytes], scope: BaseScope, missing: int) -> Iterator[bytes]:
    chunks = iter(chunks)
    for chunk in chunks:
        missing -= len(chunk)
        if missing <= 0:
            finish(scope)
            yield chunk
            break
        yield chunk
    for chunk in chunks:  # not "yield from", which would close them: that is for the server to do, and once
        yield chunk


def _noted_chunks(body: Iterable[bytes], scope: BaseScope, start: Start) -> Iterator[bytes]:
    """Yield the chunks of an application that calls ``start_response`` in its iterable, where that goes on at once."""
    chunks = iter(body)
    first: tuple[bytes, ...] = ()
    for chunk in chunks:
        if start.status is not UNCALLED:
            first = (chunk,)
            break
        yield chunk
    start.let_go()
    missing = None if start.status is UNCALLED else start.missing
    del start
    yield from _counted_chunks(chain(first, chunks), scope, missing)


def _awaited_chunks(body: Iterable[bytes], scope: BaseScope, start: Start) -> Iterator[bytes]:
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
    missing = start.missing
    del start
    yield from _counted_chunks(chain(first, chunks), scope, missing)
