"""The marks of connections: which request each belongs to.

A connection belongs to the request of the session that has begun on it last; one that no session has used belongs to
the request that the code runs in. So neither bodies that a server interleaves nor its threads are mixed up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy.pool.base import _AdhocProxiedConnection  # pyright: ignore[reportPrivateUsage]

from . import _whose
from ._watches import watch_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ._holds import Hold
    from ._recording import Recording

    Mark: TypeAlias = tuple[Recording | None, Hold | None]

MARK = "_wsgi_session_mark"
"""The attribute of a `Connection` that is the recording of the session that has begun on it last, and its hold."""

UNMARKED: Mark = (None, None)


def take_over(connection: Connection, recording: Recording) -> None:
    """Note that *connection* is a session's whose request is recorded by *recording*."""
    hold = watch_of(connection.engine).hold_of(connection)
    setattr(connection, MARK, (recording, hold))
    if hold.request is not recording:
        recording.take(hold)


def recording_of(connection: Connection | None) -> Recording | None:
    """Return the recording of the request that *connection* belongs to."""
    mark: Mark = getattr(connection, MARK, UNMARKED)
    return mark[0] if mark[0] is not None and mark[0].is_open else _whose.current()


def last_hold_of(connection: Connection) -> Hold | None:
    """Return the hold of a *connection*, or the last one that it had.

    Returns:
        The hold; None for a connection that has none, and that of a dialect which gets ready for its first one.
    """
    mark: Mark = getattr(connection, MARK, UNMARKED)
    recording, known = mark
    if known is not None and not known.is_over:
        return known
    if connection.closed or connection.invalidated or isinstance(connection.connection, _AdhocProxiedConnection):
        return known
    watch = watch_of(connection.engine)
    hold = (watch.hold_of(connection) if known is None else watch.known_hold_of(connection)) or known
    setattr(connection, MARK, (recording, hold))
    return hold
