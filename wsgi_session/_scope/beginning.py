"""The beginning of a transaction: what a request sets up in it, before its first statement."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, func, select
from sqlalchemy.exc import PendingRollbackError

from .._session import engines, listening
from ..errors import AutocommitError
from .membership import scope_of_session

if TYPE_CHECKING:
    from sqlalchemy import Connection, Transaction
    from sqlalchemy.orm import Session, SessionTransaction

    from ..scope import SetUpHook
    from .base import BaseScope


def listen(hook: SetUpHook) -> SetUpHook:
    """Have the transactions of requests set up, from now on, as `Terms.on_begin` says, such as *hook*."""
    if _after_begin not in listening.on_begin:
        listening.on_begin.append(_after_begin)
    return hook


def _after_begin(session: Session, begun: SessionTransaction, connection: Connection) -> None:
    """Set up a transaction that has begun; if that fails, nothing can be sent in it: it may see everybody's rows."""
    scope = scope_of_session(session)
    if scope is None or scope.terms.on_begin is None or begun.nested or not _is_own(scope, session):
        return
    try:
        _set_up(scope, scope.terms.on_begin, connection)
    except BaseException as error:
        refuse = partial(_refuse, error, connection.get_transaction())
        event.listen(connection, "before_cursor_execute", refuse)
        raise


def _refuse(error: BaseException, begun: Transaction | None, connection: Connection, *_of_the_event: object) -> None:
    """Let no statement go on in a transaction that was not set up.

    Raises:
        sqlalchemy.exc.PendingRollbackError: From what has kept it from that.
    """
    if connection.get_transaction() is begun:
        raise PendingRollbackError(
            "The transaction could not be set up by 'on_begin', so nothing is sent in it. After 'session.rollback()'"
            " another one begins, and is set up."
        ) from error


def _is_own(scope: BaseScope, session: Session) -> bool:
    """Say whether *session* is of the registry that *scope* was opened for."""
    return any(source is scope.terms.source and one is session for source, one in scope.sessions())


def _set_up(scope: BaseScope, hook: SetUpHook, connection: Connection) -> None:
    if engines.is_autocommit(connection):
        raise AutocommitError(
            f"{scope!r}: {connection.engine!r} is in AUTOCOMMIT, so there is no transaction for 'on_begin' to set up."
            " Use an engine without 'isolation_level=\"AUTOCOMMIT\"', or a SessionMiddleware without 'on_begin'."
        )
    assert scope.environ is not None  # only a request has terms with a hook
    settings: Any = hook(connection, scope.environ)
    if settings is None:
        return
    if not isinstance(settings, Mapping) or connection.dialect.name != "postgresql":
        raise TypeError(
            f"{hook!r} returned {settings!r} for {connection.engine!r}. It may return None, or on PostgreSQL a mapping"
            " of settings, such as {'app.tenant': '7'}."
        )
    if settings:
        connection.execute(select(*(func.set_config(name, str(value), True) for name, value in settings.items())))
