"""The commit of one session: what is asked before it, and what is known after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import event

from .._log import log
from ..errors import OpenTransactionError
from . import holdings, last_word, traces
from .makeup import connections_of, innermost, is_open_block

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, SessionTransaction

_COMMITTED = "wsgi_session.committed"
"""The key of `Session.info` under which the id of the transaction is that was committed last: of it alone, for the
transaction refers to the session."""

_TRANSLATED = "wsgi_session.translated"
"""The key of `Session.info` that says that the connection of the last transaction had been given a tenant's schema."""


def refuse_open_block(session: Session, scope: object) -> None:
    """Raise an error that names *scope* if a ``session.begin()`` block is still open: only its end may commit it."""
    if is_open_block(session):
        raise OpenTransactionError(
            f"{scope!r}: {session!r} is still inside a 'session.begin()' block, which a commit rule cannot commit."
            " End the block before the first chunk of the body, or use 'commit=until_close'."
        )


def note_awaited(session: Session) -> None:
    """Leave a trace on the connections of *session*: its commit is waited for, so none may come to nothing quietly.

    Raises:
        TransactionLostError: If one would; also where the owner of the connection is to commit later.
    """
    with traces.shown(session):
        for connection in connections_of(session.get_transaction()):
            if traces.is_usable(connection):
                traces.traces_of(connection.connection).is_awaited = True
    refuse_lost(session)


def refuse_lost(session: Session) -> None:
    """Raise an error if a transaction of *session* is lost, before another one is committed.

    Raises:
        TransactionLostError: If one is.
    """
    with traces.shown(session):
        for connection in connections_of(session.get_transaction()):
            word = last_word.of(connection.dialect) if traces.is_usable(connection) else None
            if word is not None:
                word.comes_to_nothing(connection)


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


def note_commit(session: Session) -> None:
    """Note that the transaction that *session* is in has been committed; a savepoint that is released is one, too."""
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
