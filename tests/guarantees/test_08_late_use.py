"""Guarantee 8: late use is an error."""

from __future__ import annotations

import copy
import threading
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import close_all_sessions, object_session, sessionmaker

from tests.helpers import Word, add_words, all_words, answer, is_clean, request, statements
from wsgi_session import RequestScopedSession, ScopeEndedError, SessionMiddleware, current_scope, session_scope

KEY = "sqlalchemy.session"


def untouched(session: Any) -> None:
    """Leave it alone."""


def touched(session: Any) -> None:
    """Use it."""
    all_words(session)


def removed(session: Any) -> None:
    """Use it, and close it."""
    all_words(session)
    current_scope()
    session.info["registry"].remove()


def closed(session: Any) -> None:
    """Use it, and close it."""
    all_words(session)
    session.close()


@pytest.mark.parametrize("close_resets_only", [True, False, None])
@pytest.mark.parametrize("act", [untouched, touched, removed, closed])
def test_an_ended_session_refuses_every_use(act: Any, close_resets_only: Any, engine: Engine) -> None:
    """Whatever was done with it, and whatever the user's ``close_resets_only``."""
    options = {} if close_resets_only is None else {"close_resets_only": close_resets_only}
    Session: Any = RequestScopedSession(sessionmaker(engine, **options))
    Session.configure(info={"registry": Session})
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        given.append(environ[KEY])
        act(environ[KEY])
        answer(start_response)
        return [b""]

    exchange = request(SessionMiddleware(app, Session))

    session = given[0]
    assert isinstance(session, SQLAlchemySession)
    for use in (
        lambda: session.execute(text("SELECT 1")),
        lambda: session.add(Word(text="x")),
        lambda: session.info,
        lambda: session.begin(),
        lambda: session.__enter__(),
        lambda: setattr(session, "bind", None),
        lambda: delattr(session, "bind"),
        lambda: Word(text="x") in session,
        lambda: list(session),
        lambda: exchange.environ[KEY].commit(),
    ):
        with pytest.raises(ScopeEndedError, match="scope has ended"):
            use()
    with pytest.raises(ScopeEndedError), session:
        pass
    assert is_clean(engine)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda session: session.execute(text("SELECT 1")), id="execute"),
        pytest.param(lambda session: session.info, id="info"),
        pytest.param(lambda session: session.tenant, id="what was written"),
        pytest.param(lambda session: session.__enter__(), id="enter"),
        pytest.param(lambda session: ExitStack().enter_context(session), id="with"),
        pytest.param(lambda session: Word(text="x") in session, id="in"),
        pytest.param(lambda session: list(session), id="iter"),
        pytest.param(lambda session: copy.copy(session).bind, id="copy"),
    ],
)
def test_the_first_use_of_a_session_comes_after_the_end(use: Any, Session: Any) -> None:
    """It is refused, whatever it is, and so is what comes after it."""
    with session_scope(Session) as session:
        session.tenant = "ada"

    with pytest.raises(ScopeEndedError, match="scope has ended"):
        use(session)
    with pytest.raises(ScopeEndedError):
        session.bind = None
    session.close()


def test_what_an_ended_session_still_does(Session: Any) -> None:
    """``close()``, ``repr()`` and what Python itself asks for."""
    with session_scope(Session) as session:
        all_words(session)
        with session:
            pass

    session.close()
    close_all_sessions()

    assert "Session object at" in repr(session)
    assert isinstance(session, SQLAlchemySession)
    assert not isinstance(session, int)
    assert session == session
    assert {session: 1}[session] == 1
    with pytest.raises(ScopeEndedError):
        copy.copy(session).bind  # noqa: B018


def test_a_with_block_that_the_end_overtakes(Session: Any) -> None:
    """A ``with session:`` that is left after the end is left in peace."""
    with session_scope(Session) as session:
        block = session.__enter__()

    block.__exit__(None, None, None)


def test_loaded_objects_stay_readable(Session: Any, engine: Engine) -> None:
    """They are detached, and what was loaded can be read without a statement."""
    with session_scope(Session):
        add_words(Session, "x")
    loaded: list[Word] = []

    def app(environ: Any, start_response: Any) -> Any:
        loaded.extend(environ[KEY].scalars(select(Word)))
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    with statements(engine) as sent:
        assert loaded[0].text == "x"
    assert sent == []
    assert object_session(loaded[0]) is None


def test_a_thread_that_outlived_the_request(Session: Any) -> None:
    """A registry in a thread that inherited the context is an error once the request is over, and so is a new hook."""
    goes_on = threading.Event()
    errors: list[Any] = []

    def work() -> None:
        goes_on.wait(10)
        for use in (Session, Session.commit, lambda: current_scope().on_end(print), lambda: Session(autoflush=False)):
            try:
                use()
            except Exception as error:
                errors.append(error)
        Session.remove()
        with session_scope(Session) as session:
            errors.append(all_words(session))

    def app(environ: Any, start_response: Any) -> Any:
        thread = threading.Thread(target=copy_context().run, args=(work,))
        thread.start()
        environ["thread"] = thread
        answer(start_response)
        return [b""]

    exchange = request(SessionMiddleware(app, Session))
    goes_on.set()
    exchange.environ["thread"].join(10)

    assert [type(error) for error in errors[:4]] == [ScopeEndedError] * 4
    assert "GET /" in str(errors[0])
    assert errors[4] == []


def test_a_registry_that_was_opened_outwards_and_has_ended_is_not_skipped(new_engine: Any) -> None:
    """From inside a block that lives on, the registry of an ended scope is an error, not another scope's session."""
    A, B = (RequestScopedSession(sessionmaker(new_engine())) for _ in range(2))
    outer, inner = session_scope(A), session_scope(B)

    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    with pytest.raises(ScopeEndedError):
        A()
    inner.__exit__(None, None, None)
    with pytest.raises(RuntimeError):
        B()


def test_configure_does_not_mind(Session: Any, engine: Engine) -> None:
    """``configure()`` and ``remove()`` work outside of scopes, and in a hook."""
    with session_scope(Session):
        current_scope().on_end(lambda scope: (Session.configure(bind=engine), Session.remove()))

    Session.configure(bind=engine)
    Session.remove()
