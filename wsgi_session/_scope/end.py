"""The end of a scope: its sessions are closed, their use is over, and its hooks run; exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import _fork
from .._log import log
from .._session import forms, lazy, transaction
from . import losses
from .life import OVER, UNTOUCHED
from .look import enter, leave, look, nearest_open
from .outcome import call_each, is_fatal

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ..scope import EndHook
    from .base import BaseScope
    from .notes import Notes


def end(scope: BaseScope, error: BaseException | None = None) -> None:
    """Close the sessions, end their use and run the hooks, once, whatever a part of it raises.

    Args:
        scope: The scope.
        error: What is on its way while it ends.
    """
    terms = scope.terms
    if scope.life is OVER or terms.generation != _fork.generation:
        return
    notes = scope.notes if terms.is_recorded else None
    if scope.life is UNTOUCHED:  # in step with `SessionMiddleware.__call__`
        if not terms.hooks and (notes is None or (error is None and look() is scope)):
            terms.source.end(scope.session)
            scope.life = OVER
            if notes is not None:
                notes.end(scope)
            if scope.outer is not None:
                scope.outer = nearest_open(scope.outer)
            return
        scope.touch()
    _end_touched(scope, error, notes)


def disown(scope: BaseScope) -> None:
    """End *scope* in a child process, without a word to the database: the connections are the parent's."""
    scope.touch()
    for source, session in scope.sessions():
        _fork.kept.append(session)
        source.end(session)
    scope.life = OVER


def _end_touched(scope: BaseScope, error: BaseException | None, notes: Notes | None) -> None:
    try:
        if error is None:
            losses.warn(scope, scope.built())
        else:
            scope.fail(error)
    finally:
        scope.life = OVER
        token = None if look() is scope else enter(scope)  # for what runs in the scope that has ended
        try:
            if scope.hooks or scope.others:
                call_each(_steps(scope, error, notes))
            else:  # the same, where there is one session only
                try:
                    _end_session(scope.terms.source, scope.session, error)
                finally:
                    if notes is not None:
                        notes.end(scope)
        finally:
            scope.hooks = scope.others = ()
            if scope.outer is not None:
                scope.outer = nearest_open(scope.outer)
            if token is not None:
                leave(token)


def _steps(scope: BaseScope, error: BaseException | None, notes: Notes | None) -> Iterator[Callable[[], object]]:
    for source, session in reversed([*scope.sessions()]):
        yield partial(_end_session, source, session, error)
    of_middleware = len(scope.terms.hooks)
    for hook in scope.hooks[:of_middleware]:
        yield partial(_run, hook, scope)
    if notes is not None:
        yield partial(notes.end, scope)
    for hook in scope.hooks[of_middleware:]:
        yield partial(_run, hook, scope)


def _end_session(source: lazy.SessionSource[Any], session: Session, error: BaseException | None) -> None:
    if not forms.is_built(session):
        source.end(session)
        return
    info = session.info
    try:
        if error is not None and is_fatal(error):
            transaction.abandon(session)
    finally:
        try:
            transaction.close(session)
        finally:
            for key in [*info]:
                if isinstance(key, str) and key.startswith("wsgi_session."):  # it refers to the session
                    del info[key]
            source.end(session)


def _run(hook: EndHook, scope: BaseScope) -> None:
    try:
        hook(scope)
    except Exception:
        log.exception("End hook %r of %r failed.", hook, scope)
