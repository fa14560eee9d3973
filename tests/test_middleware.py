"""The middleware: what it is made from, its hooks, and its end."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import scoped_session, sessionmaker

from tests.helpers import Base, all_words, answer, request
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    Scope,
    ScopeEndedError,
    SessionMiddleware,
    State,
    current_scope,
    from_veto,
    never,
    on_success,
    session_scope,
    until_close,
)
from wsgi_session.inspector import Inspector
from wsgi_session.observe import Recorder

KEY = "sqlalchemy.session"
ROOT = Path(__file__).parent.parent


def lists_words(environ: Any, start_response: Any) -> Any:
    """List what the environ's session can read."""
    answer(start_response)
    return [repr(all_words(environ[KEY])).encode()]


@pytest.mark.parametrize(
    "make",
    [
        lambda engine: RequestScopedSession(sessionmaker(engine)),
        lambda engine: sessionmaker(engine),
        lambda engine: engine,
        lambda engine: str(engine.url),
        lambda engine: engine.url,
        lambda engine: scoped_session(sessionmaker(engine), scopefunc=current_scope),
    ],
    ids=["RequestScopedSession", "sessionmaker", "Engine", "string", "URL", "scoped_session"],
)
def test_what_it_is_made_from(make: Any, engine: Engine) -> None:
    """A registry, a `sessionmaker`, an `Engine`, a database URL, or SQLAlchemy's own `scoped_session`."""
    given = make(engine)

    middleware = SessionMiddleware(lists_words, given)

    assert request(middleware).body == b"[]"
    assert isinstance(middleware.registry, scoped_session)
    assert middleware.registry is given or not isinstance(given, scoped_session)
    middleware.close()


@pytest.mark.parametrize("given", [None, 7, object(), SQLAlchemySession, SQLAlchemySession(), dict])
def test_anything_else_is_refused(given: Any) -> None:
    """The error says what is accepted, when the middleware is built."""
    with pytest.raises(TypeError, match=r"RequestScopedSession,.* a sessionmaker, an Engine or a database URL"):
        SessionMiddleware(lists_words, given)


@pytest.mark.parametrize("scopefunc", [None, lambda: 1])
def test_a_registry_with_another_key_is_refused(scopefunc: Any, engine: Engine) -> None:
    """A `scoped_session` that is keyed on the thread, or anything else, is refused with the remedy."""
    with pytest.raises(TypeError, match=r"scopefunc=wsgi_session\.current_scope"):
        SessionMiddleware(lists_words, scoped_session(sessionmaker(engine), scopefunc=scopefunc))


async def an_async_function(*of_the_call: object) -> bool:
    """Return a coroutine, which is true."""
    return False


class AsyncObject:
    """An object that is called like one."""

    async def __call__(self, *of_the_call: object) -> bool:
        return False


@pytest.mark.parametrize(
    "make",
    [
        lambda: from_veto(an_async_function),
        lambda: RetryMiddleware(lists_words, is_retryable=an_async_function),
        lambda: RetryMiddleware(lists_words, on_failed_attempt=an_async_function),
        lambda: RetryMiddleware(lists_words, exhausted=an_async_function),
        lambda: RetryMiddleware(an_async_function),
        lambda: Recorder(record_if=an_async_function),
        lambda: Recorder(server_timing=an_async_function),
        lambda: Inspector(Recorder(), allow=an_async_function),
    ],
    ids=["veto", "is_retryable", "on_failed_attempt", "exhausted", "app", "record_if", "server_timing", "allow"],
)
def test_a_coroutine_is_no_answer(make: Any) -> None:
    """An ``async`` function is refused where it is given: what it returns would be true, whatever it says."""
    with pytest.raises(TypeError, match="async"):
        make()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"app": None}, "callable"),
        ({"app": "app:main"}, "callable"),
        ({"environ_key": b"session"}, "environ_key"),
        ({"commit": None}, "commit=until_close"),
        ({"commit": True}, "on_unsafe_success"),
        ({"commit": "on_success"}, "on_unsafe_success"),
        ({"app": an_async_function}, "'async' function, as ASGI has it"),
        ({"app": AsyncObject()}, "'async' function, as ASGI has it"),
        ({"commit": an_async_function}, "commit has to be a plain function: 'an_async_function'"),
        ({"commit": partial(an_async_function)}, "commit has to be a plain function"),
        ({"commit": AsyncObject()}, "commit has to be a plain function"),
    ],
)
def test_other_mistakes_are_refused_at_once(options: Any, complaint: str, engine: Engine) -> None:
    """Every argument is checked when the middleware is built."""
    with pytest.raises(TypeError, match=complaint):
        SessionMiddleware(**{"app": lists_words, "registry": engine, **options})


def test_a_url_that_is_none() -> None:
    """SQLAlchemy's own error passes through."""
    with pytest.raises(ArgumentError):
        SessionMiddleware(lists_words, "not a url")


def test_close_disposes_of_an_engine_that_was_made_here(engine: Engine) -> None:
    """The engine of a URL is disposed of; a user's never."""
    made = SessionMiddleware(lists_words, engine.url)
    given = SessionMiddleware(lists_words, engine)
    request(made)
    request(given)
    made_engine = made.registry.session_factory.kw["bind"]
    pools = (made_engine.pool, engine.pool)

    made.close()
    given.close()

    assert made_engine.pool is not pools[0]
    assert engine.pool is pools[1]
    assert isinstance(made_engine.url, URL)


def test_another_key(engine: Engine) -> None:
    """The session is where the user wants it in the environ."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return [repr(all_words(environ["db"])).encode()]

    assert request(SessionMiddleware(app, engine, environ_key="db")).body == b"[]"


def test_what_is_the_users_stays_in_the_info(engine: Engine) -> None:
    """The end of a scope takes its own keys out of `Session.info`, and leaves the user's."""
    kept: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        kept.append(environ[KEY].info)
        environ[KEY].info["mine"] = "kept"
        all_words(environ[KEY])
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, sessionmaker(engine, info={"given": 1}), commit=on_success))

    assert kept == [{"given": 1, "mine": "kept"}]


def test_one_registry_for_two_threads_at_once(engine: Engine) -> None:
    """Whoever comes first: a plain `scoped_session` is given one registry, and its users mean the same sessions."""
    for _ in range(50):
        Session = scoped_session(sessionmaker(engine), scopefunc=current_scope)
        barrier = threading.Barrier(2)
        found: list[Any] = []

        def adopt(Session: Any = Session, barrier: Any = barrier, found: Any = found) -> None:
            barrier.wait(10)
            found.append(session_scope(Session)._source)

        threads = [threading.Thread(target=adopt) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert found[0] is found[1] is Session.registry.source


def test_the_scopes_face(Session: Any) -> None:
    """A scope shows its environ and its state."""
    states: list[Any] = []
    shown: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        scope = current_scope()
        assert isinstance(scope, Scope)
        assert scope.environ is environ
        assert environ[KEY].info["wsgi_session.scope"] is scope
        states.append(scope.state)
        shown.append(repr(scope))
        scope.on_end(lambda ended: states.append(ended.state))
        answer(start_response, "200 OK" if environ["PATH_INFO"] == "/ok" else "404 Not Found")

        def body() -> Any:
            states.append(scope.state)
            yield b"x"

        return body()

    app = SessionMiddleware(app, Session, commit=on_success)
    request(app, path="/ok")
    request(app, "POST", path="/lost")

    assert states == [State.OPEN, State.COMMITTED, State.ENDED, State.OPEN, State.ROLLED_BACK, State.ENDED]
    assert shown == ["<Scope of GET /ok, open>", "<Scope of POST /lost, open>"]


def test_sqlalchemys_documented_hook_works_as_it_stands(engine: Engine) -> None:
    """``Session.remove()`` in an ``on_request_end`` hook does nothing, for all is done; ``Session()`` is an error."""
    Session = scoped_session(sessionmaker(engine), scopefunc=current_scope)
    middleware = SessionMiddleware(lists_words, Session)
    seen: list[Any] = []

    @middleware.on_request_end
    def remove_session(req: Scope) -> None:
        Session.remove()
        seen.append(req.environ)
        with pytest.raises(ScopeEndedError):
            Session()

    exchange = request(middleware)

    assert seen == [exchange.environ]
    assert remove_session is not None


def test_the_order_of_hooks(Session: Any) -> None:
    """Hooks run after the sessions were closed: the middleware's and then the scope's, each in order, once."""
    ran: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        all_words(environ[KEY])
        current_scope().on_end(lambda scope: ran.append("third"))
        current_scope().on_end(lambda scope: ran.append("fourth"))
        answer(start_response)
        return [b""]

    middleware = SessionMiddleware(app, Session)

    @middleware.on_request_end
    def first(scope: Scope) -> None:
        ran.append("first")

    middleware.on_request_end(lambda scope: ran.append("second"))
    request(middleware)

    assert ran == ["first", "second", "third", "fourth"]


def test_a_failing_hook_spares_the_others(Session: Any, caplog: Any) -> None:
    """A hook that raises is logged with its name, and keeps no other from running."""
    ran: list[str] = []
    middleware = SessionMiddleware(lists_words, Session)

    @middleware.on_request_end
    def failing(scope: Scope) -> None:
        raise LookupError("hook")

    middleware.on_request_end(lambda scope: ran.append("ran"))

    assert request(middleware).status == "200 OK"
    assert ran == ["ran"]
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "failing" in record.getMessage()


def test_hooks_that_would_never_run(Session: Any) -> None:
    """A generator, an ``async`` function, and what cannot be called are refused, with the line they are from."""
    middleware = SessionMiddleware(lists_words, Session)

    def generator(scope: Scope) -> Any:
        yield

    async def coroutine(scope: Scope) -> None:
        pass

    async def async_generator(scope: Scope) -> Any:
        yield

    for hook in (generator, coroutine, async_generator):
        with pytest.raises(TypeError, match=rf"{hook.__name__}.*test_middleware\.py:\d+.*never run"):
            middleware.on_request_end(hook)
    with pytest.raises(TypeError, match="callable"):
        middleware.on_request_end(None)  # type: ignore[type-var]


def test_an_outer_registry_can_be_used_in_an_inner_hook(new_engine: Any) -> None:
    """In a hook only the registry whose scope has ended is an error."""
    A, B = (RequestScopedSession(sessionmaker(new_engine())) for _ in range(2))
    inner = SessionMiddleware(lists_words, B)
    inner.on_request_end(lambda scope: seen.append(all_words(A)))
    seen: list[Any] = []

    request(SessionMiddleware(inner, A, environ_key="a"))

    assert seen == [[]]


@pytest.mark.parametrize("shape", ["list", "body"])
def test_a_hook_runs_in_its_own_scope(shape: str, new_engine: Any) -> None:
    """Also where the application has left a block open: the registry means the scope that has ended."""
    Session = RequestScopedSession(sessionmaker(new_engine(pool_size=2)))
    block = session_scope(Session)
    errors: list[Any] = []

    class Body:
        def __iter__(self) -> Any:
            block.__enter__()
            return iter([b"x"])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        if shape == "list":
            block.__enter__()
            return [b"x"]
        return Body()

    def hook(scope: Scope) -> None:
        with pytest.raises(ScopeEndedError) as caught:
            Session()
        errors.append(caught.value)

    middleware = SessionMiddleware(app, Session)
    middleware.on_request_end(hook)
    request(middleware)
    block.__exit__(None, None, None)

    assert len(errors) == 1


def test_an_engine_in_memory() -> None:
    """The quickest start there is: an in-memory database and a plain application."""
    engine = create_engine(make_url("sqlite://"))
    Base.metadata.create_all(engine)

    assert request(SessionMiddleware(lists_words, engine)).body == b"[]"
    engine.dispose()


IMPORTED = """
import sys
import sqlalchemy.orm
before = set(sys.modules)
import wsgi_session
print(*sorted(name for name in set(sys.modules) - before))
"""


def test_who_asks_them_is_told_no() -> None:
    """`never` and `until_close` commit nothing, also as parts of a rule of one's own."""
    assert [rule({}, 200, []) for rule in (never, until_close)] == [False, False]


def test_what_an_import_brings() -> None:
    """The package brings itself: no recorder, no pages, and nothing of the network but names of statuses."""
    run = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, cwd=ROOT)

    brought = set(run.stdout.split())
    assert "wsgi_session.middleware" in brought
    assert not {name for name in brought if name.startswith(("wsgi_session.observe", "wsgi_session.inspector"))}
    assert not brought & {"email", "http.client", "jinja2", "socketserver", "ssl", "urllib.request", "webob"}


def test_a_status_that_is_none(engine: Engine) -> None:
    """It goes on to the server as it is, where no rule has to understand it."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        all_words(environ["sqlalchemy.session"])
        start_response("nonsense", [])
        return [b""]

    assert request(SessionMiddleware(app, engine)).status == "nonsense"
