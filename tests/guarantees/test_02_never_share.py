"""Guarantee 2: two requests never share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from sqlalchemy.orm import sessionmaker

from tests.helpers import Exchange, add_words, all_words, answer, new_environ, request, words
from wsgi_session import (
    RequestScopedSession,
    SessionMiddleware,
    current_environ,
    current_scope,
    never,
    on_success,
    session_scope,
    until_close,
)

KEY = "sqlalchemy.session"


def streaming(Session: Any, seen: list[tuple[str, Any]]) -> Any:
    """Make an application whose body looks at its session at every chunk."""

    def app(environ: Any, start_response: Any) -> Any:
        name = environ["PATH_INFO"]
        seen.append((name, Session()))
        answer(start_response)

        def body() -> Iterator[bytes]:
            try:
                for _ in range(3):
                    assert environ is current_environ()
                    seen.append((name, Session()))
                    yield name.encode()
            finally:
                seen.append((name, Session()))

        return body()

    return app


def each_its_own(seen: list[tuple[str, Any]], requests: int) -> bool:
    """Say whether every request saw one session, and no two the same."""
    return len(set(seen)) == requests == len({session for _, session in seen})


@pytest.mark.parametrize("commit", [until_close, on_success, never])
def test_not_when_bodies_interleave(Session: Any, commit: Any) -> None:
    """Two bodies whose steps alternate on one thread, in one context, each have their own session at every step."""
    seen: list[tuple[str, Any]] = []
    app = SessionMiddleware(streaming(Session, seen), Session, commit=commit)

    exchanges = [Exchange(app, path=path) for path in ("/a", "/b")]
    for _ in range(3):
        for exchange in exchanges:
            exchange.step()
    for exchange in reversed(exchanges):
        exchange.close()

    assert len(seen) == 10
    assert each_its_own(seen, 2)


@pytest.mark.parametrize("is_patched", [True, False])
def test_not_under_greenlets(Session: Any, is_patched: bool) -> None:
    """A hundred greenlets, with or without contexts of their own, each have their own session at every step."""
    import greenlet

    seen: list[tuple[str, Any]] = []
    app = SessionMiddleware(streaming(Session, seen), Session)
    hub = greenlet.getcurrent()

    def serve(number: int) -> None:
        exchange = Exchange(app, path=f"/{number}")
        hub.switch()
        while exchange.step() is not None:
            hub.switch()
        exchange.close()

    greenlets = [greenlet.greenlet(serve) for _ in range(100)]
    context = copy_context()
    for one in greenlets:
        one.gr_context = copy_context() if is_patched else None
    waiting = dict(enumerate(greenlets))
    for number, one in waiting.items():
        one.switch(number)
    while any(not one.dead for one in greenlets):
        for one in greenlets:
            if not one.dead:
                one.switch()

    assert context is not None
    assert len(seen) == 500
    assert each_its_own(seen, 100)


def test_not_when_a_request_calls_the_application_in_process(new_engine: Any) -> None:
    """A call with a new environ, a copy or the very same one is a request of its own, as is the outer one after it."""
    engine = new_engine(pool_size=2)
    Session = RequestScopedSession(sessionmaker(engine))
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        if environ["PATH_INFO"] == "/inner":
            seen.append(environ[KEY])
            assert Session() is environ[KEY]
            add_words(Session, "inner")
            Session.commit()
            return (chunk for chunk in [b"in", b"ner"] if Session() is environ[KEY])
        outer = environ[KEY]
        add_words(outer, "outer")
        for inner_environ in (new_environ(path="/inner"), {**environ, "PATH_INFO": "/inner"}, environ):
            inner_environ["PATH_INFO"] = "/inner"
            inner = Exchange(wrapped, environ=inner_environ)
            assert environ[KEY] is outer is Session()
            assert inner.step() == b"in"
            assert environ[KEY] is outer is Session()
            inner.read().close()
            assert environ[KEY] is outer is Session()
            assert inner.body == b"inner"
        seen.append(outer)
        outer.commit()
        return [b"outer"]

    wrapped = SessionMiddleware(app, Session)
    exchange = request(wrapped)

    assert exchange.body == b"outer"
    assert len(seen) == 4
    assert len({id(session) for session in seen}) == 4
    assert words(engine) == ["inner"] * 3 + ["outer"]


def test_the_close_of_an_inner_request_finds_its_own_session(Session: Any) -> None:
    """Also where it has the environ of the outer one, which has its own again afterwards."""
    inner: list[Any] = []

    class Body:
        def __init__(self, environ: Any) -> None:
            self.environ = environ

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            inner.append(self.environ[KEY])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        if environ["PATH_INFO"] == "/inner":
            inner.append(environ[KEY])
            return Body(environ)
        outer = environ[KEY]
        environ["PATH_INFO"] = "/inner"
        Exchange(wrapped, environ=environ).read().close()
        assert environ[KEY] is outer
        return []

    wrapped = SessionMiddleware(app, Session)
    request(wrapped)

    assert inner[0] is inner[1]


def test_an_inner_call_follows_its_own_middlewares_rule(new_engine: Any) -> None:
    """Each call is settled by the rule of the middleware it went through."""
    engine = new_engine(pool_size=2)
    Session = RequestScopedSession(sessionmaker(engine))

    def inner(environ: Any, start_response: Any) -> Any:
        add_words(Session, environ["PATH_INFO"])
        answer(start_response)
        return [b""]

    committing = SessionMiddleware(inner, Session, commit=on_success)
    not_committing = SessionMiddleware(inner, Session)

    def outer(environ: Any, start_response: Any) -> Any:
        request(committing, path="/kept")
        request(not_committing, path="/lost")
        add_words(Session, "outer")
        answer(start_response)
        return [b""]

    request(SessionMiddleware(outer, Session, commit=on_success))

    assert words(engine) == ["/kept", "outer"]


def test_two_middlewares_are_two_databases(new_engine: Any) -> None:
    """Inside two middlewares with two keys, each registry means its own session, and each rule its own."""
    first, second = new_engine(), new_engine()
    A, B = RequestScopedSession(sessionmaker(first)), RequestScopedSession(sessionmaker(second))
    ends: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        assert A() is environ["a"]
        assert B() is environ["b"]
        add_words(A, "a")
        add_words(B, "b")
        answer(start_response)
        assert A().info["wsgi_session.scope"] is not current_scope()
        assert B().info["wsgi_session.scope"] is current_scope()
        return [b""]

    inner = SessionMiddleware(app, B, environ_key="b", commit=never)
    outer = SessionMiddleware(inner, A, environ_key="a", commit=on_success)
    inner.on_request_end(lambda scope: ends.append("b"))
    outer.on_request_end(lambda scope: ends.append("a"))

    request(outer)

    assert (words(first), words(second)) == (["a"], [])
    assert ends == ["b", "a"]


def test_a_registry_no_middleware_was_given(new_engine: Any) -> None:
    """Its session is made in the nearest middleware's scope, and settled and ended with it."""
    first, second = new_engine(), new_engine()
    A, other = RequestScopedSession(sessionmaker(first)), RequestScopedSession(sessionmaker(second))
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        with session_scope(A):
            given.extend([other(), other()])
        given.append(other())
        add_words(other, "x")
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, A, commit=on_success))

    assert len({id(session) for session in given}) == 1
    assert words(second) == ["x"]
    with pytest.raises(RuntimeError, match="ended"):
        given[0].commit()


def test_a_block_in_a_request_has_a_session_of_its_own(new_engine: Any) -> None:
    """In ``session_scope(A)`` A has a session of its own while B stays the request's; then A is the request's again."""
    first, second = new_engine(pool_size=2), new_engine()
    A, B = RequestScopedSession(sessionmaker(first)), RequestScopedSession(sessionmaker(second))

    def app(environ: Any, start_response: Any) -> Any:
        in_request = (A(), B())
        with session_scope(A) as session:
            assert A() is session is not in_request[0]
            assert B() is in_request[1]
            assert current_environ() is environ
            add_words(A, "block")
        assert (A(), B()) == in_request
        add_words(A, "request")
        answer(start_response)
        return [b""]

    request(SessionMiddleware(SessionMiddleware(app, B, environ_key="b"), A))

    assert words(first) == ["block"]


def test_a_block_may_span_a_yield(new_engine: Any) -> None:
    """A block that a body holds open while it yields is current in that body's steps, and nowhere else."""
    engine = new_engine(pool_size=3)
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)

        def body() -> Iterator[bytes]:
            with session_scope(Session) as session:
                add_words(session, environ["PATH_INFO"])
                yield b"x"
                assert Session() is session
                if environ["PATH_INFO"] == "/fails":
                    raise ValueError("half-way")
                yield b"y"
            assert Session() is environ[KEY]
            yield b"z"

        return body()

    app = SessionMiddleware(app, Session)
    exchanges = {path: Exchange(app, path=path) for path in ("/finished", "/fails", "/dropped", "/closed")}
    for exchange in exchanges.values():
        exchange.step()
        with pytest.raises(RuntimeError, match="No scope"):
            Session()
        engine.pool.status()
        if exchange is exchanges["/finished"]:
            exchange.read().close()
    with pytest.raises(ValueError, match="half-way"):
        exchanges["/fails"].read()
    exchanges["/fails"].close()
    exchanges.pop("/dropped").drop()
    exchanges["/closed"].close()

    assert exchanges["/finished"].body == b"xyz"
    assert words(engine) == ["/finished"]
    assert engine.pool.checkedout() == 0


def test_a_dropped_body_cleans_up_in_its_own_scope(Session: Any) -> None:
    """A dropped generator whose ``finally`` calls ``Session.remove()`` does so to its own session, not to another's."""

    def dropped(environ: Any, start_response: Any) -> Any:
        answer(start_response)

        def body() -> Iterator[bytes]:
            try:
                yield b"x"
            finally:
                Session.remove()

        return body()

    exchange = Exchange(SessionMiddleware(dropped, Session))
    exchange.step()

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "mine")
        Session.flush()
        exchange.drop()
        answer(start_response)
        return [repr(all_words(Session)).encode()]

    assert request(SessionMiddleware(app, Session)).body == b"['mine']"


def test_an_inner_body_may_outlive_the_outer_request(Session: Any) -> None:
    """It keeps its own session; the outer request's is gone."""
    inner: list[Exchange] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        if environ["PATH_INFO"] == "/inner":
            return (repr(all_words(Session)).encode() for _ in range(2))
        inner.append(Exchange(wrapped, path="/inner"))
        return [b""]

    wrapped = SessionMiddleware(app, Session)
    request(wrapped)

    assert inner[0].read().close().body == b"[][]"


def test_no_chain_of_scopes_is_kept(Session: Any) -> None:
    """Fifty jobs that each start the next, in the context they run in, do not keep one another alive."""
    contexts = []
    scopes = []
    context = copy_context()

    def job() -> None:
        with session_scope(Session):
            scopes.append(current_scope())
            contexts.append(copy_context())

    for _ in range(50):
        context.run(job)
        context = contexts[-1]

    for scope in scopes:
        depth = 0
        while scope.outer is not None:
            scope, depth = scope.outer, depth + 1  # noqa: PLW2901
        assert depth <= 1


def test_not_when_an_id_is_recycled(Session: Any) -> None:
    """In ten thousand requests, half of them never closed, no session is seen twice and nothing is kept."""
    seen: set[int] = set()
    gc.collect()

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        assert "number" not in session.info
        session.info["number"] = len(seen)
        seen.add(len(seen))
        answer(start_response)
        return iter([b"x"])

    wrapped = SessionMiddleware(app, Session)
    before = len(gc.get_objects())
    for number in range(10_000):
        exchange = Exchange(wrapped)
        exchange.step()
        exchange.close() if number % 2 else exchange.drop()
        if number % 1000 == 0:
            gc.collect()
    del exchange
    gc.collect()

    assert len(seen) == 10_000
    assert len(gc.get_objects()) - before < 100


def test_an_environ_that_the_server_uses_again(Session: Any) -> None:
    """A server may clear its environ and use it for the next request, also while an old response is collected."""
    environ = new_environ()
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ[KEY])
        answer(start_response)
        return iter([b"x"])

    wrapped = SessionMiddleware(app, Session)
    first = Exchange(wrapped, environ=environ)
    environ.clear()
    environ.update(new_environ())
    second = Exchange(wrapped, environ=environ)
    del app
    first.drop()

    assert environ[KEY] is seen[1] is not seen[0]
    second.read().close()
