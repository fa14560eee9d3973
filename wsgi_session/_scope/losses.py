"""The losses: what a response that did not fail has not committed, said once, with what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _wsgi, callbacks
from .._log import log
from .._session import changes
from ..commit import SAFE_METHODS, never, on_unsafe_success, until_close
from .life import COMMITTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIEnvironment

    from sqlalchemy.orm import Session

    from .base import BaseScope

_OF_WHAT_IS_THROWN_AWAY = "Commit before that, or take it out: the session is ended for you."


def note(scope: BaseScope, session: Session, described: Callable[[], str]) -> None:
    """Note that what *session* has not committed is thrown away; said later, if the response does not fail.

    Args:
        scope: Of the session.
        session: Which is about to forget it.
        described: Says what does that, such as ``"'session.close()'"``.
    """
    if scope.lost is not None and (lost := _lost_with(scope, session)):
        scope.lost += (f"{lost}, thrown away by {described()}",)


def warn(scope: BaseScope, sessions: list[Session]) -> None:
    """Say in the log what is lost, with *sessions* and before, if a word is still to be said of it."""
    if scope.lost is None:
        return
    suspects = [session for session in sessions if changes.may_be_in(session)]
    if not suspects and not scope.lost:
        return
    left = [f"{lost}, not committed" for session in suspects if (lost := _lost_with(scope, session))]
    what = "; ".join((*scope.lost, *left))
    if what:
        scope.lost = None
        environ = scope.environ
        remedy = _remedy(environ, scope) if left else _OF_WHAT_IS_THROWN_AWAY
        log.warning(
            "%s has lost what it wrote: %s. %s",
            "A block of session_scope()" if environ is None else _wsgi.method_and_path(environ),
            what,
            remedy,
        )
        if environ is not None and (notes := scope.notes) is not None:
            notes.lose(what, remedy)


def _lost_with(scope: BaseScope, session: Session) -> str:
    """Describe what would be lost with *session*; empty if there is nothing, or nobody knows."""
    try:
        seen = changes.of(session) if session.in_transaction() else ""
        return ", ".join(filter(None, (seen, callbacks.awaited(session))))
    except Exception:  # a column type of the user's may fail to compare
        log.exception("%r: what it leaves uncommitted could not be found out.", scope)
        return ""


def _remedy(environ: WSGIEnvironment | None, scope: BaseScope) -> str:
    rule = scope.terms.commit
    if environ is None:
        return "Call 'session.commit()' in the block, or leave out 'commit=False'."
    if rule is until_close:
        return "Call 'session.commit()' before the response is closed."
    if rule is never:
        return (
            "Call 'session.commit()' in the view, before it returns, or have the middleware do it:"
            " 'SessionMiddleware(..., commit=on_unsafe_success)'."
        )
    if scope.outcome is COMMITTED:
        return "A rule commits before the first byte: what is written later has to be committed where it is written."
    method = environ["REQUEST_METHOD"]
    if rule is on_unsafe_success and method in SAFE_METHODS:
        return (
            f"'on_unsafe_success' commits no {method}, which is a safe method. Write in a POST, or call"
            " 'session.commit()' in the view."
        )
    name = getattr(rule, "__name__", repr(rule))
    return f"The rule {name!r} has not committed it: call 'session.commit()' in the view, or use another rule."
