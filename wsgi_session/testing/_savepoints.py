"""The savepoints of one connection that several sessions share, each as if it had a transaction of its own.

The savepoints of a connection are a stack: to end one ends those above it, and a rollback undoes what anybody has done
since. Sessions end in any order. So a savepoint is set anew on top of the others before it ends, or is used again,
wherever nothing of its own session's lies in between.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .._session import last_word, traces

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection, NestedTransaction
    from sqlalchemy.orm import Session, SessionTransaction


@dataclass(slots=True, eq=False)
class Stay:
    """A transaction of a session, which is a savepoint here.  Lives until it ends."""

    session: Session
    transaction: SessionTransaction
    name: str
    """Whose session it is."""

    has_committed: bool = False
    is_healed: bool = False
    """Whether what it has failed with was rolled back for others, who know nothing of it."""

    is_lent: bool = False
    """Whether the application has the connection itself, so that whatever is sent may be its own."""

    left: traces.Traces = field(default_factory=traces.begun)
    """What it has left on the connection, while another one uses that."""

    thread: int = field(default_factory=threading.get_ident)
    """Which thread has used it last."""

    undone_by: str | None = None
    """Whose rollback has undone what was written in it."""


@dataclass(slots=True, eq=False)
class _Savepoint:
    """A savepoint of a session's.  Lives until it ends."""

    stay: Stay
    transaction: NestedTransaction
    mark: int
    """How much had been written when it was set."""

    @property
    def name(self) -> str:
        """What it is called in the database; SQLAlchemy has no public name for that."""
        return self.transaction._savepoint  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


class _Point(NamedTuple):
    """Where can be rolled back to: the name of a savepoint, and how much had been written when it was set."""

    name: str
    mark: int


_TURN = "wsgi_session_turn"


class Savepoints:
    """The savepoints on a connection, and who has written since.  Lives as long as the isolated block."""

    __slots__ = ("_connection", "_is_asked", "_savepoints", "_turn", "_user", "_writers", "stays")

    stays: list[Stay]
    """The transactions that are open, in the order in which they have begun."""

    def __init__(self, connection: Connection) -> None:
        """Keep those of *connection*."""
        self.stays = []
        self._connection = connection
        self._is_asked = False  # by a session, for a statement that it sends next
        self._savepoints: list[_Savepoint] = []  # from the bottom to the top
        self._turn: _Point | None = None
        self._user: Stay | None = None
        self._writers: list[Stay] = []  # one for each statement, in order, but for what was rolled back

    def stay_of(self, session: Session) -> Stay | None:
        """Return the open transaction of *session*."""
        return next((stay for stay in self.stays if stay.session is session), None)

    def has_written(self, stay: Stay) -> bool:
        """Say whether *stay* has written what was not rolled back."""
        return stay in self._writers

    def prepare(self, *, is_lent: bool) -> None:
        """See that a session can begin."""
        self._heal(None)
        self._is_asked = not is_lent

    def add(self, session: Session, transaction: SessionTransaction, name: str) -> None:
        """Note the savepoint with which a *transaction* of *session*, called *name*, has just begun."""
        stay = self.stay_of(session)
        if stay is None:
            stay = Stay(session, transaction, name, is_lent=not self._is_asked)
            self.stays.append(stay)
            self._make_user(stay)
        nested = self._connection.get_nested_transaction()
        assert nested is not None
        self._savepoints.append(_Savepoint(stay, nested, len(self._writers)))
        self._turn = None

    def use(self, stay: Stay, *, is_lent: bool = False) -> None:
        """Note that what is sent from now on is of *stay*."""
        self._is_asked = not is_lent
        stay.is_lent |= is_lent
        stay.thread = threading.get_ident()
        if stay is not self._user:
            self._heal(stay)
            for own in [one for one in self._savepoints if one.stay is stay]:
                if stay not in self._writers[own.mark :]:
                    self._savepoints.remove(own)
                    self._lift(own)
                    self._savepoints.append(own)
            self._make_user(stay)
        self._begin_turn()

    @contextmanager
    def showing(self, stay: Stay) -> Generator[None]:
        """Have the connection show what *stay* has left on it, and not what another one has that uses it."""
        if stay is self._user or not traces.is_usable(self._connection):
            yield
            return
        self._heal(stay)
        of_user = traces.exchange(self._connection.connection, stay.left)
        try:
            yield
        finally:
            stay.left = traces.exchange(self._connection.connection, of_user)

    def note_statement(self, *, is_write: bool) -> None:
        """Note a statement that was sent: by the session that has asked for the connection, or by one that has it."""
        user = self._user
        if is_write and user is not None:
            is_known = self._is_asked or user.session._flushing  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            self._writers += [stay for stay in self.stays if stay is user or (stay.is_lent and not is_known)]
        self._is_asked = False

    def before_release(self, name: str) -> None:
        """Have the savepoint *name* end without those of others."""
        own = self._take(name)
        if own is None:
            return
        if not self._is_on_top(own):
            self._lift(own)
        self._make_user(own.stay)

    def before_rollback(self, name: str) -> list[Stay]:
        """Have the rollback to the savepoint *name* undo what its own session has written.

        What others have written after that session had goes with it.

        Returns:
            Those of them who have committed.
        """
        own = self._take(name)
        if own is None:
            return []
        self._make_user(own.stay)
        since = self._writers[own.mark :]
        has_written = own.stay in since
        if has_written:
            if self._is_on_top(own):
                del self._writers[own.mark :]
            else:
                self._roll_back(_Point(own.name, own.mark))
        if not self._is_on_top(own) or (since and not has_written):
            self._lift(own)
        self._forget_failure(own.stay)
        undone = [stay for stay in dict.fromkeys(since) if has_written and stay is not own.stay]
        for stay in undone:
            stay.undone_by = own.stay.name
        return [stay for stay in undone if stay.has_committed]

    def begin_anew(self) -> None:
        """Set all savepoints anew: the database has rolled back everything, and so has nothing of what was written."""
        self._writers.clear()
        for one in self._savepoints:
            self._set(one)

    def leave(self, transaction: SessionTransaction) -> None:
        """Note that *transaction* has ended."""
        self.stays = [stay for stay in self.stays if stay.transaction is not transaction]
        self._savepoints = [one for one in self._savepoints if one.stay.transaction is not transaction]

    def _make_user(self, stay: Stay) -> None:
        """Put the traces that *stay* has left in the place of those of the one before."""
        if stay is not self._user:
            left = traces.exchange(self._connection.connection, stay.left)
            if self._user is not None:
                self._user.left = left
            self._turn, self._user = None, stay

    def _take(self, name: str) -> _Savepoint | None:
        """Take a savepoint that ends from the list; None for one that is no session's, or on a lost connection."""
        if not traces.is_usable(self._connection):
            return None
        own = next((one for one in self._savepoints if one.name == name), None)
        if own is not None:
            self._heal(own.stay)
            self._savepoints.remove(own)
            self._turn = None
        return own

    def _is_on_top(self, own: _Savepoint) -> bool:
        return own.transaction is self._connection.get_nested_transaction()

    def _roll_back(self, point: _Point) -> None:
        """Roll back to a savepoint, and set those anew that go with it."""
        del self._writers[point.mark :]
        self._connection.dialect.do_rollback_to_savepoint(self._connection, point.name)
        for one in self._savepoints:
            if one.mark >= point.mark:
                self._set(one)

    def _begin_turn(self) -> None:
        """Set a savepoint where another session has left off, for what fails from now on on PostgreSQL."""
        connection = self._connection
        if self._turn is not None or connection.dialect.name != "postgresql" or not self._is_shared():
            return
        if not last_word.is_failed(connection):
            connection.dialect.do_savepoint(connection, _TURN)
            self._turn = _Point(_TURN, len(self._writers))

    def _is_shared(self) -> bool:
        """Say whether a rollback to the savepoint on top might undo what another one than the user has done."""
        since = self._writers[self._savepoints[-1].mark :]
        return len(self.stays) > 1 or any(stay is not self._user for stay in since)

    def _lift(self, own: _Savepoint) -> None:
        """Set a savepoint anew, on top of the others."""
        self._set(own)
        if not self._is_on_top(own):
            _put_on_top(self._connection, own.transaction)

    def _set(self, one: _Savepoint) -> None:
        """Set a savepoint anew; what had been written before it is what had been when it was set first."""
        left = traces.traces_of(self._connection.connection)
        written_before = left.written_before
        self._connection.dialect.do_savepoint(self._connection, one.name)
        left.written_before = written_before
        one.mark = len(self._writers)

    def _heal(self, stay: Stay | None) -> None:
        """Roll back what another one than *stay* has failed with on PostgreSQL; that one alone is to know of it."""
        failed = self._user
        if failed is None or failed is stay or not last_word.is_failed(self._connection):
            return
        point = self._turn
        if point is None:
            top = self._savepoints[-1]
            point = _Point(top.name, top.mark)
        left = traces.traces_of(self._connection.connection)
        has_written = left.has_written
        self._roll_back(point)
        left.ended_by, left.has_written = "ROLLBACK", has_written
        failed.is_healed = True
        self._turn = None

    def _forget_failure(self, stay: Stay) -> None:
        """Let a rollback of *stay* heal it, as it does in a transaction of its own."""
        if stay.is_healed:
            stay.is_healed = False
            traces.traces_of(self._connection.connection).ended_by = None


def _put_on_top(connection: Connection, transaction: NestedTransaction) -> None:
    """Have SQLAlchemy take *transaction* for the one that was begun last; it has no public way to say so."""
    top = above = connection._nested_transaction  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while above is not None and above._previous_nested is not transaction:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        above = above._previous_nested  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert above is not None
    above._previous_nested = transaction._previous_nested  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    transaction._previous_nested = top  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    connection._nested_transaction = transaction  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
