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
    """Yield the chunks of a *body* in which ``start_response`` is to be called, and have the outcome settled by it.

    Before the call they go on to the server, which takes empty ones. After it a rule is asked before the first that is
    not empty: a server takes no chunk before its ``start_response`` was called, and that is held back until then.

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
        elif chunk or not scope.terms.has_rule:
            first = (chunk,)
            break
    start.let_go()
    scope.count(start)
    del start
    yield from chain(first, chunks)
