"""The traces of a transaction: what was done in it that may have changed something, and what went wrong.

They are kept with the connection as it was taken from its pool, and only where there are any: a transaction that has
only read has none.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

KEY = "wsgi_session.traces"
"""The name under which they are kept with a connection."""


class Traces:
    """What a transaction has left on its connection.  Lives as long as the transaction.

    What is not set is the class's: most transactions set one thing.
    """

    cursors: dict[int, weakref.ref[Any]] | None = None
    """The contexts of the cursors of the server's that were opened, by the ids of the cursors."""

    ended_by: str | None = None
    """The text that has ended it, and with it what had been written."""

    error: BaseException | None = None
    """The driver's last error that says what has gone wrong."""

    has_begun_anew: bool = False
    """Whether the database has ended it, and another one was begun in its place."""

    has_written: bool = False
    """Whether a statement has succeeded that may have changed something."""

    held: str | None = None
    """The first word of a text that has set up something in the transaction: ``SET LOCAL``, a temporary table."""

    is_awaited: bool = False
    """Whether a callback waits for its commit."""

    is_begun: bool = False
    """Whether a driver that waits with its BEGIN for the first write has found one sent."""

    is_lost: bool = False
    """Whether the database has rolled it back with the error."""

    written_before: tuple[str, ...] = ()
    """The names of the savepoints before which something had been written."""

    def open_cursors(self) -> list[Any]:
        """List the contexts of the cursors of the server's that somebody may still read."""
        return [context for known in list((self.cursors or {}).values()) if (context := known()) is not None]


def is_usable(connection: Connection) -> bool:
    """Say whether *connection* still has one of its pool, which traces can be on."""
    return not (connection.closed or connection.invalidated)


def traces_of(connection: Any) -> Traces:
    """Return the traces on a *connection* as it was taken from its pool.

    Those on the proxy of a dialect's first connect are not kept: it has slots, and shows the attributes of the driver's
    connection for its own.
    """
    try:
        kept: dict[str, Any] = object.__getattribute__(connection, "__dict__")
    except AttributeError:
        return Traces()
    found: Traces | None = kept.get(KEY)
    if found is None:
        found = kept[KEY] = Traces()
    return found


def look_at(connection: Any) -> Traces | None:
    """Return the traces on a *connection*, if there are any."""
    found: Traces | None = getattr(connection, "__dict__", _NOTHING).get(KEY)
    return found


def forget(connection: Any) -> None:
    """Forget the traces on a *connection*, whose transaction has ended."""
    getattr(connection, "__dict__", _NOTHING).pop(KEY, None)


_NOTHING: dict[str, Any] = {}
"""Of a connection that has no attributes of its own."""


def begun() -> Traces:
    """Make the traces of a transaction for which BEGIN was sent."""
    made = Traces()
    made.is_begun = True
    return made


def exchange(connection: Any, others: Traces) -> Traces:
    """Put *others* in the place of the traces on a *connection*, and return those."""
    left = traces_of(connection)
    connection.__dict__[KEY] = others
    return left


showing: list[Callable[[Session], AbstractContextManager[object]]] = []
"""Are entered while a session is asked what it has done, where several share a connection."""


@contextmanager
def shown(session: Session) -> Generator[None]:
    """Have the connections of *session* show the traces that are its own, while it is asked what it has done."""
    with ExitStack() as stack:
        for show in showing:
            stack.enter_context(show(session))
        yield


on_own_commit: list[Callable[[Connection], object]] = []
"""Are called with a connection on which something was committed past SQLAlchemy, or may have been."""


def tell_of_commit(connection: Connection) -> None:
    """Tell of a commit that SQLAlchemy does not know of."""
    for tell in on_own_commit:
        tell(connection)
