"""Guarantee 12: ``on_commit`` means committed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import Word, add_words, all_words, answer, is_clean, orphan, request, words
from wsgi_session import (
    PendingChangesError,
    RequestScopedSession,
    ScopeEndedError,
    SessionMiddleware,
    current_scope,
    never,
    on_commit,
    on_success,
    on_unsafe_success,
    session_scope,
    until_close,
)

KEY = "sqlalchemy.session"


class Stop(Exception):  # noqa: N818
    """What an application raises."""


def plain(work: Callable[[Any], object], session: Any) -> None:
    """Work in the session's transaction, and commit it."""
    work(session)
    session.commit()


def begin_block(work: Callable[[Any], object], session: Any) -> None:
    """Work in a ``session.begin()`` block."""
    with session.begin():
        work(session)


def rule(work: Callable[[Any], object], session: Any) -> None:
    """Work in a request that a rule commits; the session is the registry's own."""

    def app(environ: Any, start_response: Any) -> Any:
        work(environ[KEY])
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, session.info["registry"], commit=on_success))


def block(work: Callable[[Any], object], session: Any) -> None:
    """Work in a `session_scope` block."""
    with session_scope(session.info["registry"]) as own:
        work(own)


WAYS = [plain, begin_block, rule, block]
"""The ways to commit."""


@pytest.fixture
def session(engine: Engine) -> Any:
    """Return a session that this package has not made, which knows of a registry on the same engine."""
    registry: Any = RequestScopedSession(sessionmaker(engine))
    with SQLAlchemySession(engine, info={"registry": registry}) as session:
        yield session


# The matrix of savepoints: what is registered where, and what is called. Each row is run by each way to commit.


def outside(session: Any, note: Callable[[str], Any]) -> None:
    """Without a savepoint, all are called in order."""
    on_commit(session, note("1"))
    add_words(session, "x")
    on_commit(session, note("2"))


def released(session: Any, note: Callable[[str], Any]) -> None:
    """A savepoint that is released leaves its own to the transaction."""
    on_commit(session, note("1"))
    with session.begin_nested():
        on_commit(session, note("2"))
    on_commit(session, note("3"))


def rolled_back(session: Any, note: Callable[[str], Any]) -> None:
    """A savepoint that is rolled back drops its own, and no others."""
    on_commit(session, note("1"))
    savepoint = session.begin_nested()
    on_commit(session, note("dropped"))
    savepoint.rollback()
    on_commit(session, note("2"))


def failed(session: Any, note: Callable[[str], Any]) -> None:
    """So does one that an exception leaves."""
    on_commit(session, note("1"))
    with pytest.raises(Stop), session.begin_nested():
        on_commit(session, note("dropped"))
        raise Stop


def failed_flush(session: Any, note: Callable[[str], Any]) -> None:
    """So does one in which a flush fails."""
    add_words(session, "x")
    session.flush()
    on_commit(session, note("1"))
    with pytest.raises(Exception, match="UNIQUE"), session.begin_nested():
        on_commit(session, note("dropped"))
        session.execute(text("INSERT INTO word (id, text) SELECT id, text FROM word"))


def inner_released_outer_rolled_back(session: Any, note: Callable[[str], Any]) -> None:
    """What a released savepoint has left to an outer one goes with that."""
    on_commit(session, note("1"))
    outer = session.begin_nested()
    with session.begin_nested():
        on_commit(session, note("dropped"))
    outer.rollback()


def inner_rolled_back_outer_released(session: Any, note: Callable[[str], Any]) -> None:
    """An inner savepoint that is rolled back leaves the outer one's."""
    with session.begin_nested():
        on_commit(session, note("1"))
        inner = session.begin_nested()
        on_commit(session, note("dropped"))
        inner.rollback()
        on_commit(session, note("2"))


def two_in_a_row(session: Any, note: Callable[[str], Any]) -> None:
    """A second savepoint has nothing to do with what became of the first."""
    first = session.begin_nested()
    on_commit(session, note("dropped"))
    first.rollback()
    with session.begin_nested():
        on_commit(session, note("1"))


def closed(session: Any, note: Callable[[str], Any]) -> None:
    """A savepoint that is closed without an outcome is rolled back."""
    on_commit(session, note("1"))
    savepoint = session.begin_nested()
    on_commit(session, note("dropped"))
    savepoint.close()


def left_open(session: Any, note: Callable[[str], Any]) -> None:
    """A savepoint that is still open is released by the COMMIT."""
    session.begin_nested()
    on_commit(session, note("1"))
    session.begin_nested()
    on_commit(session, note("2"))


MATRIX: dict[Callable[..., None], str] = {
    outside: "12",
    released: "123",
    rolled_back: "12",
    failed: "1",
    failed_flush: "1",
    inner_released_outer_rolled_back: "1",
    inner_rolled_back_outer_released: "12",
    two_in_a_row: "1",
    closed: "1",
    left_open: "12",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("row", MATRIX)
def test_the_matrix_of_savepoints(row: Any, way: Any, session: Any, engine: Engine) -> None:
    """Released savepoints merge up, those that are rolled back drop their own; the rest is called, in order."""
    called: list[str] = []

    def work(session: Any) -> None:
        row(session, lambda name: partial(called.append, name))
        assert called == []

    way(work, session)

    assert "".join(called) == MATRIX[row]
    assert is_clean(engine)


# After the outermost COMMIT, and only then.


@pytest.mark.parametrize("way", WAYS)
def test_what_is_called_sees_what_is_committed(way: Any, session: Any, engine: Engine) -> None:
    """The row is there for everybody when the callback runs, and not before."""
    seen: list[list[str]] = []

    def work(session: Any) -> None:
        add_words(session, "ada")
        session.flush()
        on_commit(session, lambda: seen.append(words(engine)))
        seen.append(words(engine))

    way(work, session)

    assert seen == [[], ["ada"]]


def test_each_transaction_has_its_own(session: Any) -> None:
    """A callback runs once, after the commit of the transaction that it was registered in."""
    called: list[str] = []

    on_commit(session, partial(called.append, "1"))
    session.commit()
    on_commit(session, partial(called.append, "2"))
    assert called == ["1"]
    session.commit()
    session.commit()

    assert called == ["1", "2"]


@pytest.mark.parametrize("end", ["rollback", "close", "reset", "invalidate"])
def test_a_transaction_that_is_not_committed_drops_them(end: str, session: Any) -> None:
    """A rollback, or the end of the session's work, drops what was registered; a later commit does not call it."""
    called: list[str] = []

    add_words(session, "x")
    on_commit(session, partial(called.append, "dropped"))
    getattr(session, end)()
    add_words(session, "y")
    session.commit()

    assert called == []


def test_a_commit_that_fails_drops_them(session: Any, engine: Engine) -> None:
    """Nothing is called when COMMIT fails, nor by the commit after it."""
    called: list[str] = []

    session.add(orphan())
    on_commit(session, partial(called.append, "dropped"))
    with pytest.raises(Exception, match="FOREIGN KEY"):
        session.commit()
    session.rollback()
    session.commit()

    assert called == []
    assert is_clean(engine)


@pytest.mark.parametrize(
    ("commit", "method", "fails"),
    [
        (until_close, "POST", ""),
        (never, "POST", ""),
        (on_unsafe_success, "GET", ""),
        (on_success, "POST", "raises"),
        (on_success, "POST", "400"),
    ],
)
def test_a_request_that_is_not_committed_drops_them(
    commit: Any, method: str, fails: str, Session: Any, engine: Engine, caplog: Any
) -> None:
    """Without a commit nothing is called, neither in this request nor in the next; a rule's loss is in the log."""
    called: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        on_commit(environ[KEY], partial(called.append, "dropped"))
        if fails == "raises":
            raise Stop
        answer(start_response, f"{fails or 200} X")
        return [b""]

    def next_app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        environ[KEY].commit()
        answer(start_response)
        return [b""]

    if fails == "raises":
        with pytest.raises(Stop):
            request(SessionMiddleware(app, Session, commit=commit), method)
    else:
        request(SessionMiddleware(app, Session, commit=commit), method)
    request(SessionMiddleware(next_app, Session))

    assert called == []
    assert ("1 callback of on_commit()" in caplog.text) == (commit is not None and not fails)
    assert is_clean(engine)


def test_a_doomed_scope_drops_them(Session: Any) -> None:
    """`doom()` is no commit."""
    called: list[str] = []

    with session_scope(Session) as session:
        on_commit(session, partial(called.append, "dropped"))
        current_scope().doom()

    assert called == []


def test_a_release_is_refused(Session: Any) -> None:
    """`release()` would drop a callback without a word, so it refuses."""
    with session_scope(Session) as session:
        all_words(session)
        on_commit(session, print)

        with pytest.raises(PendingChangesError, match=r"1 callback of on_commit\(\)"):
            current_scope().release()


@pytest.mark.parametrize("way", [rule, block])
def test_a_session_that_has_begun_nothing(way: Any, session: Any) -> None:
    """A callback is called by a rule's commit, and at the end of a block, also where nothing else was done."""
    called: list[str] = []

    way(lambda session: on_commit(session, partial(called.append, "1")), session)

    assert called == ["1"]


def test_a_session_without_autobegin(engine: Engine) -> None:
    """Nor does it take a session that begins by itself."""
    called: list[str] = []
    Session = RequestScopedSession(sessionmaker(engine, autobegin=False))

    with session_scope(Session) as session:
        on_commit(session, partial(called.append, "1"))

    assert called == ["1"]


# What a callback may do.


@pytest.mark.parametrize("way", [plain, rule, block])
def test_the_session_is_usable_in_a_callback(way: Any, session: Any, engine: Engine) -> None:
    """After a plain commit the session reads, writes and commits in a callback."""

    def write(session: Any) -> None:
        assert all_words(session) == ["ada"]
        add_words(session, "in a callback")
        session.commit()

    def work(session: Any) -> None:
        add_words(session, "ada")
        on_commit(session, partial(write, session))

    way(work, session)

    assert words(engine) == ["ada", "in a callback"]
    assert is_clean(engine)


def test_a_begin_block_has_not_been_left(session: Any, engine: Engine) -> None:
    """In a ``session.begin()`` block the session refuses SQL after its COMMIT; a `session_scope` does not."""
    registry = session.info["registry"]

    def write() -> None:
        with pytest.raises(Exception, match="closed transaction inside context manager"):
            all_words(session)
        with session_scope(registry) as own:
            add_words(own, "own scope")

    with session.begin():
        add_words(session, "ada")
        on_commit(session, write)

    assert words(engine) == ["ada", "own scope"]


@pytest.mark.parametrize("way", [plain, rule, block])
def test_what_a_callback_leaves_open_is_rolled_back(way: Any, session: Any, engine: Engine) -> None:
    """What it does not commit is not committed by the next one, nor by anybody else."""

    def leave_open(session: Any) -> None:
        add_words(session, "left open")
        session.flush()

    def commit(session: Any) -> None:
        assert not session.in_transaction()
        session.commit()

    def work(session: Any) -> None:
        add_words(session, "ada")
        on_commit(session, partial(leave_open, session))
        on_commit(session, partial(commit, session))

    way(work, session)

    assert words(engine) == ["ada"]
    assert is_clean(engine)


def test_a_callback_that_only_reads_expires_nothing(engine: Engine) -> None:
    """What was loaded stays readable, with ``expire_on_commit=False``, when a callback has left a transaction open."""
    with SQLAlchemySession(engine, expire_on_commit=False) as session:
        word = Word(text="ada")
        session.add(word)
        on_commit(session, partial(all_words, session))
        session.commit()

        assert "text" in vars(word)
        assert not session.in_transaction()


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_may_register_another(way: Any, session: Any) -> None:
    """It is called after those that were there before it."""
    called: list[str] = []

    def first(session: Any) -> None:
        called.append("1")
        on_commit(session, partial(called.append, "3"))

    def work(session: Any) -> None:
        on_commit(session, partial(first, session))
        on_commit(session, partial(called.append, "2"))

    way(work, session)

    assert called == ["1", "2", "3"]


def test_a_callback_that_commits_runs_what_it_has_registered(session: Any) -> None:
    """A transaction of the callback's own has its own callbacks, which run when that is committed."""
    called: list[str] = []

    def first() -> None:
        add_words(session, "x")
        on_commit(session, partial(called.append, "inner"))
        session.commit()
        called.append("1")
        add_words(session, "y")
        on_commit(session, partial(called.append, "dropped"))

    on_commit(session, first)
    on_commit(session, partial(called.append, "2"))
    session.commit()

    assert called == ["inner", "1", "2"]


def test_a_commit_of_a_callbacks_own_that_fails(session: Any) -> None:
    """It drops what was registered for it."""
    called: list[str] = []

    def follow_up() -> None:
        on_commit(session, partial(called.append, "dropped"))
        session.add(orphan())
        with pytest.raises(Exception, match="FOREIGN KEY"):
            session.commit()
        session.rollback()

    on_commit(session, follow_up)
    session.commit()

    assert called == []


def test_a_listener_that_commits_when_a_transaction_has_ended(session: Any, engine: Engine) -> None:
    """Another commit between COMMIT and the callbacks changes nothing for them."""
    called: list[str] = []
    add_words(session, "ada")
    on_commit(session, partial(called.append, "1"))

    audited: list[str] = []

    def write(ended: Any, transaction: Any) -> None:
        if transaction.parent is None and not audited:
            audited.append("audit")
            add_words(session, "audit")
            session.commit()

    event.listen(SQLAlchemySession, "after_transaction_end", write, insert=True)
    try:
        session.commit()
    finally:
        event.remove(SQLAlchemySession, "after_transaction_end", write)

    assert words(engine) == ["ada", "audit"]
    assert called == ["1"]


def test_a_failed_request_whose_body_commits(Session: Any, engine: Engine) -> None:
    """What waits in a request that has failed is dropped, also if its body commits something else for itself."""
    called: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        on_commit(environ[KEY], partial(called.append, "dropped"))
        answer(start_response, "422 No")

        def body() -> Any:
            add_words(environ[KEY], "log")
            environ[KEY].commit()
            yield b"a"

        return body()

    request(SessionMiddleware(app, Session, commit=on_success), "POST")

    assert words(engine) == ["log"]
    assert called == []


# A callback that raises.


def fail(message: str) -> None:
    """Raise."""
    raise Stop(message)


@pytest.mark.parametrize("way", [plain, begin_block, block])
def test_the_first_error_is_raised_when_all_have_run(way: Any, session: Any, engine: Engine, caplog: Any) -> None:
    """One that raises keeps no other from running and undoes nothing; a second error is in the log."""
    called: list[str] = []

    def work(session: Any) -> None:
        add_words(session, "ada")
        on_commit(session, partial(fail, "first"))
        on_commit(session, partial(fail, "second"))
        on_commit(session, partial(called.append, "1"))

    with pytest.raises(Stop, match="first"):
        way(work, session)

    assert called == ["1"]
    assert words(engine) == ["ada"]
    assert "second" in caplog.text
    assert "first" not in caplog.text
    assert is_clean(engine)


def test_an_error_after_a_rules_commit_is_logged(session: Any, engine: Engine, caplog: Any) -> None:
    """The client is not told of a failure of something that is committed."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "ada")
        on_commit(environ[KEY], partial(fail, "first"))
        answer(start_response)
        return [b"done"]

    exchange = request(SessionMiddleware(app, session.info["registry"], commit=on_success))

    assert (exchange.status, exchange.body) == ("200 OK", b"done")
    assert words(engine) == ["ada"]
    assert "first" in caplog.text
    assert is_clean(engine)


def test_an_error_is_that_of_its_own_commit(session: Any, caplog: Any) -> None:
    """Where another callback has stopped the worker, an error is in the log, and not raised by the next commit."""

    def stop() -> None:
        raise SystemExit

    on_commit(session, partial(fail, "first"))
    on_commit(session, stop)
    with pytest.raises(SystemExit):
        session.commit()
    on_commit(session, lambda: None)
    session.commit()

    assert "first" in caplog.text


def test_an_error_in_one_session_keeps_no_other_from_being_committed(new_engine: Any, caplog: Any) -> None:
    """With two sessions in a request both are committed, and the callbacks of both are called."""
    engines = new_engine(), new_engine()
    A, B = (RequestScopedSession(sessionmaker(engine)) for engine in engines)
    called: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        for registry, name in ((A, "a"), (B, "b")):
            add_words(registry(), name)
            on_commit(registry(), partial(fail, f"failed in {name}"))
            on_commit(registry(), partial(called.append, name))
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, A, commit=on_success))

    assert called == ["b", "a"]
    assert [words(engine) for engine in engines] == [["a"], ["b"]]
    assert "failed in a" in caplog.text
    assert "failed in b" in caplog.text


# What it takes.


def test_it_is_a_decorator(session: Any) -> None:
    """``@on_commit(session)`` registers the function, and leaves it as it is."""
    called: list[str] = []

    @on_commit(session)
    def note() -> None:
        called.append("1")

    note()
    session.commit()

    assert called == ["1", "1"]


def test_a_session_whose_scope_has_ended(Session: Any) -> None:
    """Late use is an error here, too."""
    with session_scope(Session) as session:
        pass

    with pytest.raises(ScopeEndedError):
        on_commit(session, print)


def test_what_could_never_run_is_refused(session: Any, Session: Any) -> None:
    """What is not callable, and a function whose body a call does not run, is an error at once."""

    async def later() -> None: ...

    def chunks() -> Any:
        yield

    with pytest.raises(TypeError, match="has to be callable"):
        on_commit(session, "not callable")  # type: ignore[type-var]
    for never_run in (later, chunks):
        with pytest.raises(TypeError, match=f"{never_run.__name__}.*would never run"):
            on_commit(session, never_run)
    with pytest.raises(TypeError, match=r"on_commit\(Session\(\), ...\)"):
        on_commit(Session, print)
    with pytest.raises(TypeError, match="takes a session"):
        on_commit("session", print)  # type: ignore[call-overload]
