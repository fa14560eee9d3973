"""The engine of a request, chosen from its environ: ``SessionMiddleware(..., bind=...)``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import Letter, Word, add_words, answer, is_clean, request, words
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    ScopeStateError,
    SessionMiddleware,
    on_unsafe_success,
    session_of,
    session_scope,
)
from wsgi_session.observe import Recorder

KEY = "sqlalchemy.session"

Engines = dict[str, Engine]


@pytest.fixture
def engines(new_engine: Callable[..., Engine]) -> Engines:
    """Return two tenants' databases, and that of the `sessionmaker`."""
    return {name: new_engine() for name in ("first", "second", "usual")}


@pytest.fixture
def Session(engines: Engines) -> RequestScopedSession[SQLAlchemySession]:  # noqa: N802
    """Return a registry on the usual one."""
    return RequestScopedSession(sessionmaker(engines["usual"]))


class Tenants:
    """Chooses by a key of the environ, and counts how often it was asked."""

    def __init__(self, engines: Engines) -> None:
        self.by_name = engines
        self.asked: list[str | None] = []

    def __call__(self, environ: Any) -> Engine | None:
        self.asked.append(environ.get("tenant"))
        return self.by_name.get(environ.get("tenant", ""))


def test_a_request_has_the_engine_that_was_chosen(engines: Engines, Session: Any) -> None:
    """Each request writes to its own database, and None is that of the sessionmaker."""
    choose = Tenants(engines)
    app = SessionMiddleware(adding, Session, commit=on_unsafe_success, bind=choose)

    for tenant in ("first", "second", "first"):
        request(app, "POST", tenant=tenant)
    request(app, "POST")

    assert [words(engine) for engine in engines.values()] == [["first", "first"], ["second"], ["usual"]]
    assert choose.asked == ["first", "second", "first", None]
    assert all(map(is_clean, engines.values()))


def adding(environ: Any, start_response: Any) -> Any:
    """Add a word that names the tenant."""
    add_words(environ[KEY], environ.get("tenant", "usual"))
    answer(start_response)
    return [b""]


def test_an_untouched_request_asks_nothing(engines: Engines, Session: Any) -> None:
    """What does not use its session has no engine."""
    choose = Tenants(engines)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, bind=choose), tenant="first")

    assert choose.asked == []


@pytest.mark.parametrize("end", ["commit", "rollback", "close", "remove"])
def test_it_is_asked_once(engines: Engines, Session: Any, end: str) -> None:
    """The choice is kept for the scope, also after an end of the transaction, and in the body."""
    choose = Tenants(engines)

    def app(environ: Any, start_response: Any) -> Any:
        bound = [Session.get_bind()]
        Session.execute(text("SELECT 1"))
        getattr(Session, end)()
        bound.append(Session.get_bind())
        answer(start_response)
        yield b""
        bound.append(session_of(environ, Session).get_bind())
        assert bound == [engines["first"]] * 3
        yield b"done"

    exchange = request(SessionMiddleware(app, Session, bind=choose), tenant="first")

    assert exchange.body == b"done"
    assert choose.asked == ["first"]


def test_a_block_and_another_registry_have_their_own(engines: Engines, Session: Any) -> None:
    """Only the middleware's own registry is chosen for; a block has no environ."""
    Other = RequestScopedSession(sessionmaker(engines["second"]))
    bound: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        bound.extend([Session.get_bind(), Other.get_bind()])
        with session_scope(Session) as session:
            bound.append(session.get_bind())
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, bind=Tenants(engines)), tenant="first")

    assert bound == [engines["first"], engines["second"], engines["usual"]]


def test_what_the_user_says_wins(engines: Engines, Session: Any) -> None:
    """``Session(bind=...)`` at the first touch wins, and ``binds=`` does for its tables."""
    choose = Tenants(engines)

    def app(environ: Any, start_response: Any) -> Any:
        assert Session(bind=engines["second"]).get_bind() is engines["second"]
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, bind=choose), tenant="first")
    assert choose.asked == []

    def splitting(environ: Any, start_response: Any) -> Any:
        assert environ[KEY].get_bind(Word) is engines["second"]
        assert environ[KEY].get_bind(Letter) is engines["first"]
        answer(start_response)
        return [b""]

    factory = sessionmaker(engines["usual"], binds={Word: engines["second"]})
    request(SessionMiddleware(splitting, factory, bind=choose), tenant="first")


def test_each_attempt_chooses_anew(engines: Engines, Session: Any) -> None:
    """A retry is a new scope, with ``retry.attempt`` in its environ."""

    def choose(environ: Any) -> Engine:
        return engines["second" if environ["retry.attempt"] else "first"]

    def app(environ: Any, start_response: Any) -> Any:
        if environ[KEY].get_bind() is engines["first"]:
            raise Again
        add_words(environ[KEY], "kept")
        answer(start_response)
        return [b""]

    inner = SessionMiddleware(app, Session, commit=on_unsafe_success, bind=choose)
    request(RetryMiddleware(inner, wait=0, is_retryable=lambda error: isinstance(error, Again)), "POST")

    assert words(engines["first"]) == []
    assert words(engines["second"]) == ["kept"]


class Again(Exception):  # noqa: N818
    """Asks for another attempt."""


def test_a_choice_that_fails(engines: Engines, Session: Any) -> None:
    """What chooses may raise: the request fails, and where the view handles it, it is asked again at the next touch."""
    asked: list[Any] = []

    def choose(environ: Any) -> Engine:
        asked.append(environ)
        if len(asked) == 1:
            raise LookupError("no such tenant")
        return engines["first"]

    def app(environ: Any, start_response: Any) -> Any:
        with pytest.raises(LookupError, match="no such tenant"):
            environ[KEY].get_bind()
        assert environ[KEY].get_bind() is engines["first"]
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, bind=choose))

    assert len(asked) == 2


def test_a_choice_that_asks_for_the_session(Session: Any) -> None:
    """What chooses cannot use the session whose engine it chooses."""

    def choose(environ: Any) -> Engine | None:
        environ[KEY].scalar(select(Word.text))
        return None

    def app(environ: Any, start_response: Any) -> Any:
        with pytest.raises(ScopeStateError, match="cannot be used by the function that chooses its engine"):
            environ[KEY].get_bind()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, bind=choose))


def test_what_is_no_choice(engine: Engine, Session: Any) -> None:
    """An engine as ``bind=``, an ``async`` function and a result of another kind are each an error."""

    async def choose(environ: Any) -> None: ...

    with pytest.raises(TypeError, match=r"bind, which chooses the engine of a request, has to be callable"):
        SessionMiddleware(adding, Session, bind=engine)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'async' function"):
        SessionMiddleware(adding, Session, bind=choose)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"has to choose an Engine, or None .* it returned 'sqlite://'"):
        request(SessionMiddleware(adding, Session, bind=lambda environ: "sqlite://"), "POST")  # type: ignore[arg-type, return-value]


def test_a_session_that_is_built_at_once(engines: Engines) -> None:
    """A factory that is no sessionmaker is given the engine, too."""

    def make(**kw: Any) -> SQLAlchemySession:
        return SQLAlchemySession(**kw)

    factory: Any = make
    Session = RequestScopedSession(factory)
    request(SessionMiddleware(adding, Session, commit=on_unsafe_success, bind=Tenants(engines)), "POST", tenant="first")

    assert words(engines["first"]) == ["first"]


def test_an_engine_with_options_is_kept(engines: Engines, Session: Any) -> None:
    """A schema for each tenant is an engine with options that is made once."""
    translated = engines["first"].execution_options(schema_translate_map={None: "main"})

    request(SessionMiddleware(adding, Session, commit=on_unsafe_success, bind=lambda environ: translated), "POST")

    assert words(engines["first"]) == ["usual"]


def test_the_recorder_knows_what_may_be_chosen(engines: Engines, Session: Any) -> None:
    """The engines of ``bind.engines`` are watched before their first session."""
    recorder = Recorder()
    choose = Tenants(engines)
    choose.engines = [engines["first"], engines["second"]]  # type: ignore[attr-defined]
    SessionMiddleware(adding, Session, bind=choose, recorder=recorder)

    watched = {pool.engine for pool in recorder.gauges().pools}
    assert {f"sqlite:{engine.url.database}" for engine in engines.values()} <= watched


def test_a_child_process_has_pools_of_its_own(engines: Engines, Session: Any) -> None:
    """A connection of a chosen engine is not used by two processes."""
    app = SessionMiddleware(adding, Session, commit=on_unsafe_success, bind=Tenants(engines))
    request(app, "POST", tenant="first")
    parents = engines["first"].pool

    child = os.fork()
    if not child:
        os._exit(engines["first"].pool is parents)

    assert os.waitpid(child, 0)[1] == 0
