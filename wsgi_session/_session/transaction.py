"""The ends of a session's transaction, other than by a commit; nothing here knows of requests."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.orm import SessionTransactionOrigin

from .._log import log
from . import changes, holdings, leaving, pools, traces
from .makeup import ending_connections, own_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session


def why_not_release(session: Session) -> str | None:
    """Say why `release` would do harm to *session*, or None."""
    transaction = session.get_transaction()
    if transaction is None:
        return None
    if session.in_nested_transaction():
        return "it is inside a savepoint"
    if transaction.origin is SessionTransactionOrigin.BEGIN:
        return "its transaction was begun explicitly, by 'session.begin()' or a first 'session.begin_nested()'"
    if session.twophase:
        return "its transaction is a two-phase one"
    if lost := changes.of(session):
        return f"it has changes that would be lost ({lost})"
    with traces.shown(session):
        return next(filter(None, map(holdings.of, ending_connections(transaction))), None)


def release(session: Session) -> None:
    """End a transaction that only read: nothing is expired and nothing is detached."""
    if transaction := session.get_transaction():
        transaction.close()


def release_reads(session: Session) -> None:
    """Release the connections of *session* where that would not be refused; a failure is logged."""
    if not try_release(session) and _may_release(session):
        _end_or_discard(session, release)


def try_release(session: Session) -> bool:
    """Release the connections of *session* if it can be seen at once that it has only read, as most have.

    Returns:
        Whether it has none any more. Where that could not be seen, `why_not_release` may have no reason to name.
    """
    transaction = session.get_transaction()
    if transaction is None:
        return True
    if (
        transaction.origin is not SessionTransactionOrigin.AUTOBEGIN
        or session.twophase
        or changes.may_be_in(session)
        or any(map(holdings.may_be_on, ending_connections(transaction)))
    ):
        return False
    _end_or_discard(session, release)
    return True


def give_back(session: Session) -> None:
    """Release the connections of *session* where nothing is lost by it, else roll back; a failure is logged."""
    _end_or_discard(session, release if _may_release(session) else _roll_back)


def give_back_unless_read(session: Session) -> None:
    """Do as `give_back` does, unless rows are still being read by a cursor that would go with the transaction."""
    may_release = _may_release(session)
    if may_release or not _is_read(session):
        _end_or_discard(session, release if may_release else _roll_back)


def roll_back(session: Session) -> None:
    """Roll *session* back; a failure is logged, and its connections are not used again."""
    _end_or_discard(session, _roll_back)


def close(session: Session) -> None:
    """Close *session*, which rolls back what is open; a failure is logged, and its connections are not used again."""
    _end_or_discard(session, leaving.close)


def abandon(session: Session) -> None:
    """Throw away the connections of *session*, for nobody knows the state they were left in.

    Those whose pool is the database itself, and those that are the user's, are rolled back. The session is empty
    afterwards, and can be used again.
    """
    for connection in own_connections(session.get_transaction()):
        if not pools.is_database(connection.engine.pool):
            with suppress(Exception):  # it may be closed, or invalid already
                connection.invalidate()
    roll_back(session)
    session.reset()


def _is_read(session: Session) -> bool:
    with traces.shown(session):
        return any(map(holdings.cursor_of, ending_connections(session.get_transaction())))


def _may_release(session: Session) -> bool:
    """Say whether `release` is known to do no harm to *session*."""
    try:
        return why_not_release(session) is None
    except Exception:  # a column type of the user's may fail to compare
        return False


def _roll_back(session: Session) -> None:
    session.rollback()


def _end_or_discard(session: Session, end: Callable[[Session], object]) -> None:
    transaction = session.get_transaction()
    try:
        end(session)
    except BaseException as error:  # the connections may be lost to the session by now, and so to the pool
        for connection in own_connections(transaction):
            with suppress(Exception):
                connection.invalidate()
        if not isinstance(error, Exception):
            raise
        log.exception("%r could not be ended cleanly; its connections are thrown away.", session)
