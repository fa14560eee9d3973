"""The losses: what a response that did not fail leaves uncommitted, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import callbacks
from .._log import log
from .._session import transaction

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from .base import BaseScope


def warn(scope: BaseScope, sessions: list[Session]) -> None:
    """Say in the log what is lost with *sessions*, if a word is still to be said of it."""
    if not scope.may_warn:
        return
    losses: list[str] = []
    try:
        for session in sessions:
            if session.in_transaction() and (loss := transaction.changes(session)):
                losses.append(loss)
            if awaited := callbacks.awaited(session):
                losses.append(awaited)
    except Exception:  # a column type of the user's may fail to compare
        log.exception("%r: what it leaves uncommitted could not be found out.", scope)
        return
    if losses:
        scope.may_warn = False
        log.warning("%s leaves uncommitted, and so loses: %s.", repr(scope), "; ".join(losses))
