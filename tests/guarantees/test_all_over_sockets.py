"""Guarantees 4 and 5 over a real socket, and 2 under gevent's patches."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

from tests.client import Client, asked
from tests.helpers import add_words, answer, is_clean, orphan, words
from tests.sockets import served
from wsgi_session import RequestScopedSession, SessionMiddleware, on_success

KEY = "sqlalchemy.session"

SHAPES: dict[str, Any] = {
    "list": lambda answer: [answer(), b"x"][1:],
    "iterator": lambda answer: iter([answer(), b"x"][1:]),
    "generator": lambda answer: (chunk for chunk in [b"x"] if answer() is None),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.system("postgresql"))])
def test_a_commit_that_fails_is_a_500(shape: str, database: str, request: Any, capsys: Any) -> None:
    """The client sees no byte of a success that is not committed, and the next request is right."""
    engine: Engine = request.getfixturevalue("engine" if database == "sqlite" else "postgresql_engine")
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/fails":
            environ[KEY].add(orphan())
        return SHAPES[shape](lambda: answer(start_response))

    with served(SessionMiddleware(app, Session, commit=on_success)) as port:
        answers = [asked(port, path) for path in ("/fails", "/next")]

    assert [one.status for one in answers] == [500, 200]
    assert [one.body == b"x" for one in answers] == [False, True]
    assert words(engine) == ["/next"]
    assert is_clean(engine)
    assert "IntegrityError" in capsys.readouterr().err


def test_what_a_client_has_been_told_is_committed(Session: Any, engine: Engine) -> None:
    """When the first byte of a stream arrives, the row is there, however long the stream goes on."""
    goes_on = threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        add_words(environ[KEY], "x")
        answer(start_response)
        yield b"first"
        goes_on.wait(10)
        yield b"last"

    with served(SessionMiddleware(app, Session, commit=on_success)) as port, Client(port) as client:
        client.send("/")
        assert client.peek(5)
        seen = words(engine)
        goes_on.set()
        told = client.answer()

    assert told.status == 200
    assert seen == ["x"]
    assert told.body == b"firstlast"


def test_a_client_that_leaves_half_way(Session: Any, engine: Engine, capsys: Any) -> None:
    """The server closes the response, and the connection to the database is back."""
    ended = threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)

        def body() -> Iterator[bytes]:
            while True:
                add_words(environ[KEY], "lost")
                environ[KEY].flush()
                yield b"x" * 65536

        return body()

    app = SessionMiddleware(app, Session)
    app.on_request_end(lambda scope: ended.set())
    with served(app) as port:
        with Client(port) as client:
            client.send("/")
            assert client.peek(5)
        assert ended.wait(10)
        assert is_clean(engine)

    assert words(engine) == []
    capsys.readouterr()


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from tests.client import Client, asked
from tests.helpers import Exchange, answer
from wsgi_session import RequestScopedSession, SessionMiddleware

engine = create_engine("sqlite:///{path}", pool_size=100)
Session = RequestScopedSession(sessionmaker(engine))
seen = []

def app(environ, start_response):
    name = environ["PATH_INFO"]
    seen.append((name, Session()))
    answer(start_response)
    def body():
        for _ in range(3):
            gevent.sleep(0)
            assert Session() is environ["sqlalchemy.session"]
            seen.append((name, Session()))
            Session.execute(text("SELECT 1"))
            yield b"x"
    return body()

wrapped = SessionMiddleware(app, Session)
def serve(number):
    Exchange(wrapped, path=str(number)).read().close()

greenlets = [gevent.spawn(serve, number) for number in range(100)]
gevent.joinall(greenlets, raise_error=True)
assert len(seen) == 400, len(seen)
assert len(set(seen)) == 100 == len({{session for _, session in seen}})
assert engine.pool.checkedout() == 0
killed = []

def endless(environ, start_response):
    Session.execute(text("SELECT 1"))
    answer(start_response)
    gevent.sleep(60)

middleware = SessionMiddleware(endless, Session)
middleware.on_request_end(killed.append)
greenlet = gevent.spawn(Exchange, middleware)
gevent.sleep(0)
greenlet.kill()
assert len(killed) == 1
assert engine.pool.checkedout() == 0
print("well")
"""


def test_under_gevents_patches(tmp_path: Any) -> None:
    """A hundred patched greenlets each have their own session; one that is killed leaves nothing."""
    program = UNDER_GEVENT.format(path=tmp_path / "gevent.db")

    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (run.stdout, run.returncode) == ("well\n", 0), run.stderr
