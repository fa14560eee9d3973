"""Guarantee 9: outside is explicit."""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import Word, add_words, all_words, answer, is_clean, new_environ, request, words
from wsgi_session import (
    NoScopeError,
    RequestScopedSession,
    SessionMiddleware,
    current_environ,
    current_scope,
    session_of,
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


# The error names the cure for where it was raised.


def message() -> str:
    """Ask for the scope where there is none."""
    with pytest.raises(NoScopeError) as raised:
        current_scope()
    return str(raised.value)


def test_in_a_test_it_names_the_fixture() -> None:
    """A test is told which fixture to ask for."""
    assert "In a test, ask for the fixture 'wsgi_session'" in message()


def test_at_a_prompt_it_names_a_line(monkeypatch: pytest.MonkeyPatch, Session: Any) -> None:
    """A prompt is told one line, and that works for as long as the prompt lasts."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)

    assert "'session = session_scope(Session).__enter__()'" in message()

    def prompt() -> None:
        session = session_scope(Session).__enter__()
        assert Session() is session
        assert Session.scalars(select(Word)).all() == []
        session.close()

    contextvars.Context().run(prompt)


def test_in_a_context_of_flasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``app_context()`` looks like a request, and is none."""
    from flask import Flask

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with Flask("outside").app_context():
        assert "An 'app_context()' of Flask's is no request" in message()
    with Flask("inside").test_request_context():
        assert message().endswith("'with session_scope(...)'.")


# session_of


def test_the_session_of_an_environ(Session: Any) -> None:
    """`session_of` returns what is in the environ, also under another key."""
    found: list[bool] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        found.append(session_of(environ, Session) is Session())
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))
    request(SessionMiddleware(app, Session, environ_key="db"))

    assert found == [True, True]


def test_the_environ_of_another_registry(Session: Any, new_engine: Any) -> None:
    """A session of another registry's, and what is none, is not returned for this one's; the innermost one is."""
    Other = RequestScopedSession(sessionmaker(new_engine()))
    SessionMiddleware(print, Other)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        for touched in (False, True):
            with pytest.raises(NoScopeError, match="has not passed the SessionMiddleware"):
                session_of(environ, Other)
            assert session_of(environ, Session) is Session()
            if not touched:
                Session().in_transaction()
        answer(start_response)
        return [b""]

    for first, second in (("one", "two"), ("two", "one")):
        inner = SessionMiddleware(app, Session, environ_key=first)
        request(SessionMiddleware(inner, Session, environ_key=second))
    request(SessionMiddleware(app, Session))
    for other in ("a cookie", SQLAlchemySession()):
        with pytest.raises(NoScopeError):
            session_of({"sqlalchemy.session": other}, Session)


def test_an_environ_without_a_session(Session: Any, engine: Engine) -> None:
    """It says what is missing, in place of a `KeyError`."""
    with pytest.raises(NoScopeError, match="No SessionMiddleware was made with this registry"):
        session_of(new_environ(), Session)
    SessionMiddleware(print, Session)
    with pytest.raises(NoScopeError, match="This request has not passed the SessionMiddleware"):
        session_of(new_environ(), Session)
    with pytest.raises(TypeError, match="takes the registry"):
        session_of(new_environ(), sessionmaker(engine))  # type: ignore[arg-type]
