"""The callbacks of a transaction: what is called when it has been committed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TypeVar, overload

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from ._checks import checked_hook
from ._log import log
from ._session import transaction
from ._session.changes import AWAITED
from ._session.commits import note_awaited
from ._session.makeup import innermost, is_within

C = TypeVar("C", bound=Callable[[], object])

_COLLECTED = "wsgi_session.collected"
"""The key of `Session.info` under which the list is that takes the errors of callbacks, while a rule commits."""


@overload
def on_commit(session: Session, callback: C) -> C: ...


@overload
def on_commit(session: Session) -> Callable[[C], C]: ...


def on_commit(session: Session, callback: C | None = None) -> C | Callable[[C], C]:
    """Have *callback* called when the transaction of *session* has been committed; also as a decorator.

    ::

        session.add(order)
        on_commit(session, partial(send_receipt, order.email))

        @on_commit(session)
        def tell_the_warehouse() -> None: ...

    The callbacks of a transaction run once, in order, when its outermost COMMIT has succeeded, whoever commits. A
    savepoint that is rolled back drops the callbacks that were registered in it. A rollback drops all of them, and so
    does the end of the session. A callback that is registered before a transaction has begun waits for the next
    transaction. If a session is bound to a connection whose owner has begun a transaction, as in tests, the callbacks
    run when the session is committed.

    After a plain ``session.commit()``, and after the commit of a rule or of a `session_scope` block, a callback may use
    *session*, commit, and register another callback. What it leaves uncommitted is rolled back. After
    ``with session.begin():`` the session is still in the block, so open a `session_scope` in the callback if it has to
    use the database.

    If a callback raises, the others run, and nothing is undone. When all have run, the code that commits gets the first
    error. After the commit of a rule the error is logged instead, because the client must not be told of a failure of
    something that is committed.

    Args:
        session: Any `Session`, also one that this package has not made.
        callback: A plain function without arguments.

    Returns:
        The callback itself, or without one the decorator.

    Raises:
        TypeError: If *session* is no session, or *callback* is not callable, or a generator or ``async`` function.
        ScopeEndedError: If the scope of *session* has ended.
    """
    if not isinstance(session, Session):
        remedy = " Call the registry: 'on_commit(Session(), ...)'." if isinstance(session, scoped_session) else ""
        raise TypeError(f"on_commit() takes a session, not {session!r}.{remedy}")
    if callback is None:
        return partial(on_commit, session)
    _listen()
    _callbacks_of(session).add(session, checked_hook(callback, "A callback of on_commit()"))
    return callback


def awaited(session: Session) -> str:
    """Describe what waits for a commit of *session*, such as ``"1 callback of on_commit()"``; empty if nothing does."""
    callbacks: Callbacks | None = session.info.get(AWAITED)
    number = len(callbacks.waiting) if callbacks else 0
    return f"{number} {'callback' if number == 1 else 'callbacks'} of on_commit()" if number else ""


def why_not_release(session: Session) -> str | None:
    """Say why it would do harm to give back the connections of *session* now, or None."""
    reason = transaction.why_not_release(session)
    if reason is None and (number := awaited(session)):
        return f"its commit is waited for ({number})"
    return reason


def collect(session: Session) -> list[Exception]:
    """Return a list that takes the errors of the callbacks of *session*, until `collect_no_more`."""
    errors: list[Exception] = []
    session.info[_COLLECTED] = errors
    return errors


def collect_no_more(session: Session) -> None:
    """Have the errors of the callbacks of *session* raised again."""
    session.info.pop(_COLLECTED, None)


def forget(session: Session) -> None:
    """Drop all callbacks of *session*."""
    session.info.pop(AWAITED, None)


def log_errors(errors: list[Exception]) -> None:
    """Put *errors* into the log that came after COMMIT."""
    for error in errors:
        log.error(
            "What runs after COMMIT has failed, a callback or a listener; the transaction is committed.", exc_info=error
        )


class Callbacks:
    """The callbacks of one session.  Lives as long as the session.

    Each is kept with the innermost transaction that it was registered in, or None where there was none.
    """

    __slots__ = ("committed", "errors", "is_running", "waiting")

    def __init__(self) -> None:
        """Hold none."""
        self.committed: set[SessionTransaction] = set()
        self.errors: list[Exception] = []
        self.is_running: bool = False
        self.waiting: list[tuple[SessionTransaction | None, Callable[[], object]]] = []

    def add(self, session: Session, callback: Callable[[], object]) -> None:
        """Keep *callback* until the transaction that *session* is in now has been committed."""
        self.waiting.append((innermost(session), callback))

    def begin(self, transaction: SessionTransaction) -> None:
        """Let what has waited for a transaction belong to this one."""
        self.waiting = [(owner or transaction, callback) for owner, callback in self.waiting]

    def drop(self, transaction: SessionTransaction) -> None:
        """Forget what was registered in *transaction*, or in a savepoint of it."""
        self.waiting = [one for one in self.waiting if not is_within(one[0], transaction)]

    def run(self, session: Session, transaction: SessionTransaction) -> None:
        """Call what was registered in *transaction*, which has been committed, and what that registers.

        Raises:
            Exception: The first error of a callback, when all have run.
        """
        ready = [callback for owner, callback in self.waiting if is_within(owner, transaction)]
        self.drop(transaction)
        is_outermost, self.is_running = not self.is_running, True
        collected: list[Exception] | None = session.info.get(_COLLECTED)  # now: `remove()` may do away with it
        try:
            while ready:
                self._call(session, ready.pop(0))
                ready += [callback for owner, callback in self.waiting if owner is None]
                self.waiting = [one for one in self.waiting if one[0] is not None]
        except BaseException:
            log_errors(self.taken_errors())
            raise
        finally:
            self.is_running = not is_outermost
        if not is_outermost:
            return
        errors = self.taken_errors()
        if collected is not None:
            collected += errors
        elif errors:
            log_errors(errors[1:])
            raise errors[0]

    def taken_errors(self) -> list[Exception]:
        """Return the errors of the callbacks that have run, and forget them."""
        errors, self.errors = self.errors, []
        return errors

    def _call(self, session: Session, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception as error:
            self.errors.append(error)
        else:
            for tell in on_run:
                tell(callback)
        finally:
            if session.in_transaction():
                transaction.give_back(session)


on_run: list[Callable[[Callable[[], object]], object]] = []
"""Are called with each callback that has run and has not raised."""


def _callbacks_of(session: Session) -> Callbacks:
    callbacks: Callbacks = session.info.setdefault(AWAITED, Callbacks())
    return callbacks


@cache
def _listen() -> None:
    """Follow the transactions of all sessions, from the first callback on."""
    for name, listener in (
        ("after_transaction_create", _after_transaction_create),
        ("before_commit", _before_commit),
        ("after_commit", _after_commit),
        ("after_transaction_end", after_transaction_end),
    ):
        event.listen(Session, name, listener, insert=True)  # before one of the user's, which may raise


def _after_transaction_create(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None and (callbacks := session.info.get(AWAITED)):
        callbacks.begin(transaction)


def _before_commit(session: Session) -> None:
    if awaited(session):
        note_awaited(session)


def _after_commit(session: Session) -> None:
    """Note which transaction has been committed; a savepoint that is released is one, too."""
    if callbacks := session.info.get(AWAITED):
        transaction = innermost(session)
        assert transaction is not None  # it is left afterwards
        callbacks.committed.add(transaction)


def after_transaction_end(session: Session, transaction: SessionTransaction) -> None:
    """Drop the callbacks of a transaction that was not committed, and run those of one that was.

    Here SQLAlchemy has left the transaction; in ``after_commit`` no SQL can be sent.
    """
    callbacks: Callbacks | None = session.info.get(AWAITED)
    if callbacks is None:
        return
    if transaction not in callbacks.committed:
        callbacks.drop(transaction)
    callbacks.committed.discard(transaction)
    if transaction.parent is None:
        callbacks.run(session, transaction)
