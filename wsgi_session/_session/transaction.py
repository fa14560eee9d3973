"""The transaction of one session: what it holds, and the ways to end it.

Nothing here knows of requests. `listen_to` sees to it that the engines of a session are known, and that what it has
flushed can be seen, for `Session.new`, `Session.dirty` and `Session.deleted` do not show it.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin

from .._log import log
from ..errors import OpenTransactionError
from . import engines, holdings, last_word, leaving, pools, traces

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection

_COMMITTED = "wsgi_session.committed"
"""The key of `Session.info` under which the id of the transaction is that was committed last: of it alone, for the
transaction refers to the session."""

_TRANSLATED = "wsgi_session.translated"
"""The key of `Session.info` that says that the connection of the last transaction had been given a tenant's schema."""

FLUSHED = "wsgi_session.flushed"
"""The key of `Session.info` under which the transactions are that have flushed something."""

on_begin: list[Callable[[Session, SessionTransaction, Connection], object]] = []
"""Are called where a transaction has begun on a connection, before its first statement."""

_known: WeakSet[type[Session]] = WeakSet()
"""The classes of the sessions that are listened to."""

_listened_to: WeakSet[type[Session]] = WeakSet()
"""Those of them that have the listeners: none is derived from another, or it would be told of everything twice."""


def listen_to(session_class: type[Session]) -> None:
    """Listen to the sessions of *session_class*, if that has not been done yet."""
    if session_class in _known:
        return
    _known.add(session_class)
    leaving.watch(session_class)
    if not _listened_to.isdisjoint(session_class.__mro__):
        return
    heirs = [known for known in _listened_to if issubclass(known, session_class)]
    _listened_to.difference_update(heirs)
    _listened_to.add(session_class)
    for name, listener, is_first in (
        ("after_begin", _after_begin, False),
        ("after_flush", _after_flush, False),
        ("after_commit", _after_commit, True),  # before the user's, which may raise
    ):
        for heir in heirs:
            event.remove(heir, name, listener)
        event.listen(session_class, name, listener, insert=is_first)


def is_open_block(session: Session) -> bool:
    """Say whether the code of a ``with session.begin():`` block is running.

    `SessionTransaction.origin` does not tell: ``begin_nested()`` as the first thing in a session is a BEGIN, too, whose
    transaction goes on when the savepoint has been released. SQLAlchemy has no public name for what it asks itself.
    """
    transaction = session.get_transaction()
    return transaction is not None and getattr(transaction, "_trans_subject", None) is not None


def changes(session: Session) -> str:
    """Describe what *session* would lose in a rollback, as far as it can be seen.

    Returns:
        Such as ``"1 new Author, 2 changed Book, flushed changes"``; empty if there is nothing. What was sent directly,
        such as an ``update()``, is mentioned where nothing was flushed.
    """
    seen = [] if _is_clean(session) else _pending(session)
    if _has_flushed(session):
        seen.append("flushed changes")
    elif any(map(holdings.has_changed, connections_of(session.get_transaction()))):
        seen.append("what was sent directly")
    return ", ".join(seen)


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
    if lost := changes(session):
        return f"it has changes that would be lost ({lost})"
    return next(filter(None, map(holdings.of, _own_connections(transaction))), None)


def release(session: Session) -> None:
    """End a transaction that only read: nothing is expired and nothing is detached."""
    if transaction := session.get_transaction():
        transaction.close()


def refuse_open_block(session: Session, scope: object) -> None:
    """Raise an error that names *scope* if a ``session.begin()`` block is still open: only its end may commit it."""
    if is_open_block(session):
        raise OpenTransactionError(
            f"{scope!r}: {session!r} is still inside a 'session.begin()' block, which a commit rule cannot commit."
            " End the block before the first chunk of the body, or use 'commit=until_close'."
        )


def roll_back(session: Session) -> None:
    """Roll *session* back; a failure is logged, and its connections are not used again."""
    _end_or_discard(session, session.rollback)


def is_read(session: Session) -> bool:
    """Say whether rows are still being read in the transaction of *session*, by a cursor that would go with it."""
    return any(map(holdings.cursor_of, _own_connections(session.get_transaction())))


def give_back(session: Session) -> None:
    """Release the connections of *session* where nothing is lost by it, else roll back; a failure is logged."""
    _end_or_discard(session, partial(release, session) if _may_release(session) else session.rollback)


def release_reads(session: Session) -> None:
    """Release the connections of *session* where that would not be refused; a failure is logged."""
    if _may_release(session):
        _end_or_discard(session, partial(release, session))


def close(session: Session) -> None:
    """Close *session*, which rolls back what is open; a failure is logged, and its connections are not used again."""
    _end_or_discard(session, session.close)


def abandon(session: Session) -> None:
    """Throw away the connections of *session*, for nobody knows the state they were left in.

    Those whose pool is the database itself, and those that are the user's, are rolled back. The session is empty
    afterwards, and can be used again.
    """
    for connection in _own_connections(session.get_transaction()):
        if not pools.is_database(connection.engine.pool):
            with suppress(Exception):  # it may be closed, or invalid already
                connection.invalidate()
    roll_back(session)
    session.reset()


def forget_commits(session: Session) -> None:
    """Forget which transaction was committed last, before another one is: ids are used again."""
    session.info.pop(_COMMITTED, None)


def is_committed(session: Session, transaction: SessionTransaction | None) -> bool:
    """Say whether a *transaction* of *session* is the one that was committed last."""
    return transaction is not None and session.info.get(_COMMITTED) == id(transaction)


def finish_commit(session: Session) -> None:
    """Do what SQLAlchemy does after COMMIT, and has not come to, for a listener to ``after_commit`` has raised."""
    if transaction := session.get_transaction():
        transaction.close()
        session.expire_all()


def note_awaited(session: Session) -> None:
    """Leave a trace on the connections of *session*: its commit is waited for, so none may come to nothing quietly.

    Raises:
        TransactionLostError: If one would; also where the owner of the connection is to commit later.
    """
    for connection in connections_of(session.get_transaction()):
        if traces.is_usable(connection):
            traces.traces_of(connection.connection).is_awaited = True
    refuse_lost(session)


def refuse_lost(session: Session) -> None:
    """Raise an error if a transaction of *session* is lost, before another one is committed.

    Raises:
        TransactionLostError: If one is.
    """
    for connection in connections_of(session.get_transaction()):
        word = last_word.of(connection.dialect) if traces.is_usable(connection) else None
        if word is not None:
            word.comes_to_nothing(connection)


def is_within(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    """Say whether *transaction* is *outer*, or a savepoint in it."""
    while transaction is not None:
        if transaction is outer:
            return True
        transaction = transaction.parent
    return False


def innermost(session: Session) -> SessionTransaction | None:
    """Return the transaction that *session* is in now: that of a savepoint, if it is in one."""
    return session.get_nested_transaction() or session.get_transaction()


def connections_of(transaction: SessionTransaction | None) -> list[Connection]:
    """List the connections of a *transaction*."""
    return [connection for connection, _, _, _ in _entries(transaction)]


def _may_release(session: Session) -> bool:
    """Say whether `release` is known to do no harm to *session*."""
    try:
        return why_not_release(session) is None
    except Exception:  # a column type of the user's may fail to compare
        return False


def _end_or_discard(session: Session, end: Callable[[], object]) -> None:
    transaction = session.get_transaction()
    try:
        end()
    except BaseException as error:  # the connections may be lost to the session by now, and so to the pool
        for connection in _own_connections(transaction):
            with suppress(Exception):
                connection.invalidate()
        if not isinstance(error, Exception):
            raise
        log.exception("%r could not be ended cleanly; its connections are thrown away.", session)


def _own_connections(transaction: SessionTransaction | None) -> list[Connection]:
    """List the connections that the session of *transaction* took from a pool itself, and was not bound to."""
    return [connection for connection, _, _, is_own in _entries(transaction) if is_own]


def _entries(transaction: SessionTransaction | None) -> set[tuple[Connection, Any, bool, bool]]:
    """Return what *transaction* knows of its connections.

    SQLAlchemy has no public name for it: ``SessionTransaction.connections`` (2.1.7) does not tell a connection of the
    session's from one that the user bound it to.
    """
    if transaction is None:
        return set()
    return set(transaction._connections.values())  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _is_clean(session: Session) -> bool:
    """Say whether a flush of *session* would have nothing to do, which is soon said of one that has only read.

    SQLAlchemy has no public name for what it asks itself.
    """
    return session._is_clean()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _pending(session: Session) -> list[str]:
    """Describe what a flush of *session* would send."""
    found: dict[str, Collection[object]] = {
        "new": session.new,
        "changed": [instance for instance in session.dirty if session.is_modified(instance)],
        "deleted": session.deleted,
    }
    return [each for kind, instances in found.items() for each in _counted(kind, instances)]


def _counted(kind: str, instances: Collection[object]) -> list[str]:
    """Count *instances* by their class; what is in them is nobody's business."""
    counts = Counter(type(instance).__name__ for instance in instances)
    return [f"{number} {kind} {name}" for name, number in sorted(counts.items())]


def _has_flushed(session: Session) -> bool:
    flushed = session.info.get(FLUSHED)
    if not flushed:
        return False
    root = session.get_transaction()
    return any(_root(transaction) is root for transaction in flushed)


def _root(transaction: SessionTransaction) -> SessionTransaction:
    while transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if id(connection.engine) not in engines.met:
        engines.meet(connection.engine)
        if word := last_word.of(connection.dialect):
            word.note_begin(connection.connection)
    for tell in on_begin:
        tell(session, transaction, connection)


def _after_commit(session: Session) -> None:
    transaction = innermost(session)
    session.info[_COMMITTED] = id(transaction)
    if any(map(holdings.is_translated, connections_of(transaction))):
        session.info[_TRANSLATED] = True
        if not event.contains(session, "after_begin", _mention_lost_schema):
            event.listen(session, "after_begin", _mention_lost_schema)


def _mention_lost_schema(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    """Say that *session* begins anew without the tenant's schema that its connections were given."""
    if session.info.pop(_TRANSLATED, False) and not holdings.has_own_options(connection):
        log.warning(
            "The 'schema_translate_map' that 'session.connection()' was given has ended with its transaction, and the"
            " session goes on in the default schema. Give it to the engine of the session:"
            " 'Session(bind=engine.execution_options(schema_translate_map=...))'."
        )


def _after_flush(session: Session, _flush_context: object) -> None:
    transaction = innermost(session)
    assert transaction is not None  # a flush is in one
    if not transaction.nested:
        session.info[FLUSHED] = (transaction,)
        return
    root = _root(transaction)
    earlier = [one for one in session.info.get(FLUSHED, ()) if one is not transaction and _root(one) is root]
    session.info[FLUSHED] = (*earlier, transaction)
    _watch_savepoints()


@cache
def _watch_savepoints() -> None:
    """Listen to rollbacks, from the first flush in a savepoint on: who has no savepoints does not pay for them."""
    event.listen(Session, "after_soft_rollback", _after_soft_rollback)


def _after_soft_rollback(session: Session, previous_transaction: SessionTransaction) -> None:
    """Forget what was flushed in the savepoint that has been rolled back."""
    if flushed := session.info.get(FLUSHED):
        session.info[FLUSHED] = tuple(one for one in flushed if not is_within(one, previous_transaction))
