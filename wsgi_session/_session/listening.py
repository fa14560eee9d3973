"""What is listened to in the sessions that this package makes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

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

_listeners: WeakKeyDictionary[type[Session], dict[str, partial[None]]] = WeakKeyDictionary()
"""Those of them that have listeners: none is derived from another, or it would be told of everything twice.

Each has some of its own, because SQLAlchemy 2.0.31 takes a function away once only, whomever it listens to.
"""


def listen_to(session_class: type[Session]) -> None:
    """Listen to the sessions of *session_class*, if that has not been done yet."""
    if session_class in _known:
        return
    _known.add(session_class)
    leaving.watch(session_class)
    if any(known in session_class.__mro__ for known in _listeners):
        return
    for heir in [known for known in _listeners if issubclass(known, session_class)]:
        for name, listener in _listeners.pop(heir).items():
            event.remove(heir, name, listener)
    own = {
        "after_begin": partial(_after_begin),
        "after_flush": partial(note_flush),
        "after_commit": partial(note_commit),
    }
    for name, listener in own.items():
        event.listen(session_class, name, listener, insert=name == "after_commit")  # before the user's, which may raise
    _listeners[session_class] = own


def _after_begin(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if id(connection.engine) not in engines.met:
        engines.meet(connection.engine)
        if word := last_word.of(connection.dialect):
            word.note_begin(connection.connection)
    for tell in on_begin:
        tell(session, transaction, connection)
