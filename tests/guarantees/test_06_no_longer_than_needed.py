"""Guarantee 6: the transaction lives no longer than it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import sessionmaker

from tests.helpers import Exchange, Word, add_words, all_words, answer, is_clean, request, statements, words
from wsgi_session import (
    PendingChangesError,
    RequestScopedSession,
    ScopeEndedError,
    SessionMiddleware,
    current_scope,
    never,
    on_success,
    on_unsafe_success,
    session_scope,
    until_close,
)

KEY = "sqlalchemy.session"


def test_a_request_that_does_not_touch_its_session(Session: Any, engine: Engine) -> None:
    """It builds no session, takes no connection and runs no SQL."""
    built: list[Any] = []
    event.listen(engine.pool, "checkout", lambda *args: built.append("checkout"))
    real = Session.session_factory.class_
    init = real.__init__
    real.__init__ = lambda self, **kw: (built.append("session"), init(self, **kw))[1]

    def app(environ: Any, start_response: Any) -> Any:
        assert environ[KEY] is Session()
        answer(start_response)
        return [b""] if environ["PATH_INFO"] == "/" else iter([b"x"])

    for commit in (until_close, on_success, never):
        for path in ("/", "/stream"):
            request(SessionMiddleware(app, Session, commit=commit), path=path)

    assert built == []


@pytest.mark.parametrize("commit", [until_close, on_success, never])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_gives_the_connection_back_on_return(kind: Any, commit: Any, Session: Any, engine: Engine) -> None:
    """For exactly a list or tuple, the scope ends on return: no code of the application is left to run."""
    ends: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        all_words(environ[KEY])
        answer(start_response)
        return kind([b"x"])

    app = SessionMiddleware(app, Session, commit=commit)
    app.on_request_end(ends.append)
    Exchange(app)

    assert len(ends) == 1
    assert is_clean(engine)


@pytest.mark.parametrize("commit", [until_close, on_success, never])
def test_a_file_gives_the_connection_back_on_return(commit: Any, Session: Any, engine: Engine, tmp_path: Path) -> None:
    """For the server's file wrapper around a real file, too; around anything else it may still read the session."""
    path = tmp_path / "file"
    path.write_bytes(b"file")

    class Rows:
        def __init__(self, session: Any) -> None:
            self.session, self.left = session, [b"rows"]

        def read(self, size: int = -1) -> bytes:
            all_words(self.session)
            return self.left.pop() if self.left else b""

    def app(environ: Any, start_response: Any) -> Any:
        all_words(environ[KEY])
        answer(start_response)
        file = path.open("rb") if environ["PATH_INFO"] == "/file" else Rows(environ[KEY])
        return environ["wsgi.file_wrapper"](file)

    app = SessionMiddleware(app, Session, commit=commit)
    real = Exchange(app, path="/file", **{"wsgi.file_wrapper": FileWrapper})
    assert type(real.result) is FileWrapper
    assert is_clean(engine)
    assert real.read().close().body == b"file"
    rows = Exchange(app, path="/rows", **{"wsgi.file_wrapper": FileWrapper})
    assert rows.read().close().body == b"rows"
    assert is_clean(engine)


def streaming(*headers: tuple[str, str], act: Any = all_words, chunks: int = 3) -> Any:
    """Make an application that touches its session in the handler and streams chunks of one byte."""

    def app(environ: Any, start_response: Any) -> Any:
        act(environ[KEY])
        answer(start_response, "200 OK", *headers)
        return (b"x" for _ in range(chunks))

    return app


@pytest.mark.parametrize("rule", [on_unsafe_success, on_success, never])
def test_a_complete_content_length_gives_the_connection_back(rule: Any, Session: Any, engine: Engine) -> None:
    """The transaction is ended just before the chunk that completes the declared length is handed over."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response, "200 OK", ("content-length", " 3 "))

        def body() -> Iterator[bytes]:
            for _ in range(3):
                all_words(environ[KEY])
                yield b"x"

        return body()

    exchange = Exchange(SessionMiddleware(app, Session, commit=rule))
    exchange.step()
    exchange.step()
    assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    exchange.step()

    assert is_clean(engine)
    exchange.read().close()


def test_until_close_it_does_not(Session: Any, engine: Engine) -> None:
    """Under `until_close` the transaction is the application's own until the end."""
    exchange = Exchange(SessionMiddleware(streaming(("Content-Length", "3")), Session, commit=until_close)).read()

    assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    exchange.close()
    assert is_clean(engine)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Content-Length", "3"), ("Content-Length", "3")],
        [("Content-Length", "three")],
        [("Content-Length", "-3")],
        [("Content-Length", "\u00b3")],
        [("Content-Length", "")],
        [("Content-Length", "4")],
    ],
)
def test_a_length_that_cannot_be_relied_on_is_ignored(headers: Any, Session: Any, engine: Engine) -> None:
    """Invalid, doubled, missing, or not reached: the connection goes back at the end."""
    exchange = Exchange(SessionMiddleware(streaming(*headers), Session, commit=never)).read()

    assert engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    exchange.close()
    assert is_clean(engine)


def test_a_length_of_zero_is_complete_at_once(Session: Any, engine: Engine) -> None:
    """The connection goes back before the headers' answer is handed on."""
    exchange = Exchange(SessionMiddleware(streaming(("Content-Length", "0"), chunks=0), Session, commit=never))

    assert is_clean(engine)
    exchange.close()


def test_what_was_written_counts(Session: Any, engine: Engine) -> None:
    """Bytes that went through ``write()`` are part of the declared length."""

    def app(environ: Any, start_response: Any) -> Any:
        all_words(environ[KEY])
        write = start_response("200 OK", [("Content-Length", "3")])
        write(b"xx")
        return iter([b"x"])

    exchange = Exchange(SessionMiddleware(app, Session, commit=on_unsafe_success))
    exchange.step()

    assert is_clean(engine)
    exchange.close()


@pytest.mark.parametrize("begin", ["begin", "begin_nested"])
def test_a_block_that_is_open_at_a_complete_length(begin: str, Session: Any, engine: Engine, caplog: Any) -> None:
    """A ``begin()`` block keeps its transaction and its write; a savepoint that is open is rolled back."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response, "200 OK", ("Content-Length", "1"))
        with getattr(Session, begin)():
            add_words(Session, "x")
            Session.flush()
            yield b"x"

    exchange = Exchange(SessionMiddleware(app, Session, commit=never))
    exchange.step()
    is_back = is_clean(engine)
    if begin == "begin":
        exchange.read()
    exchange.close()

    assert is_back == (begin == "begin_nested")
    assert words(engine) == (["x"] if begin == "begin" else [])
    assert ("has lost" in caplog.text) == (begin == "begin_nested")
    assert is_clean(engine)


@pytest.mark.system("postgresql")
def test_a_rule_does_not_break_streaming(postgresql_engine: Engine) -> None:
    """A server-side cursor opened in the handler of a GET is read to its end by the body."""
    Session = RequestScopedSession(sessionmaker(postgresql_engine))
    with session_scope(Session):
        add_words(Session, *(str(number) for number in range(1000)))

    def app(environ: Any, start_response: Any) -> Any:
        rows = environ[KEY].scalars(select(Word.text).execution_options(yield_per=10))
        answer(start_response)
        return (row.encode() + b"," for row in rows)

    exchange = request(SessionMiddleware(app, Session, commit=on_unsafe_success))

    assert exchange.body.count(b",") == 1000
    assert is_clean(postgresql_engine)


def test_objects_of_the_handler_are_not_expired_for_the_body(Session: Any, engine: Engine) -> None:
    """A hundred objects that were loaded in the handler and rendered by the body cost one statement."""
    with session_scope(Session):
        add_words(Session, *(str(number) for number in range(100)))

    def app(environ: Any, start_response: Any) -> Any:
        found = environ[KEY].scalars(select(Word)).all()
        answer(start_response, "200 OK", ("Content-Length", "190"))
        return (word.text.encode() for word in found)

    with statements(engine) as sent:
        exchange = request(SessionMiddleware(app, Session, commit=on_unsafe_success))

    assert len(exchange.body) == 190
    assert [statement[:6] for statement in sent] == ["SELECT", "ROLLBA"]


# Release


def test_release_gives_the_connections_back_and_keeps_the_objects(Session: Any, engine: Engine) -> None:
    """Nothing is expired, nothing is detached, and the session goes on in a new transaction."""
    with session_scope(Session):
        add_words(Session, "a")

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        word = session.scalars(select(Word)).one()
        current_scope().release()
        assert is_clean(engine)
        with statements(engine) as sent:
            assert word.text == "a"
        assert sent == []
        assert word in session
        word.text = "b"
        session.commit()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert words(engine) == ["b"]


def test_release_of_an_untouched_session(Session: Any) -> None:
    """There is nothing to give back, and no session is built for it; nor where one is in no transaction."""

    def app(environ: Any, start_response: Any) -> Any:
        current_scope().release()
        assert type(environ[KEY]) is not Session.session_factory.class_
        environ[KEY].expunge_all()
        current_scope().release()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))


def pending(session: Any) -> None:
    """Leave an object that was not flushed."""
    add_words(session, "x")


def flushed(session: Any) -> None:
    """Leave one that was."""
    add_words(session, "x")
    session.flush()


def begun(session: Any) -> None:
    """Enter a block."""
    session.begin()


def in_savepoint(session: Any) -> None:
    """Enter a savepoint."""
    session.begin_nested()


REFUSALS = {pending: "1 new Word", flushed: "flushed changes", begun: "session.begin", in_savepoint: "savepoint"}


@pytest.mark.parametrize("act", REFUSALS, ids=lambda act: act.__name__)
def test_release_refuses_to_lose_anything(act: Any, Session: Any, engine: Engine) -> None:
    """Where something would be lost it is an error that says what, and nothing has changed."""

    def app(environ: Any, start_response: Any) -> Any:
        act(Session())
        with pytest.raises(PendingChangesError, match=rf"<Scope of GET /, open>.*{REFUSALS[act]}"):
            current_scope().release()
        add_words(Session, "y")
        Session.commit()
        if act is in_savepoint:
            Session.commit()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))

    assert words(engine) == (["x", "y"] if act in (pending, flushed) else ["y"])


def test_release_refuses_a_two_phase_session(new_engine: Any) -> None:
    """A two-phase transaction is not the library's to end."""
    Session: Any = RequestScopedSession(sessionmaker(new_engine(), twophase=True))

    def app(environ: Any, start_response: Any) -> Any:
        Session.add(Word(text="x"))
        Session.expunge_all()
        with pytest.raises(PendingChangesError, match="two-phase"):
            current_scope().release()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session))


def test_release_is_all_or_nothing(new_engine: Any) -> None:
    """If one session of the scope refuses, no other is released."""
    first, second = new_engine(), new_engine()
    A, B = RequestScopedSession(sessionmaker(first)), RequestScopedSession(sessionmaker(second))

    def app(environ: Any, start_response: Any) -> Any:
        all_words(B)
        add_words(A, "x")
        with pytest.raises(PendingChangesError):
            current_scope().release()
        assert second.pool.checkedout() == 1
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, A))


def test_release_after_the_end_is_an_error(Session: Any) -> None:
    """A scope that has ended has nothing to give back."""
    with session_scope(Session):
        scope = current_scope()

    with pytest.raises(ScopeEndedError):
        scope.release()


def test_a_stream_that_releases_between_its_chunks(Session: Any, engine: Engine) -> None:
    """A body that reads and releases holds no connection while the client reads."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)

        def body() -> Iterator[bytes]:
            for _ in range(3):
                environ[KEY].execute(text("SELECT 1"))
                current_scope().release()
                yield b"x"

        return body()

    exchange = Exchange(SessionMiddleware(app, Session))
    for _ in range(3):
        exchange.step()
        assert is_clean(engine)
    exchange.close()


@pytest.mark.parametrize("release_reads", [True, False])
def test_what_is_written_as_it_was_holds_nothing(release_reads: bool, Session: Any, engine: Engine) -> None:
    """A value that is assigned once more is no change, so the connection goes back as after a plain read."""
    with session_scope(Session):
        add_words(Session, "ada")

    def app(environ: Any, start_response: Any) -> Any:
        word = environ[KEY].scalars(select(Word)).one()
        word.text = "ada"
        assert environ[KEY].dirty
        answer(start_response, "200 OK", ("Content-Length", "1"))
        return iter([b"x"])

    exchange = Exchange(SessionMiddleware(app, Session, release_reads=release_reads))
    assert is_clean(engine) is release_reads
    exchange.step()

    assert is_clean(engine)
    exchange.close()
