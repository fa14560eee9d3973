"""Guarantee 13: fork-safe."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import sessionmaker

from tests.helpers import Base, Exchange, add_words, all_words, answer, in_child, request, words
from wsgi_session import (
    RequestScopedSession,
    ScopeEndedError,
    SessionMiddleware,
    State,
    current_scope,
    session_scope,
)

KEY = "sqlalchemy.session"

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def backend(session: Any) -> int:
    """Ask which of the server's processes this connection speaks to."""
    return int(session.scalar(text("SELECT pg_backend_pid()")))


@pytest.mark.system("postgresql")
@pytest.mark.parametrize("used_by", ["session", "engine"])
def test_a_fork_before_a_request(postgresql_engine: Engine, used_by: str) -> None:
    """A child has connections of its own, and the parent's go on."""
    Session = RequestScopedSession(sessionmaker(postgresql_engine))
    with postgresql_engine.connect() as connection:
        parents = backend(connection)
    if used_by == "session":
        with session_scope(Session) as session:
            assert backend(session) == parents

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "child")
        environ[KEY].commit()
        answer(start_response)
        return [str(backend(environ[KEY])).encode()]

    def child() -> None:
        assert request(SessionMiddleware(app, Session)).body != str(parents).encode()

    in_child(child)

    with session_scope(Session) as session:
        assert backend(session) == parents
    assert words(postgresql_engine) == ["child"]


@pytest.mark.system("postgresql")
def test_a_fork_inside_a_request(postgresql_engine: Engine) -> None:
    """The child's inherited scopes have ended: no hook, no word to the database; the parent's INSERT is not undone."""
    Session = RequestScopedSession(sessionmaker(postgresql_engine))
    untouched: Any = RequestScopedSession(sessionmaker(postgresql_engine))
    ends: list[int] = []

    def child(session: Any, late: Any) -> None:
        scope = current_scope()
        assert scope.state is State.ENDED
        for use in (
            lambda: session.info,
            Session,
            Session.commit,
            lambda: late.info,
            untouched,
            lambda: scope.on_end(print),
        ):
            with pytest.raises(ScopeEndedError):
                use()
        session.close()
        Session.remove()
        with session_scope(Session) as own:
            add_words(own, "child")

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "parent")
        environ[KEY].flush()
        late = untouched()
        in_child(lambda: child(environ[KEY], late))
        all_words(environ[KEY])
        environ[KEY].commit()
        answer(start_response)
        return iter([b"x"])

    app_ = SessionMiddleware(app, Session)
    app_.on_request_end(lambda scope: ends.append(os.getpid()))
    exchange = Exchange(app_)
    in_child(lambda: (exchange.step(), exchange.close()))
    in_child(lambda: exchange.drop())
    exchange.read().close()

    assert ends == [os.getpid()]
    assert sorted(words(postgresql_engine)) == ["child", "parent"]


def test_a_fork_inside_a_request_that_has_not_touched_its_session(Session: Any, engine: Engine) -> None:
    """The child's inherited scope has ended all the same: the registry is an error, and no hook runs."""
    ends: list[int] = []

    def child(session: Any) -> None:
        with pytest.raises(ScopeEndedError):
            Session()
        with pytest.raises(ScopeEndedError):
            session.connection()
        assert current_scope().state is State.ENDED
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    def app(environ: Any, start_response: Any) -> Any:
        in_child(lambda: child(environ[KEY]))
        answer(start_response)
        return iter([b"x"])

    def leave(exchange: Exchange) -> None:
        exchange.read().close()
        assert ends == []

    app_ = SessionMiddleware(app, Session)
    app_.on_request_end(lambda scope: ends.append(os.getpid()))
    exchange = Exchange(app_)
    in_child(lambda: leave(exchange))
    exchange.read().close()

    assert ends == [os.getpid()]


@pytest.mark.system("postgresql")
def test_a_fork_while_other_threads_are_in_requests(postgresql_url: Any) -> None:
    """What other threads held is neither closed nor collected in the child."""
    engine = create_engine(postgresql_url, pool_size=5)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    Session = RequestScopedSession(sessionmaker(engine), outside="thread")
    ready, goes_on = threading.Barrier(3), threading.Event()

    def outside() -> None:
        add_words(Session, "thread")
        Session.flush()
        ready.wait(10)
        goes_on.wait(10)
        Session.commit()
        Session.remove()

    def inside() -> None:
        with session_scope(Session):
            add_words(Session, "block")
            Session.flush()
            ready.wait(10)
            goes_on.wait(10)

    threads = [threading.Thread(target=target) for target in (outside, inside)]
    for thread in threads:
        thread.start()
    ready.wait(10)

    def child() -> None:
        import gc

        gc.collect()
        all_words(Session)
        with session_scope(Session):
            all_words(Session)

    in_child(child)
    goes_on.set()
    for thread in threads:
        thread.join(10)

    assert sorted(words(engine)) == ["block", "thread"]
    engine.dispose()


@pytest.mark.system("postgresql")
def test_a_thread_session_that_was_inherited(postgresql_engine: Engine) -> None:
    """The child's thread has a session of its own; the parent's goes on in its transaction."""
    Session = RequestScopedSession(sessionmaker(postgresql_engine), outside="thread")
    parents = backend(Session)
    session = Session()
    add_words(session, "parent")
    session.flush()

    def child() -> None:
        assert Session() is not session
        assert backend(Session) != parents

    in_child(child)

    assert backend(Session) == parents
    Session.commit()
    Session.remove()
    assert words(postgresql_engine) == ["parent"]


def test_an_in_memory_database_is_left_alone() -> None:
    """Its pool is the database: the child goes on with its own copy."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    Session = RequestScopedSession(sessionmaker(engine))
    with session_scope(Session):
        add_words(Session, "x")

    def child() -> None:
        with session_scope(Session):
            assert all_words(Session) == ["x"]

    in_child(child)
    engine.dispose()


def test_several_binds(new_engine: Any) -> None:
    """Every engine that the `sessionmaker` names gets a new pool in the child."""
    first, second = new_engine(), new_engine()
    Session = RequestScopedSession(sessionmaker(first, binds={Base: second}))
    unbound = RequestScopedSession(sessionmaker())
    pools = (first.pool, second.pool)

    def child() -> None:
        assert first.pool is not pools[0]
        assert second.pool is not pools[1]

    in_child(child)

    assert (first.pool, second.pool) == pools
    assert Session is not unbound


def test_a_fork_that_python_is_not_told_of(Session: Any, engine: Engine, monkeypatch: Any) -> None:
    """Where a server forks without running Python's hooks, the process id tells when the next session is built."""
    from wsgi_session import _fork

    with session_scope(Session) as session:
        all_words(session)
        pool = engine.pool
        monkeypatch.setattr(_fork, "pid", -1)
        with session_scope(Session) as own:
            assert all_words(own) == []
            assert engine.pool is not pool
        with pytest.raises(ScopeEndedError):
            session.commit()
    pool.dispose()
