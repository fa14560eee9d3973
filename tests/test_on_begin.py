"""What a request sets up at the beginning of each transaction: ``SessionMiddleware(..., on_begin=...)``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import Session, sessionmaker

from tests.drivers import on_mariadb, on_postgresql, with_every_driver
from tests.helpers import add_words, answer, is_clean, request, words
from wsgi_session import (
    AutocommitError,
    RequestScopedSession,
    SessionMiddleware,
    current_scope,
    on_unsafe_success,
    session_scope,
)

KEY = "sqlalchemy.session"
TENANT = text("SELECT current_setting('app.tenant', true)")


def tenant_of(connection: Any, environ: Any) -> dict[str, Any]:
    """Set the tenant of the request."""
    return {"app.tenant": environ["tenant"]}


def by_statement(connection: Any, environ: Any) -> None:
    """Set the tenant of the request, by a statement of the hook's own."""
    connection.execute(text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": environ["tenant"]})


hooks = pytest.mark.parametrize("hook", [tenant_of, by_statement])


@pytest.fixture
def engine(engine_by: Callable[..., Engine], driver: str) -> Engine:
    """Return an engine by the driver that the test names."""
    return engine_by(driver)


class Begun:
    """Notes where it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[Engine, str]] = []

    def __call__(self, connection: Any, environ: Any) -> None:
        self.calls.append((connection.engine, environ["PATH_INFO"]))


@hooks
@on_postgresql
def test_each_transaction_has_the_tenant(engine: Engine, hook: Any) -> None:
    """It is set again after a commit, a rollback and an early give-back, in savepoints, and in the body."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]

        def look() -> None:
            seen.append(session.scalar(TENANT))

        look()
        session.commit()
        look()
        session.rollback()
        with session.begin_nested():
            look()
        look()
        session.commit()
        look()
        current_scope().release()
        look()
        answer(start_response)
        yield b""
        session.rollback()
        look()
        yield b""

    request(SessionMiddleware(app, engine, release_reads=True, on_begin=hook), tenant="7")

    assert seen == ["7"] * 7


@hooks
@on_postgresql
def test_no_tenant_is_seen_by_another_request(engine: Engine, hook: Any) -> None:
    """The next request on the same connection has its own, and what is no request has none."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ[KEY].scalar(TENANT))
        if environ["tenant"] == "fails":
            raise RuntimeError
        answer(start_response)
        return [b""]

    wrapped = SessionMiddleware(app, engine, commit=on_unsafe_success, on_begin=hook)
    for tenant in ("7", "8", "fails"):
        with suppress(RuntimeError):
            request(wrapped, "POST", tenant=tenant)
        with session_scope(wrapped.registry) as session:
            seen.append(session.scalar(TENANT))

    assert seen == ["7", "", "8", "", "fails", ""]


@with_every_driver
def test_it_is_called_for_each_connection(engine: Engine, engine_by: Any, driver: str) -> None:
    """A transaction on two databases is set up on both, once, and not for its savepoints."""
    hook = Begun()
    second = engine_by(driver)

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        add_words(session, "first")
        session.flush()
        session.execute(select(1), bind_arguments={"bind": second})
        with session.begin_nested():
            session.execute(select(1), bind_arguments={"bind": second})
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, engine, commit=on_unsafe_success, on_begin=hook), "POST", "/both")

    assert hook.calls == [(engine, "/both"), (second, "/both")]
    assert words(engine)[-1] == "first"
    assert is_clean(engine)
    assert is_clean(second)


def test_a_savepoint_first(engine: Engine) -> None:
    """A session whose first transaction is a savepoint is set up once."""
    hook = Begun()

    def app(environ: Any, start_response: Any) -> Any:
        with environ[KEY].begin_nested():
            environ[KEY].execute(select(1))
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, engine, on_begin=hook))

    assert len(hook.calls) == 1


def test_who_else_is_not_set_up(engine: Engine) -> None:
    """Neither a block, another registry, a middleware without a hook, nor an untouched request."""
    hook = Begun()
    Own = RequestScopedSession(sessionmaker(engine))
    Other = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/touched":
            with session_scope(Own) as session:
                session.execute(select(1))
            Other.execute(select(1))
            Other.rollback()
            Own.execute(select(1))
        answer(start_response)
        return [b""]

    wrapped = SessionMiddleware(app, Own, on_begin=hook)
    request(wrapped, path="/untouched")
    request(wrapped, path="/touched")
    request(SessionMiddleware(app, Own), path="/touched")

    assert hook.calls == [(engine, "/touched")]


@with_every_driver
def test_a_hook_that_fails_lets_nothing_through(engine: Engine) -> None:
    """If it raises, no statement is sent without it, whatever the view does with the error, until a rollback."""
    fails = [True, True, False]

    def hook(connection: Any, environ: Any) -> None:
        if fails.pop(0):
            raise LookupError("no such tenant")

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        with pytest.raises(LookupError, match="no such tenant"):
            session.scalar(select(1))
        with pytest.raises(PendingRollbackError):
            session.scalar(select(1))
        session.rollback()
        while fails[0]:
            with pytest.raises(LookupError):
                session.scalar(select(1))
            session.rollback()
        add_words(session, "set up")
        session.commit()
        answer(start_response)
        return [b""]

    fails.append(False)  # for what is begun after the commit, if anything is
    request(SessionMiddleware(app, engine, on_begin=hook))

    assert words(engine)[-1] == "set up"
    assert is_clean(engine)


@with_every_driver
def test_a_hook_that_fails_fails_the_request(engine: Engine) -> None:
    """A view that does not handle it has failed, and the connection is whole."""

    def hook(connection: Any, environ: Any) -> None:
        raise LookupError("no such tenant")

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "lost")
        environ[KEY].flush()
        raise AssertionError

    before = words(engine)
    with pytest.raises(LookupError):
        request(SessionMiddleware(app, engine, commit=on_unsafe_success, on_begin=hook), "POST")

    assert words(engine) == before
    assert is_clean(engine)


@on_postgresql
def test_a_statement_of_the_hook_that_fails(engine: Engine) -> None:
    """An error of the database in the hook is one of the hook's."""

    def hook(connection: Any, environ: Any) -> None:
        connection.execute(text("SELECT no_such_function()"))

    def app(environ: Any, start_response: Any) -> Any:
        with pytest.raises(DBAPIError):
            environ[KEY].scalar(select(1))
        with pytest.raises(PendingRollbackError):
            environ[KEY].scalar(select(1))
        answer(start_response, "500 Internal Server Error")
        return [b""]

    request(SessionMiddleware(app, engine, on_begin=hook))

    assert is_clean(engine)


@with_every_driver
def test_autocommit_is_refused(engine: Engine, engine_by: Any, driver: str) -> None:
    """Where there is no transaction, nothing can be set up for one: an error before the first statement."""
    hook = Begun()
    in_autocommit = engine_by(driver, isolation_level="AUTOCOMMIT")
    before = words(in_autocommit)

    with pytest.raises(AutocommitError, match="is in AUTOCOMMIT"):
        request(SessionMiddleware(adding, in_autocommit, commit=on_unsafe_success, on_begin=hook), "POST")

    assert hook.calls == []
    assert words(in_autocommit) == before
    in_autocommit.dispose()


def adding(environ: Any, start_response: Any) -> Any:
    """Add a word."""
    add_words(environ[KEY], "added")
    environ[KEY].flush()
    answer(start_response)
    return [b""]


@on_mariadb
def test_settings_are_of_postgresql(engine: Engine) -> None:
    """MariaDB and MySQL have no settings of a transaction: a mapping is refused, and nothing is sent."""
    before = words(engine)

    with pytest.raises(TypeError, match="on PostgreSQL a mapping of settings"):
        request(SessionMiddleware(adding, engine, commit=on_unsafe_success, on_begin=tenant_of), "POST", tenant="7")

    assert words(engine) == before


@pytest.mark.parametrize("returned", ["text", ["app.tenant"], 7])
@on_postgresql
def test_what_is_no_setting(engine: Engine, returned: Any) -> None:
    """A hook that returns something else is told so."""
    with pytest.raises(TypeError, match="It may return None"):
        request(SessionMiddleware(adding, engine, on_begin=lambda connection, environ: returned), "POST")


def test_what_is_no_hook(engine: Engine) -> None:
    """What cannot be called, and what would never run, is refused when it is given."""

    async def hook(connection: Any, environ: Any) -> None: ...

    for given in ("SET ROLE", hook):
        with pytest.raises(TypeError, match="on_begin"):
            SessionMiddleware(adding, engine, on_begin=given)  # type: ignore[arg-type]


@on_postgresql
def test_a_row_policy(engine: Engine) -> None:
    """With row level security, each tenant sees its own rows, and who has none sees nothing."""
    role = f"reader_of_{engine.url.database}"
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE owned (tenant text, what text)",
            "INSERT INTO owned VALUES ('7', 'of seven'), ('8', 'of eight')",
            "ALTER TABLE owned ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON owned USING (tenant = current_setting('app.tenant', true))",
            f"CREATE ROLE {role}",
            f"GRANT SELECT ON owned TO {role}",
        ):
            connection.execute(text(statement))
    seen: list[list[str]] = []

    def hook(connection: Any, environ: Any) -> dict[str, str]:
        return {"role": role} | ({"app.tenant": environ["tenant"]} if "tenant" in environ else {})

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(list(environ[KEY].scalars(text("SELECT what FROM owned"))))
        answer(start_response)
        return [b""]

    wrapped = SessionMiddleware(app, engine, on_begin=hook)
    request(wrapped, tenant="7")
    request(wrapped)
    request(wrapped, tenant="8")
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE owned"))
        connection.execute(text(f"DROP ROLE {role}"))

    assert seen == [["of seven"], [], ["of eight"]]


def test_classes_that_are_derived_from_each_other(new_engine: Callable[..., Engine]) -> None:
    """Whichever session class is met first, a transaction is set up once."""

    class Plain(Session): ...

    hook = Begun()
    derived = sessionmaker(new_engine(), class_=Plain)
    plain: Any = partial(Plain, new_engine())
    later = sessionmaker(new_engine(), class_=Plain)
    wrapped = [SessionMiddleware(adding, RequestScopedSession(made), on_begin=hook) for made in (derived, plain, later)]

    for app in (*wrapped, wrapped[0]):
        request(app, "POST")

    assert len(hook.calls) == 4


def test_a_connection_of_the_users_own(engine: Engine) -> None:
    """One on which a transaction could not be set up is refused until that has ended, and no longer."""

    def hook(connection: Any, environ: Any) -> None:
        raise LookupError

    def app(environ: Any, start_response: Any) -> Any:
        with engine.connect() as connection:
            own = Own(bind=connection)
            with pytest.raises(LookupError):
                own.execute(select(1))
            with pytest.raises(PendingRollbackError):
                own.execute(select(1))
            own.rollback()
            assert connection.scalar(select(1)) == 1
        answer(start_response)
        return [b""]

    Own = RequestScopedSession(sessionmaker(engine))
    request(SessionMiddleware(app, Own, on_begin=hook))
