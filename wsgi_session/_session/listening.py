"""What is listened to in the sessions that this package makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

from sqlalchemy import event

from . import engines, last_word, leaving
from .changes import note_flush
from .commits import note_commit

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session, SessionTransaction

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
        ("after_flush", note_flush, False),
        ("after_commit", note_commit, True),  # before the user's, which may raise
    ):
        for heir in heirs:
            event.remove(heir, name, listener)
        event.listen(session_class, name, listener, insert=is_first)


def _after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if id(connection.engine) not in engines.met:
        engines.meet(connection.engine)
        if word := last_word.of(connection.dialect):
            word.note_begin(connection.connection)
    for tell in on_begin:
        tell(session, transaction, connection)
