"""The beginning of a transaction: what a request sets up in it, before its first statement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import event, func, select
from sqlalchemy.exc import PendingRollbackError

from .._log import log
from .._session import engines, listening
from .._wsgi import method_and_path
from ..errors import AutocommitError, DeadlineExceededError
from .membership import scope_of_session

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from sqlalchemy import Connection, Engine, Transaction
    from sqlalchemy.orm import Session, SessionTransaction

    from ..scope import SetUpHook
    from .base import BaseScope


DEADLINE = "wsgi_session.deadline"
"""The key of the environ under which the time is, of `time.monotonic`, at which the request is to be over."""

LATE = "wsgi_session.late"
"""The key under which the error is of a transaction that was to begin after that."""


def listen() -> None:
    """Have the transactions of requests set up, from now on, as their terms and their deadlines say."""
    if _after_begin not in listening.on_begin:
        listening.on_begin.append(_after_begin)


def _after_begin(session: Session, begun: SessionTransaction, connection: Connection) -> None:
    """Set up a transaction that has begun; if that fails, nothing can be sent in it: it may see everybody's rows."""
    scope = scope_of_session(session)
    if scope is None or scope.environ is None or begun.nested:
        return
    try:
        hook = scope.terms.on_begin
        settings = {} if hook is None or not _is_own(scope, session) else _settings_of(hook, scope, connection)
        settings |= _time_left(scope.environ, connection)
        if settings:
            connection.execute(select(*(func.set_config(name, str(value), True) for name, value in settings.items())))
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
            "The transaction could not be set up, by 'on_begin' or for a deadline, so nothing is sent in it. After"
            " 'session.rollback()' another one begins, and is set up."
        ) from error


def _is_own(scope: BaseScope, session: Session) -> bool:
    """Say whether *session* is of the registry that *scope* was opened for."""
    return any(source is scope.terms.source and one is session for source, one in scope.sessions())


def _settings_of(hook: SetUpHook, scope: BaseScope, connection: Connection) -> dict[str, Any]:
    """Call a *hook*, and return what it wants to be set."""
    if engines.is_autocommit(connection):
        raise AutocommitError(
            f"{scope!r}: {connection.engine!r} is in AUTOCOMMIT, so there is no transaction for 'on_begin' to set up."
            " Use an engine without 'isolation_level=\"AUTOCOMMIT\"', or a SessionMiddleware without 'on_begin'."
        )
    assert scope.environ is not None  # only a request has terms with a hook
    settings: Any = hook(connection, scope.environ)
    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or connection.dialect.name != "postgresql":
        raise TypeError(
            f"{hook!r} returned {settings!r} for {connection.engine!r}. It may return None, or on PostgreSQL a mapping"
            " of settings, such as {'app.tenant': '7'}."
        )
    return dict(settings)


def _time_left(environ: WSGIEnvironment, connection: Connection) -> dict[str, int]:
    """Return what makes the database end a statement when the time of a request is over, if it has a deadline."""
    deadline = environ.get(DEADLINE)
    if deadline is None:
        return {}
    left = deadline - time.monotonic()
    if left <= 0:
        environ[LATE] = error = DeadlineExceededError(
            f"{method_and_path(environ)} has used up its time, so it begins no transaction any more."
        )
        raise error
    if connection.dialect.name != "postgresql" or engines.is_autocommit(connection):
        _mention_what_is_not_cut(connection.engine)
        return {}
    return {"statement_timeout": max(1, int(left * 1000))}


def _mention_what_is_not_cut(engine: Engine) -> None:
    if engine not in _mentioned:
        _mentioned.add(engine)
        log.warning(
            "%r: a deadline ends no statement here, only what would begin after it. PostgreSQL can, in a transaction.",
            engine,
        )


_mentioned: WeakSet[Engine] = WeakSet()
