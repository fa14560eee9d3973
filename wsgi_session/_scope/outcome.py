"""The outcome of a scope: its sessions are committed, rolled back, or left; once, and all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from .. import callbacks
from .._session import commits, transaction
from .._session.makeup import is_open_block
from ..errors import PartialCommitError
from . import losses
from .life import COMMITTED, DOOMED, OPEN, ROLLED_BACK, SETTLING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from .base import BaseScope


on_complete: list[Callable[[BaseScope], object]] = []
"""Are called with the scope of a response of which the server has all, so that only ``close()`` is to come."""


def commit(scope: BaseScope) -> list[Exception]:
    """Commit every session that is in a transaction, that of the scope's own registry last.

    Also one that has begun while another was being committed, as for an audit log, and one for whose commit a callback
    waits.

    Returns:
        The errors of the callbacks of `on_commit`.

    Raises:
        OpenTransactionError: If one is still inside a ``session.begin()`` block; nothing was committed then.
        PartialCommitError: If a commit failed after another had succeeded.
    """
    committed: list[Session] = []
    errors: list[Exception] = []
    scope.outcome = SETTLING  # it is too late for doom()
    try:
        waiting = _uncommitted(scope, committed)
        for session in waiting:
            commits.refuse_open_block(session, scope)
        if len(waiting) > 1:
            for session in waiting:
                commits.refuse_lost(session)
        while waiting:
            errors += _commit_after(committed, waiting[0])
            committed.append(waiting[0])
            waiting = _uncommitted(scope, committed) if scope.others else []
    except BaseException as error:
        callbacks.log_errors(errors)
        roll_back(scope, error)
        raise
    scope.outcome = COMMITTED
    return errors


def commit_block(scope: BaseScope) -> None:
    """Commit a block that was left without an error, unless it was doomed.

    Raises:
        Exception: The first error of a callback of `on_commit`; everything is committed then.
    """
    if scope.outcome is DOOMED:
        roll_back(scope)
    elif errors := commit(scope):
        callbacks.log_errors(errors[1:])
        raise errors[0]


def roll_back(scope: BaseScope, error: BaseException | None = None) -> None:
    """Roll back every session of a *scope* that has failed, with *error* if that is known.

    It abandons those whose connections an error has left in a state nobody knows.
    """
    scope.fail(error)
    if scope.state in (OPEN, DOOMED, SETTLING):  # open: where nothing is settled, an error of a step has no other mark
        scope.outcome = ROLLED_BACK
    built = scope.built()
    for session in built:
        callbacks.forget(session)
    undo = transaction.abandon if is_fatal(error) else transaction.roll_back
    call_each(partial(undo, session) for session in reversed(built) if session.in_transaction())


def finish(scope: BaseScope) -> None:
    """Give the connections back, for the response is complete.

    A ``session.begin()`` block keeps its own, and so does a cursor that is still being read, for it would speak on a
    connection that may be another request's by then.
    """
    for tell in on_complete:
        tell(scope)
    unreleased = [session for session in scope.built() if not transaction.try_release(session)]
    sessions = [session for session in unreleased if not is_open_block(session)]
    if sessions:
        losses.warn(scope, sessions)
        for session in sessions:
            transaction.give_back_unless_read(session)


def release_reads(scope: BaseScope) -> None:
    """Give back the connections of the sessions that have only read, where `Scope.release` would not be refused."""
    for session in scope.built():
        if not callbacks.awaited(session):
            transaction.release_reads(session)


def is_fatal(error: BaseException | None) -> bool:
    """Say whether *error* may have struck in the middle of a statement: a worker's timeout, a killed greenlet."""
    return error is not None and not isinstance(error, Exception | GeneratorExit)


def call_each(calls: Iterable[Callable[[], object]]) -> None:
    """Make all of *calls*, whatever they raise; the last error is raised, with the one before as its context.

    As an `ExitStack` does, at a third of what that costs.
    """
    calls = iter(calls)
    try:
        for call in calls:
            call()
    except BaseException:
        call_each(calls)
        raise


def _uncommitted(scope: BaseScope, committed: list[Session]) -> list[Session]:
    return [
        session
        for session in scope.built()
        if session not in committed and (session.in_transaction() or callbacks.awaited(session))
    ]


def _commit_after(committed: list[Session], session: Session) -> list[Exception]:
    try:
        return _commit(session)
    except Exception as error:
        if not committed:
            raise
        raise PartialCommitError(
            f"{session!r} on {session.bind!r} could not be committed, after"
            f" {committed[-1]!r} on {committed[-1].bind!r} had been: {error}"
        ) from error


def _commit(session: Session) -> list[Exception]:
    """Commit *session*; where nothing has begun, its callbacks are called all the same.

    Returns:
        What has failed after COMMIT: callbacks, and a listener of the session's or of the pool's.

    Raises:
        Exception: What COMMIT has raised; nothing is committed then, and no callback has run.
    """
    begun = session.get_transaction() or session.begin()
    commits.forget_commits(session)
    errors = callbacks.collect(session)
    try:
        session.commit()
    except Exception as error:
        if not commits.is_committed(session, begun):
            raise
        errors.append(error)
        commits.finish_commit(session)
        callbacks.after_transaction_end(session, begun)  # which was not called, if a listener of the pool's has raised
    finally:
        callbacks.collect_no_more(session)
    return errors
