"""The block: ``session_scope()``, for scripts, jobs and tests."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import scoped_session, sessionmaker

from tests.helpers import add_words, all_words, answer, is_clean, orphan, request, words
from wsgi_session import (
    OpenTransactionError,
    RequestScopedSession,
    ScopeEndedError,
    ScopeStateError,
    SessionMiddleware,
    State,
    current_scope,
    session_scope,
)

KEY = "sqlalchemy.session"


def test_a_block_commits(Session: Any, engine: Engine) -> None:
    """A block that is left without an error commits, closes, and ends the use of its session."""
    with session_scope(Session) as session:
        assert Session() is session
        add_words(session, "x")

    assert words(engine) == ["x"]
    assert is_clean(engine)
    with pytest.raises(ScopeEndedError):
        session.commit()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_error_rolls_back(error: Any, Session: Any, engine: Engine) -> None:
    """Any `BaseException` rolls back, and goes on its way."""
    with pytest.raises(error), session_scope(Session) as session:
        add_words(session, "x")
        session.flush()
        raise error

    assert words(engine) == []
    assert is_clean(engine)


def test_a_block_that_only_reads(Session: Any, engine: Engine) -> None:
    """``commit=False`` rolls back what the block leaves."""
    with session_scope(Session, commit=False) as session:
        add_words(session, "x")
        session.flush()

    assert words(engine) == []
    assert is_clean(engine)


def test_a_failed_commit(Session: Any, engine: Engine) -> None:
    """It raises, and the next block commits nothing of it."""
    with pytest.raises(IntegrityError), session_scope(Session) as session:
        add_words(session, "lost")
        session.add(orphan())
    with session_scope(Session) as session:
        add_words(session, "next")

    assert words(engine) == ["next"]


def test_a_decorator(Session: Any, engine: Engine) -> None:
    """A decorated function is called unchanged, in a block of its own for each call, and asks the registry."""

    @session_scope(Session)
    def add(*texts: str, fails: bool = False) -> Any:
        """Add words."""
        add_words(Session, *texts)
        if fails:
            raise ValueError("asked for")
        return Session()

    first = add("a", "b")
    second = add("c")
    with pytest.raises(ValueError, match="asked for"):
        add("d", fails=True)

    assert add.__name__ == "add"
    assert add.__doc__ == "Add words."
    assert first is not second
    assert words(engine) == ["a", "b", "c"]


def test_a_decorator_that_only_reads(Session: Any, engine: Engine) -> None:
    """``commit=False`` is for the decorator, too, and it nests."""

    @session_scope(Session, commit=False)
    def count(depth: int) -> int:
        add_words(Session, "x")
        return len(all_words(Session)) + (count(depth - 1) if depth else 0)

    with session_scope(Session, commit=False):
        pass
    engine.dispose()

    assert count(0) == 1
    assert words(engine) == []


def test_functions_whose_body_would_run_later_are_refused(Session: Any) -> None:
    """A generator or ``async`` function is a `TypeError` that says where to open the block instead."""

    def generator() -> Any:
        yield

    async def coroutine() -> None:
        pass

    for function in (generator, coroutine):
        with pytest.raises(TypeError, match=rf"{function.__name__}.*Open the block in its body"):
            session_scope(Session)(function)


@pytest.mark.parametrize("given", ["sessionmaker", "engine", None])
def test_it_takes_a_registry_only(given: Any, engine: Engine) -> None:
    """Anything else is a `TypeError` that names the line to write."""
    what = {"sessionmaker": sessionmaker(engine), "engine": engine, None: None}[given]

    with pytest.raises(TypeError, match=r"Session = RequestScopedSession\(sessionmaker\(engine\)\)"):
        session_scope(what)


def test_a_plain_scoped_session(engine: Engine) -> None:
    """One with ``scopefunc=current_scope`` is a registry; one that is keyed on the thread is refused."""
    Session = scoped_session(sessionmaker(engine), scopefunc=current_scope)

    with session_scope(Session):
        add_words(Session, "x")

    assert words(engine) == ["x"]
    with pytest.raises(TypeError, match="current_scope"):
        session_scope(scoped_session(sessionmaker(engine)))


def test_nested_blocks(new_engine: Any) -> None:
    """Each has its own session and its own outcome; afterwards the outer one's is back."""
    engine = new_engine(pool_size=2)
    Session = RequestScopedSession(sessionmaker(engine))

    with session_scope(Session) as outer:
        with session_scope(Session) as inner:
            assert Session() is inner is not outer
            add_words(Session, "inner")
        assert Session() is outer
        with pytest.raises(ValueError, match="asked for"), session_scope(Session):
            add_words(Session, "lost")
            raise ValueError("asked for")
        add_words(Session, "outer")

    assert words(engine) == ["inner", "outer"]


def test_a_block_can_be_used_again_but_not_twice_at_once(Session: Any, engine: Engine) -> None:
    """One block object opens a new scope each time; to enter it while it is open is an error."""
    block = session_scope(Session)

    for word in ("a", "b"):
        with block as session:
            add_words(session, word)
            with pytest.raises(RuntimeError, match="open already"):
                block.__enter__()

    assert words(engine) == ["a", "b"]


def test_doom(Session: Any, engine: Engine) -> None:
    """A doomed block is left without an error and without a commit; one that commits nothing cannot be doomed."""
    with session_scope(Session) as session:
        add_words(session, "x")
        current_scope().doom()
        assert current_scope().state is State.DOOMED
    with session_scope(Session, commit=False), pytest.raises(ScopeStateError, match="rollback"):
        current_scope().doom()

    assert words(engine) == []


def test_hooks_of_a_block(Session: Any) -> None:
    """``on_end`` works for a block as for a request, also as a decorator."""
    seen: list[Any] = []

    with session_scope(Session):
        scope = current_scope()

        @scope.on_end
        def ended(scope: Any) -> None:
            seen.append((scope.environ, scope.state))

    assert seen == [(None, State.ENDED)]
    assert repr(scope) == "<Scope of block, ended>"
    with pytest.raises(ScopeEndedError):
        scope.on_end(ended)


def test_a_block_commits_for_every_registry_made_in_it(Session: Any, engine: Engine) -> None:
    """An open ``begin()`` block is an error; the transaction it began is rolled back."""
    block = session_scope(Session)
    session = block.__enter__()
    begun = session.begin()
    begun.__enter__()
    add_words(session, "x")

    with pytest.raises(OpenTransactionError):
        block.__exit__(None, None, None)

    assert words(engine) == []
    assert is_clean(engine)


def test_jobs_in_threads(new_engine: Any) -> None:
    """Twenty threads with a block each do not meet."""
    engine = new_engine(pool_size=20, pool_timeout=10)
    Session = RequestScopedSession(sessionmaker(engine))
    sessions: list[Any] = []

    @session_scope(Session)
    def job() -> None:
        all_words(Session)
        sessions.append(Session())

    threads = [threading.Thread(target=job) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len({id(session) for session in sessions}) == 20
    assert engine.pool.checkedout() == 0


def test_a_block_in_a_request_commits_by_itself(new_engine: Any) -> None:
    """What a block committed stays, whatever becomes of the request."""
    engine = new_engine(pool_size=2)
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        with session_scope(Session):
            add_words(Session, "block")
        add_words(Session, "request")
        answer(start_response, "500 Internal Server Error")
        return [b""]

    request(SessionMiddleware(app, Session))

    assert words(engine) == ["block"]


def test_blocks_that_are_left_out_of_order(new_engine: Any) -> None:
    """A block sets the current scope back only if its own is still the current one."""
    engine = new_engine(pool_size=2)
    Session = RequestScopedSession(sessionmaker(engine))
    outer, inner = session_scope(Session), session_scope(Session)

    outer.__enter__()
    session = inner.__enter__()
    outer.__exit__(None, None, None)
    assert Session() is session
    inner.__exit__(None, None, None)

    with pytest.raises(RuntimeError, match="No scope"):
        Session()


def test_what_is_no_function(Session: Any) -> None:
    """A block wraps functions."""
    with pytest.raises(TypeError, match="3 is neither"):
        session_scope(Session)(3)  # type: ignore[arg-type]
