"""The makeup of a session: its class, its transactions, one in the other, and the connections that they are on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import SessionTransaction


def is_of_sessionmaker(session_class: type[Session]) -> bool:
    """Say whether a `sessionmaker` has made *session_class* for itself, of the class that it was given."""
    return session_class.__module__ == Session.__module__ and Session in session_class.__mro__[1:]


def is_open_block(session: Session) -> bool:
    """Say whether the code of a ``with session.begin():`` block is running.

    `SessionTransaction.origin` does not tell: ``begin_nested()`` as the first thing in a session is a BEGIN, too, whose
    transaction goes on when the savepoint has been released. SQLAlchemy has no public name for what it asks itself.
    """
    transaction = session.get_transaction()
    return transaction is not None and getattr(transaction, "_trans_subject", None) is not None


def innermost(session: Session) -> SessionTransaction | None:
    """Return the transaction that *session* is in now: that of a savepoint, if it is in one."""
    return session.get_nested_transaction() or session.get_transaction()


def is_within(transaction: SessionTransaction | None, outer: SessionTransaction) -> bool:
    """Say whether *transaction* is *outer*, or a savepoint in it."""
    while transaction is not None:
        if transaction is outer:
            return True
        transaction = transaction.parent
    return False


def root_of(transaction: SessionTransaction) -> SessionTransaction:
    """Return the transaction that *transaction* is in, at last."""
    while transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def connections_of(transaction: SessionTransaction | None) -> list[Connection]:
    """List the connections of a *transaction*."""
    return [connection for connection, _, _, _ in _entries(transaction)]


def own_connections(transaction: SessionTransaction | None) -> list[Connection]:
    """List the connections that the session of *transaction* took from a pool itself, and was not bound to."""
    return [connection for connection, _, _, is_own in _entries(transaction) if is_own]


def ending_connections(transaction: SessionTransaction | None) -> list[Connection]:
    """List the connections on which the end of *transaction* ends something.

    One that the session was bound to is among them, unless its owner has begun the transaction on it.
    """
    return [connection for connection, _, is_begun, is_own in _entries(transaction) if is_begun or is_own]


def _entries(transaction: SessionTransaction | None) -> list[tuple[Connection, Any, bool, bool]]:
    """List what *transaction* knows of its connections, each of which it finds by itself and by its engine.

    SQLAlchemy has no public name for it: ``SessionTransaction.connections`` (2.1.7) does not tell a connection of the
    session's from one that the user bound it to.
    """
    if transaction is None:
        return []
    known = transaction._connections  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return [entry for key, entry in known.items() if key is entry[0]]
