"""The isolated block: everything that happens in it is one transaction on each engine, that is rolled back."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from .._scope.membership import scope_of_session
from .._session import changes, engines, lazy
from .._session.transaction import release, why_not_release
from ..observe._callers import Callers
from ..observe._labels import label_of
from ..observe._shapes import HARMLESS, shape_of
from ._enclosure import CHECK, FIXED, Enclosure, Stay
from ._isolation import Isolation, is_of_root, name_of
from ._leaks import never_closed

if TYPE_CHECKING:
    from sqlalchemy.orm import SessionTransaction
    from sqlalchemy.pool import Pool

_SHADOWS = {"join_transaction_mode": "create_savepoint", "twophase": False}
"""What is otherwise for a session in an isolated block."""

_REMEDY = "Use 'committing()' for such a test."


class isolated(Isolation):  # noqa: N801
    """Run a test in one transaction on each engine, that is rolled back: a block.  Lives as long as that.

    ::

        with isolated() as isolation:
            session = isolation.session(Session)
            session.add(User(name="ada"))
            session.commit()
            assert "ada" in TestApp(application).get("/users")

    The sessions of all registries are in it, whoever has made these. Their commits are real for everyone inside, and
    nobody outside ever sees them. It means the same as, written out for one session::

        connection = engine.connect()
        transaction = connection.begin()
        session = factory(bind=connection, join_transaction_mode="create_savepoint")
        try:
            ...
        finally:
            session.close()
            transaction.rollback()
            connection.close()

    with the application's own sessions in place of one of the test's. What would fool the test is an `IsolationError`
    at once, or at the end of the block if the application has swallowed it.
    """

    def __init__(self) -> None:
        """Prepare a block."""
        super().__init__()
        self._callers = Callers()
        self._enclosures: dict[Pool, Enclosure] = {}
        self._foreign: list[tuple[Engine, str]] = []
        self._shadowed: list[tuple[Session, dict[str, Any]]] = []

    def _listeners(self) -> list[tuple[Any, str, Any]]:
        return [
            (Session, "after_commit", self._after_commit),
            (Session, "after_transaction_end", self._after_transaction_end),
            (Session, "before_commit", self._before_commit),
            (Engine, "before_cursor_execute", self._before_execute),
            (Engine, "commit", self._on_commit),
            (Engine, "set_connection_execution_options", self._on_options),
        ]

    def _undo(self) -> None:
        for session, shadowed in self._shadowed:
            attributes = lazy.attributes_of(session)
            if attributes.pop("get_bind", None) is not None:
                attributes.update(shadowed)
        for engine, problem in self._foreign:
            if self._is_known(engine):
                self._problems.note(problem)

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
        self._refuse_threads(bind)
        enclosure = self._enclosure_of(bind)
        if all(stay.session is not session for stay in enclosure.stays):
            self._make_way(enclosure, session)
        return enclosure.connection

    def _refuse_threads(self, engine: Engine) -> None:
        if self._is_other_thread():
            self._problems.refuse(
                f"A second thread uses {label_of(engine)}, and one connection cannot serve two threads. {_REMEDY}"
            )

    def _enclosure_of(self, engine: Engine) -> Enclosure:
        enclosure = self._enclosures.get(engine.pool)
        if enclosure is None:
            enclosure = self._enclosures[engine.pool] = self._enclose(engine)
        elif reason := enclosure.why_not(engine):
            self._problems.refuse(
                f"The sessions of one test share the connection of {enclosure.label};"
                f" one of them wants {reason}. {_REMEDY}"
            )
        enclosure.adapt(engine)
        return enclosure

    def _enclose(self, engine: Engine) -> Enclosure:
        connection = engine.connect()
        self._leaks.disregard(connection.connection.dbapi_connection)
        if engines.is_autocommit(connection):
            connection.close()
            self._problems.refuse(
                f"{label_of(engine)} commits each statement by itself, which nothing can undo. {_REMEDY}"
            )
        enclosure = Enclosure(connection)
        self._stack.callback(self._end, enclosure)
        return enclosure

    def _end(self, enclosure: Enclosure) -> None:
        if gone := enclosure.end():
            self._problems.note(gone)

    def _make_way(self, enclosure: Enclosure, session: Session) -> None:
        """End what is still open of others before *session* begins: the savepoints of a connection are a stack."""
        scope = scope_of_session(session)
        if scope is not None:
            self._refuse_changes(session)
        for stay in reversed(list(enclosure.stays)):
            if not stay.has_written and why_not_release(stay.session) is None:
                release(stay.session)
            elif not _is_around(scope_of_session(stay.session), scope):
                self._problems.refuse(_why_in_the_way(stay.session, session))

    def _refuse_changes(self, session: Session) -> None:
        """Refuse changes of the test's own sessions that *session*, which is a request's, would not see."""
        for own in self.sessions:
            if lost := changes.of(own):
                self._problems.refuse(
                    f"{name_of(own)} has changes that are not committed ({lost}),"
                    f" which {name_of(session)} would not see in production. Commit or roll back before."
                )

    def _after_begin(self, session: Session, transaction: SessionTransaction, connection: Connection) -> None:
        super()._after_begin(session, transaction, connection)
        enclosure = self._enclosure_around(connection)
        if enclosure is not None and transaction.parent is None:
            enclosure.stays.append(Stay(session, transaction))
            enclosure.begin()

    def _before_commit(self, session: Session) -> None:
        """Do what the COMMIT would do that is none here: have the last word, and check the deferred constraints."""
        if not is_of_root(session):
            return
        session.flush()
        for enclosure in self._enclosures.values():
            if any(stay.session is session for stay in enclosure.stays):
                enclosure.have_last_word()
                enclosure.check_constraints()

    def _after_commit(self, session: Session) -> None:
        if not is_of_root(session):
            return
        for enclosure in self._enclosures.values():
            enclosure.commit(session, name_of(session))
        self._refresh_own(session)

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is not None:
            return
        for enclosure in self._enclosures.values():
            if survivor := enclosure.leave(transaction):
                self._problems.note(
                    f"A rollback has undone what was committed within its transaction. {name_of(session)} was rolled"
                    f" back; {survivor} had committed, and in production that stays. {_REMEDY}"
                )

    def _before_execute(
        self, connection: Connection, _cursor: object, statement: str, _parameters: object, context: Any, _many: bool
    ) -> None:
        enclosure = self._enclosure_around(connection)
        if enclosure is None or context.execution_options.get(CHECK):
            return
        if shape_of(statement, connection.dialect.name).kind not in HARMLESS:
            for stay in enclosure.stays:
                stay.has_written = True

    def _on_commit(self, connection: Connection) -> None:
        """Refuse a COMMIT that would be real."""
        line = self._callers.line()
        problem = (
            f"A connection to {label_of(connection.engine)} was committed outside of the test's transaction"
            f"{f' at {line}' if line else ''}; nothing can undo that. Use the session of a registry there."
            f" {_REMEDY}"
        )
        if self._enclosure_around(connection) is not None or self._is_known(connection.engine):
            self._problems.refuse(problem)
        self._foreign.append((connection.engine, problem))

    def _on_options(self, connection: Connection, options: dict[str, Any]) -> None:
        fixed = [name for name in FIXED if name in options]
        if fixed and self._enclosure_around(connection) is not None:
            self._problems.refuse(
                f"{fixed[0]}={options[fixed[0]]!r} was asked for in the test's transaction, which has begun long ago."
                f" Give it to the engine, for all of the test. {_REMEDY}"
            )

    def _enclosure_around(self, connection: Connection) -> Enclosure | None:
        enclosure = self._enclosures.get(connection.engine.pool)
        return enclosure if enclosure is not None and enclosure.connection is connection else None

    def _is_known(self, engine: Engine) -> bool:
        return engine.pool in self._enclosures


def _why_in_the_way(session: Session, other: Session) -> str:
    scope = scope_of_session(session)
    if scope is not None and scope.environ is not None:
        return never_closed(scope)
    return (
        f"{name_of(session)} is in a transaction that has written, or is a 'begin()' block. {name_of(other)} would not"
        " see in production what it has done: commit or roll back before."
    )


def _is_around(outer: Any, scope: Any) -> bool:
    """Say whether *outer* is *scope*, or one around it, so that it ends later."""
    while scope is not None:
        if scope is outer:
            return True
        scope = scope.outer
    return False
