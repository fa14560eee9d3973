"""The isolated block: everything that happens in it is one transaction on each engine, that is rolled back."""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from .. import callbacks
from .._scope.look import is_around
from .._scope.membership import scope_of_session
from .._session import changes, forms, traces
from .._session.transaction import release
from ..observe._shapes import BOOKKEEPING, HARMLESS, shape_of
from ._enclosure import CHECK, FIXED
from ._enclosures import Enclosures
from ._isolation import Isolation, capitalized, is_of_root, name_of
from ._leaks import never_closed
from ._problems import REMEDY
from ._strangers import Strangers

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Self

    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.orm import SessionTransaction

    from ._enclosure import Enclosure
    from ._savepoints import Stay

_SHADOWS = {"join_transaction_mode": "create_savepoint", "twophase": False}
"""What is otherwise for a session in an isolated block."""


class isolated(Isolation):  # noqa: N801
    """Run a test in one transaction on each engine, that is rolled back: a block.  Lives as long as that.

    ::

        with isolated() as isolation:
            session = isolation.session(Session)
            session.add(User(name="ada"))
            session.commit()
            assert "ada" in TestApp(application).get("/users")

    It takes in the sessions of all registries, whoever made them. Everyone in the block sees what they commit, and
    nobody outside does. Written out for one session, it means::

        connection = engine.connect()
        transaction = connection.begin()
        session = factory(bind=connection, join_transaction_mode="create_savepoint")
        try:
            ...
        finally:
            session.close()
            transaction.rollback()
            connection.close()

    but with the application's own sessions in place of the test's. If something would make the test pass or fail
    wrongly, an `IsolationError` is raised at once, and again at the end of the block if the application swallowed it.
    """

    def __init__(self) -> None:
        """Prepare a block."""
        super().__init__()
        self._enclosures = Enclosures(self._leaks, self._problems)
        self._strangers = Strangers(self._enclosures, self._problems)
        self._shadowed: list[tuple[Session, dict[str, Any]]] = []

    def __enter__(self) -> Self:
        """Begin, as every `Isolation` does."""
        super().__enter__()
        self._follow(traces.showing, self._showing)
        return self

    def _listeners(self) -> list[tuple[Any, str, Any]]:
        return [
            (Session, "after_commit", self._after_commit),
            (Session, "after_transaction_end", self._after_transaction_end),
            (Session, "before_commit", self._before_commit),
            (Engine, "after_cursor_execute", self._after_execute),
            (Engine, "before_cursor_execute", self._before_execute),
            (Engine, "commit", self._on_commit),
            (Engine, "handle_error", self._on_error),
            (Engine, "release_savepoint", self._on_release),
            (Engine, "rollback_savepoint", self._on_rollback),
            (Engine, "set_connection_execution_options", self._on_options),
        ]

    def _undo(self) -> None:
        for session, shadowed in self._shadowed:
            attributes = forms.attributes_of(session)
            if attributes.pop("get_bind", None) is not None:
                attributes.update(shadowed)
        self._strangers.tell()
        self._enclosures.end()

    def _on_build(self, session: Session) -> None:
        """Have *session* find the connection of the block where it would find an engine."""
        super()._on_build(session)
        attributes = vars(session)
        shadowed = {name: attributes[name] for name in (*_SHADOWS, "get_bind") if name in attributes}
        attributes.update(_SHADOWS, get_bind=partial(self._bind, weakref.ref(session), shadowed.get("get_bind")))
        self._shadowed.append((session, shadowed))

    def _bind(self, weakly: weakref.ref[Session], own: Any, *args: Any, **kw: Any) -> Any:
        """Find the engine as the session does by itself, and return the block's connection for it."""
        session = weakly()
        assert session is not None
        bind = type(session).get_bind(session, *args, **kw) if own is None else own(*args, **kw)
        if not isinstance(bind, Engine):
            return bind
        enclosure = self._enclosures.of(bind)
        self._refuse_other_threads(enclosure)
        enclosure.adapt(bind)
        stay, is_lent = enclosure.savepoints.stay_of(session), not args and "clause" not in kw
        if stay is None:
            self._make_way(enclosure, session)
            enclosure.savepoints.prepare(is_lent=is_lent)
        else:
            enclosure.savepoints.use(stay, is_lent=is_lent)
        return enclosure.connection

    def _refuse_other_threads(self, enclosure: Enclosure) -> None:
        if enclosure.busy not in (None, threading.get_ident()):
            self._problems.refuse(_why_not_at_once(enclosure))

    def _make_way(self, enclosure: Enclosure, session: Session) -> None:
        """End what is still open of others before *session* begins: the savepoints of a connection are a stack."""
        scope = scope_of_session(session)
        if scope is not None:
            self._refuse_changes(session)
        for stay in reversed(enclosure.savepoints.stays):
            other = scope_of_session(stay.session)
            ends_later = is_around(other, scope)
            if other is not None and not ends_later and stay.thread != threading.get_ident():
                self._problems.refuse(_why_not_at_once(enclosure))
            if not enclosure.savepoints.has_written(stay):
                if stay.undone_by is None and callbacks.why_not_release(stay.session) is None:
                    release(stay.session)
            elif not ends_later:
                self._problems.refuse(_why_in_the_way(stay.session, session))

    @contextmanager
    def _showing(self, session: Session) -> Generator[None]:
        """Have the connections show what *session* has left on them, which others use, too."""
        with ExitStack() as stack:
            for enclosure, stay in self._stays_of(session):
                stack.enter_context(enclosure.savepoints.showing(stay))
            yield

    def _refuse_changes(self, session: Session) -> None:
        """Refuse changes of the test's own sessions that *session*, which is a request's, would not see."""
        for own in self.sessions:
            if lost := changes.of(own):
                self._problems.refuse(
                    f"{capitalized(name_of(own))} has changes that are not committed ({lost}). In production"
                    f" {name_of(session)} would not see them: commit or roll back before."
                )

    def _after_begin(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        super()._after_begin(session, transaction, connection)
        if enclosure := self._enclosures.around(connection):
            enclosure.savepoints.add(session, transaction, name_of(session))

    def _before_commit(self, session: Session) -> None:
        """Do what the COMMIT would do that is none here: have the last word, and check the deferred constraints."""
        if not is_of_root(session):
            return
        session.flush()
        for enclosure, stay in self._stays_of(session):
            if stay.undone_by is not None:
                self._problems.refuse(_why_undone(stay))
            enclosure.have_last_word(stay)
            enclosure.check_constraints()

    def _after_commit(self, session: Session) -> None:
        if not is_of_root(session):
            return
        for _, stay in self._stays_of(session):
            stay.has_committed = True
        self._refresh_own(session)

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            for enclosure, _ in self._stays_of(session):
                enclosure.savepoints.leave(transaction)

    def _on_release(self, connection: Connection, name: str, _context: object) -> None:
        if enclosure := self._enclosures.around(connection):
            enclosure.savepoints.before_release(name)

    def _on_rollback(self, connection: Connection, name: str, _context: object) -> None:
        if enclosure := self._enclosures.around(connection):
            for stay in enclosure.savepoints.before_rollback(name):
                self._problems.note(_why_undone(stay))

    def _before_execute(
        self, connection: Connection, _cursor: object, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        if context.execution_options.get(CHECK):
            return
        enclosure = self._enclosures.around(connection)
        if enclosure is None:
            self._strangers.on_execute(connection, statement, _kind(connection, statement) in HARMLESS)
            return
        self._refuse_other_threads(enclosure)
        if ignored := enclosure.why_ignored(statement):
            self._problems.refuse(ignored)
        enclosure.busy = threading.get_ident()

    def _after_execute(
        self, connection: Connection, _cursor: object, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        enclosure = self._enclosures.around(connection)
        if enclosure is None or context.execution_options.get(CHECK):
            return
        enclosure.busy = None
        enclosure.note_statement(statement)
        kind = _kind(connection, statement)
        if kind not in BOOKKEEPING:
            enclosure.savepoints.note_statement(is_write=kind not in HARMLESS)

    def _on_error(self, context: ExceptionContext) -> None:
        enclosure = None if context.connection is None else self._enclosures.around(context.connection)
        if enclosure is not None:
            enclosure.busy = None
            enclosure.note_error(context.original_exception)

    def _on_commit(self, connection: Connection) -> None:
        self._strangers.on_commit(connection)

    def _on_options(self, connection: Connection, options: dict[str, Any]) -> None:
        fixed = [name for name in FIXED if name in options]
        if fixed and self._enclosures.around(connection) is not None:
            self._problems.refuse(
                f"{fixed[0]}={options[fixed[0]]!r} was asked for in the test's transaction, which has begun long ago."
                f" Give it to the engine, for all of the test. {REMEDY}"
            )

    def _stays_of(self, session: Session) -> list[tuple[Enclosure, Stay]]:
        """List the transactions of *session* on all databases."""
        found = [(one, one.savepoints.stay_of(session)) for one in self._enclosures]
        return [(enclosure, stay) for enclosure, stay in found if stay is not None]

    def _may_refresh_own(self) -> bool:
        """Say that the threads of the block take turns."""
        return True


def _kind(connection: Connection, statement: str) -> str:
    return shape_of(statement, connection.dialect.name).kind


def _why_not_at_once(enclosure: Enclosure) -> str:
    return (
        f"Two threads use {enclosure.label} at the same time, and in the test they share one connection. One after the"
        f" other they may, as the threads of async views do. {REMEDY}"
    )


def _why_undone(stay: Stay) -> str:
    return (
        f"A rollback of {stay.undone_by} has undone what was written by {stay.name}, because it had begun to write"
        f" before on the same connection. In production that stays. {REMEDY}"
    )


def _why_in_the_way(session: Session, other: Session) -> str:
    scope = scope_of_session(session)
    if scope is not None and scope.environ is not None:
        return never_closed(scope)
    return (
        f"{capitalized(name_of(session))} is in a transaction that has written. In production {name_of(other)} would"
        " not see what it has done: commit or roll back before."
    )
