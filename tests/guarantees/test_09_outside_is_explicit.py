"""Guarantee 9: outside is explicit."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import add_words, all_words, answer, is_clean, request, words
from wsgi_session import (
    NoScopeError,
    RequestScopedSession,
    SessionMiddleware,
    current_environ,
    current_scope,
    session_scope,
)

KEY = "sqlalchemy.session"


@pytest.mark.parametrize("ask", ["call", "proxy", "kw", "environ", "scope"])
def test_no_scope_is_an_error_that_says_what_to_do(ask: str, Session: Any) -> None:
    """Every way of asking outside of a scope names both remedies."""
    ways = {
        "call": Session,
        "proxy": lambda: Session.bind,
        "kw": lambda: Session(autoflush=False),
        "environ": current_environ,
        "scope": current_scope,
    }

    with pytest.raises(NoScopeError, match=r"SessionMiddleware.*session_scope"):
        ways[ask]().close()


def test_a_block_is_no_request(new_engine: Any) -> None:
    """In a block outside of requests there is no environ, and no session for another registry."""
    A, B = (RequestScopedSession(sessionmaker(new_engine())) for _ in range(2))

    with session_scope(A):
        assert current_scope().environ is None
        with pytest.raises(NoScopeError):
            current_environ()
        with pytest.raises(NoScopeError):
            B()


def test_a_plain_thread_of_a_request_is_outside(Session: Any) -> None:
    """A thread that a request starts has no right to the request's session."""
    errors: list[Any] = []

    def work() -> None:
        try:
            Session()
        except NoScopeError as error:
            errors.append(error)

    def app(environ: Any, start_response: Any) -> Any:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert "thread" in str(errors[0])


@pytest.fixture
def by_thread(engine: Engine) -> Any:
    """Return a registry whose threads have sessions outside of scopes."""
    return RequestScopedSession(sessionmaker(engine), outside="thread")


def test_the_threads_session(by_thread: Any, engine: Engine) -> None:
    """Outside of scopes the calling thread has a session of its own, until ``remove()``."""
    session = by_thread()
    add_words(by_thread, "x")
    by_thread.commit()

    assert by_thread() is session
    assert "wsgi_session.scope" not in session.info
    with pytest.raises(InvalidRequestError, match="already present"):
        by_thread(autoflush=False)
    by_thread.remove()
    assert is_clean(engine)
    assert by_thread(autoflush=False) is not session
    assert not by_thread().autoflush
    assert words(engine) == ["x"]
    by_thread.remove()


def test_the_threads_session_is_freed_with_the_thread(by_thread: Any, engine: Engine) -> None:
    """A thread that ends gives its connection back, without the cyclic collector."""
    gc.collect()
    gc.disable()
    try:
        thread = threading.Thread(target=lambda: all_words(by_thread))
        thread.start()
        thread.join(10)

        assert is_clean(engine)
    finally:
        gc.enable()


def test_in_a_scope_the_scope_comes_first(by_thread: Any, engine: Engine) -> None:
    """A request, and a block, have their own session, also in a thread that has one."""
    outside = by_thread()

    def app(environ: Any, start_response: Any) -> Any:
        assert by_thread() is environ[KEY] is not outside
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, by_thread))
    with session_scope(by_thread) as session:
        assert by_thread() is session is not outside

    assert by_thread() is outside
    by_thread.remove()


def test_a_thread_whose_session_could_not_be_made(new_engine: Any) -> None:
    """The error is the caller's, and there is nothing to free."""
    Session: Any = RequestScopedSession(sessionmaker(new_engine(), nonsense=True), outside="thread")

    with pytest.raises(TypeError, match="nonsense"):
        Session()
    Session.registry.clear()


def test_two_threads(by_thread: Any) -> None:
    """Two threads have two sessions."""
    seen = [by_thread()]
    thread = threading.Thread(target=lambda: seen.append(by_thread()))
    thread.start()
    thread.join(10)

    assert seen[0] is not seen[1]
    by_thread.remove()


def test_a_session_of_the_users_own(by_thread: Any, engine: Engine) -> None:
    """``registry.set()``, the other half of a `scoped_session`, works with the thread's session."""
    mine = SQLAlchemySession(engine)
    by_thread.registry.set(mine)

    assert by_thread() is mine
    by_thread.remove()


def test_arguments_that_mean_nothing(engine: Engine) -> None:
    """Wrong arguments are refused where the registry is made."""
    with pytest.raises(ValueError, match="'nowhere'"):
        RequestScopedSession(sessionmaker(engine), outside="nowhere")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sessionmaker"):
        RequestScopedSession(engine)  # type: ignore[arg-type]
