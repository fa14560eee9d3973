"""The membership of a session: which scope it was made in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import getpid
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session
from sqlalchemy.orm.session import _sessions  # pyright: ignore[reportPrivateUsage]

from .. import _fork
from .._session import forms, lazy, leaving
from . import losses
from .end import disown
from .life import OVER, TOUCHED, UNTOUCHED

if TYPE_CHECKING:
    from .base import BaseScope

_KEY = "wsgi_session.scope"
"""The key of `Session.info` under which a session's scope is."""

on_build: list[Callable[[Any], object]] = []
"""Are called with each session that has been built, in a scope or for a thread."""


def scope_of_session(session: Session) -> BaseScope | None:
    """Return the scope that *session* was made in; None for one that was made by hand, or for a thread, or has ended.

    It is not touched by that.
    """
    attributes = forms.attributes_of(session)
    scope: BaseScope | None = attributes.get(forms.OWNER) or attributes.get("info", {}).get(_KEY)
    return scope


def scope_holding(session: Any, source: lazy.SessionSource[Any]) -> BaseScope | None:
    """Return the open scope in which *session*, which may be anything, is a registry's, by its *source*; else None."""
    scope = scope_of_session(session) if isinstance(session, Session) else None
    if scope is None:
        return None
    known = [(scope.terms.source, scope.session)] if scope.life is UNTOUCHED else scope.sessions()
    return scope if any(made is source and one is session for made, one in known) else None


def note_built(session: Session, scope: BaseScope | None) -> None:
    """Note a session that has been built.

    Args:
        session: The session.
        scope: The scope that it was made in, if any.

    Raises:
        ScopeEndedError: If that scope was inherited from a parent process.
    """
    if getpid() != _fork.pid:
        _fork.check()
    if scope is not None:
        if scope.life is OVER or scope.terms.generation != _fork.generation:
            scope.require_open()
        scope.touch()
        session.info[_KEY] = scope
    for tell in on_build:
        tell(session)


def _note_leaving(session: Session, frame: FrameType, name: str) -> None:
    scope = scope_of_session(session)
    if scope is not None and scope.life is TOUCHED:
        losses.note(scope, session, partial(leaving.described, frame, name))


leaving.on_leave.append(_note_leaving)


def _scopes_with_sessions() -> list[BaseScope]:
    """List the scopes that have a built session, in all threads.

    SQLAlchemy keeps the sessions already, under a name that is not public; a list of our own, of each session that is
    built and gone again, would cost every request more than all else that it is charged for.
    """
    found = [forms.attributes_of(session).get("info", {}).get(_KEY) for session in list(_sessions.values())]
    return [scope for scope in found if scope is not None]


_inherited: _fork.Inheritance[BaseScope] = _fork.Inheritance(disown, _scopes_with_sessions)
