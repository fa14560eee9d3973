"""Guarantee 5: under a rule, no success that is not committed; without one, nothing acknowledged is lost."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from sqlalchemy import Engine, event, insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

from tests.helpers import (
    Exchange,
    Letter,
    Word,
    add_words,
    all_words,
    answer,
    is_clean,
    log_commits,
    orphan,
    request,
    words,
)
from tests.helpers import both_ways as wrapped_both_ways
from wsgi_session import (
    OpenTransactionError,
    PartialCommitError,
    RequestScopedSession,
    ScopeStateError,
    SessionMiddleware,
    current_scope,
    from_veto,
    never,
    on_success,
    on_unsafe_success,
    until_close,
)

KEY = "sqlalchemy.session"


class Body:
    """A body that is a class, with a ``close()``."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = iter(chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks

    def close(self) -> None:
        pass


class FileLike(io.BytesIO):
    """Reads like a file and is none."""

    def fileno(self) -> int:
        raise OSError("no file")


def returns_list(environ: Any, start_response: Any) -> Any:
    """Return a list."""
    answer(start_response)
    return [b"x", b"y"]


def returns_tuple(environ: Any, start_response: Any) -> Any:
    """Return a tuple."""
    answer(start_response)
    return (b"x", b"y")


def returns_generator(environ: Any, start_response: Any) -> Any:
    """Return a generator."""
    answer(start_response)
    return (chunk for chunk in (b"x", b"y"))


def returns_object(environ: Any, start_response: Any) -> Any:
    """Return an instance of a class."""
    answer(start_response)
    return Body(b"x", b"y")


def is_generator(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Be a generator: start_response is called by the first step."""
    answer(start_response)
    yield b"x"
    yield b"y"


def is_slow_generator(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Yield empty chunks after start_response."""
    answer(start_response)
    yield b""
    yield b""
    yield b"xy"


def returns_empty_generator(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Be a generator without a chunk."""
    answer(start_response)
    yield from ()


def writes(environ: Any, start_response: Any) -> Any:
    """Use ``write()``."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"x")
    write(b"y")
    return []


def wraps_file(environ: Any, start_response: Any) -> Any:
    """Return the server's file wrapper around something like a file."""
    answer(start_response)
    return environ["wsgi.file_wrapper"](FileLike(b"xy"))


SHAPES = {
    returns_list: ["COMMIT", "200 OK", "b'x'", "b'y'", "close"],
    returns_tuple: ["COMMIT", "200 OK", "b'x'", "b'y'", "close"],
    returns_generator: ["COMMIT", "200 OK", "b'x'", "b'y'", "close"],
    returns_object: ["COMMIT", "200 OK", "b'x'", "b'y'", "close"],
    is_generator: ["COMMIT", "200 OK", "b'x'", "b'y'", "close"],
    is_slow_generator: ["COMMIT", "200 OK", "b'xy'", "close"],
    returns_empty_generator: ["COMMIT", "200 OK", "close"],
    writes: ["COMMIT", "200 OK", "b'x'", "b'y'", "close"],
    wraps_file: ["COMMIT", "200 OK", "b'xy'", "close"],
}


def writing(shape: Any, *objects: Any) -> Any:
    """Make an application that adds a row and then answers."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].add_all([Word(text="x"), *(make() for make in objects)])
        return shape(environ, start_response)

    return app


def outcome(app: Any, log: list[str] | None = None, **environ: Any) -> Exchange:
    """Make a request of a server that has a file wrapper."""
    return request(app, log=log, **{"wsgi.file_wrapper": FileWrapper, **environ})


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_commit_comes_before_the_status_and_the_first_byte(shape: Any, Session: Any, engine: Engine) -> None:
    """For every shape, nothing is sent before COMMIT has succeeded."""
    log: list[str] = []
    log_commits(engine, log)

    outcome(SessionMiddleware(writing(shape), Session, commit=on_success), log)

    assert log == SHAPES[shape]
    assert words(engine) == ["x"]
    assert is_clean(engine)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.system("postgresql"))])
def test_a_commit_that_fails_is_an_exception(shape: Any, database: str, request: pytest.FixtureRequest) -> None:
    """Nothing has been sent, and the error leaves the middleware, for the server to answer 500."""
    engine: Engine = request.getfixturevalue("engine" if database == "sqlite" else "postgresql_engine")
    Session = RequestScopedSession(sessionmaker(engine))
    log: list[str] = []
    app = SessionMiddleware(writing(shape, orphan), Session, commit=on_success)

    with pytest.raises(IntegrityError):
        outcome(app, log)

    assert log in ([], ["close"])
    assert is_clean(engine)
    outcome(SessionMiddleware(writing(shape), Session, commit=on_success))
    assert words(engine) == ["x"]


def test_a_body_that_is_thrown_away_is_closed(Session: Any) -> None:
    """When COMMIT fails, the body that the application has returned is closed; its errors are logged."""
    closed: list[str] = []

    class Closing(Body):
        def close(self) -> None:
            closed.append("closed")
            raise ValueError("close")

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].add(orphan())
        answer(start_response)
        return Closing(b"x")

    with pytest.raises(IntegrityError):
        request(SessionMiddleware(app, Session, commit=on_success))

    assert closed == ["closed"]


@pytest.mark.parametrize(
    ("rule", "method", "status", "is_committed"),
    [
        (on_success, "GET", "200 OK", True),
        (on_success, "POST", "303 See Other", True),
        (on_success, "POST", "400 Bad Request", False),
        (on_success, "POST", "500 Internal Server Error", False),
        (on_unsafe_success, "GET", "200 OK", False),
        (on_unsafe_success, "HEAD", "200 OK", False),
        (on_unsafe_success, "OPTIONS", "204 No Content", False),
        (on_unsafe_success, "TRACE", "200 OK", False),
        (on_unsafe_success, "QUERY", "200 OK", False),
        (on_unsafe_success, "POST", "303 See Other", True),
        (on_unsafe_success, "DELETE", "204 No Content", True),
        (on_unsafe_success, "PUT", "404 Not Found", False),
        (never, "POST", "200 OK", False),
        (from_veto(lambda environ, status, headers: status == "200 OK"), "POST", "200 Fine", False),
        (from_veto(lambda environ, status, headers: status == "200 OK"), "POST", "201 Created", True),
        (from_veto(lambda environ, status, headers: 1 / 0), "POST", "404 Not Found", False),
        (from_veto(lambda environ, status, headers: ("X-Veto", "1") in headers), "POST", "299 Own", True),
        (lambda environ, status, headers: True, "POST", "404 Not Found", True),
    ],
)
@pytest.mark.parametrize("shape", [returns_list, returns_generator], ids=lambda shape: shape.__name__)
def test_rules(
    rule: Any, method: str, status: str, is_committed: bool, shape: Any, Session: Any, engine: Engine
) -> None:
    """A rule decides by the environ, the status code and the headers."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        return shape(environ, lambda _, headers: start_response(status, headers))

    exchange = request(SessionMiddleware(app, Session, commit=rule), method)

    assert exchange.status == status
    assert words(engine) == (["x"] if is_committed else [])
    assert is_clean(engine)


def test_a_rule_is_asked_once_in_the_scope(Session: Any, engine: Engine) -> None:
    """It is asked once for each request, may use the session, and gets what the application has sent."""
    asked: list[Any] = []

    def rule(environ: Any, status: int, headers: Any) -> bool:
        asked.append((environ[KEY] is Session(), status, headers))
        return True

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response, "201 Created", ("X-Tm", "1"))
        return iter([b"x", b"y"])

    request(SessionMiddleware(app, Session, commit=rule))

    assert asked == [(True, 201, [("Content-Type", "text/plain"), ("X-Tm", "1")])]


def test_a_rule_that_raises(Session: Any, engine: Engine) -> None:
    """Its error leaves the middleware, and everything is rolled back."""

    def rule(environ: Any, status: int, headers: Any) -> bool:
        raise LookupError("rule")

    for shape in (returns_list, is_generator):
        log: list[str] = []
        with pytest.raises(LookupError, match="rule"):
            outcome(SessionMiddleware(writing(shape), Session, commit=rule), log)
        assert log in ([], ["close"])
    assert words(engine) == []
    assert is_clean(engine)


def test_a_status_that_is_none(Session: Any, engine: Engine) -> None:
    """A malformed status is an error that shows it, and everything is rolled back."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        answer(start_response, "fine")
        return [b""]

    with pytest.raises(ValueError, match="'fine'"):
        request(SessionMiddleware(app, Session, commit=on_success))

    assert words(engine) == []


@pytest.mark.parametrize("shape", [returns_list, returns_generator, is_generator, writes], ids=lambda s: s.__name__)
def test_doom(shape: Any, Session: Any, engine: Engine) -> None:
    """A doomed scope is rolled back, whatever the status; the rule is not asked."""
    asked: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        current_scope().doom()
        current_scope().doom()
        return shape(environ, start_response)

    exchange = outcome(SessionMiddleware(app, Session, commit=lambda *args: asked.append(1)))

    assert exchange.status == "200 OK"
    assert asked == words(engine) == []
    assert is_clean(engine)


def test_doom_that_comes_too_late(Session: Any) -> None:
    """After settling, and where nothing is committed anyway, ``doom()`` is an error that says so."""
    errors: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)

        def body() -> Iterator[bytes]:
            with pytest.raises(ScopeStateError) as caught:
                current_scope().doom()
            errors.append(str(caught.value))
            yield b"x"

        return body()

    request(SessionMiddleware(app, Session, commit=on_success))
    request(SessionMiddleware(app, Session, commit=until_close))

    assert "settled" in errors[0]
    assert "commits nothing" in errors[1]


@pytest.mark.parametrize("commit", [never, until_close, on_success])
def test_doom_of_a_scope_that_has_ended(Session: Any, commit: Any) -> None:
    """It is too late, with a rule or without: there is nothing left to roll back."""
    scopes: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        scopes.append(current_scope())
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, commit=commit))

    with pytest.raises(ScopeStateError, match="cannot be doomed any more"):
        scopes[0].doom()


def test_a_rule_that_dooms(Session: Any, engine: Engine) -> None:
    """A rule may doom the scope that it is asked about."""

    def rule(environ: Any, status: int, headers: Any) -> bool:
        current_scope().doom()
        return True

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, commit=rule))

    assert words(engine) == []


@pytest.mark.parametrize("when", ["before_commit", "before_flush"])
def test_doom_while_it_is_committed(when: str, Session: Any, engine: Engine) -> None:
    """Nor is it accepted from a listener, while COMMIT is under way: the error of that rolls back."""

    def app(environ: Any, start_response: Any) -> Any:
        event.listen(environ[KEY], when, lambda *_of_the_event: current_scope().doom())
        add_words(environ[KEY], "x")
        answer(start_response)
        return [b""]

    with pytest.raises(ScopeStateError, match="settled"):
        request(SessionMiddleware(app, Session, commit=on_success))

    assert words(engine) == []
    assert is_clean(engine)


@pytest.mark.parametrize("shape", [returns_list, returns_generator], ids=lambda shape: shape.__name__)
def test_exc_info_before_anything_was_sent(shape: Any, Session: Any, engine: Engine) -> None:
    """A second start_response with ``exc_info`` is a failure: rolled back, and only that answer is sent."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        answer(start_response)
        try:
            raise ValueError("handled")
        except ValueError:
            start_response("200 Sorry", [("Content-Type", "text/plain")], sys.exc_info())
        return shape(environ, lambda status, headers: None)

    for app_ in wrapped_both_ways(app, Session, commit=on_success):
        exchange = request(app_)

        assert exchange.log[0] == exchange.status == "200 Sorry"
        assert words(engine) == []


@pytest.mark.parametrize("rule", [on_success, never])
@pytest.mark.parametrize("late", [False, True])
def test_exc_info_of_nothing(late: bool, rule: Any, Session: Any, engine: Engine, caplog: Any) -> None:
    """What ``sys.exc_info()`` returns where nothing has failed is no failure."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "kept")
        if rule is never:
            environ[KEY].commit()
        if late:
            answer(start_response)
            yield b""
        start_response("200 OK", [("Content-Type", "text/plain")], (None, None, None))
        yield b"x"

    request(SessionMiddleware(app, Session, commit=rule), "POST")

    assert words(engine) == ["kept"]
    assert caplog.records == []


def test_exc_info_after_settling_is_passed_on_and_logged(Session: Any, caplog: Any) -> None:
    """It comes too late to undo anything; what happens is the server's to decide, as without the middleware."""

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"x")
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Late", [], sys.exc_info())
        return []

    with pytest.raises(ValueError, match="late"):
        request(SessionMiddleware(app, Session, commit=on_success))

    assert "'500 Late'" in caplog.text
    assert "too late" in caplog.text


def test_start_response_twice_without_exc_info(Session: Any) -> None:
    """That is the application's error, and it is told so in its own call; after settling, by the server itself."""

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        if environ["PATH_INFO"] == "/late":
            write(b"x")
        answer(start_response)

    app = SessionMiddleware(app, Session, commit=on_success)

    with pytest.raises(AssertionError, match="second time"):
        request(app)
    log: list[str] = []
    with pytest.raises(AssertionError):
        request(app, path="/late", log=log)
    assert log == ["200 OK", "b'x'"]


def test_write_in_a_body(Session: Any, engine: Engine) -> None:
    """An application that writes while it is iterated, against PEP 3333, is settled all the same."""
    log: list[str] = []
    log_commits(engine, log)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        add_words(environ[KEY], "x")
        start_response("200 OK", [])(b"x")
        yield b"y"

    request(SessionMiddleware(app, Session, commit=on_success), log=log)

    assert log == ["COMMIT", "200 OK", "b'x'", "b'y'", "close"]


def test_a_server_without_write(Session: Any) -> None:
    """Where a server returns no ``write()``, its use is an error that says so."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(b"x")

    with pytest.raises(TypeError, match="write"):
        list(SessionMiddleware(app, Session, commit=on_success)({}, lambda status, headers: None))


@pytest.mark.parametrize(
    ("rule", "method", "is_kept"),
    [
        (until_close, "GET", True),
        (never, "POST", True),
        (on_unsafe_success, "GET", True),
        (on_unsafe_success, "POST", False),
        (on_success, "GET", False),
        (from_veto(lambda *args: False), "GET", False),
        (from_veto(lambda *args: True), "GET", True),
    ],
)
@pytest.mark.parametrize("shape", [returns_list, is_generator], ids=lambda shape: shape.__name__)
def test_an_open_block_around_a_yield(
    rule: Any, method: str, is_kept: bool, shape: Any, Session: Any, engine: Engine, caplog: Any
) -> None:
    """A ``begin()`` block around the ``yield`` is an error before anything is sent, or the row is kept."""
    log: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        with Session.begin():
            add_words(Session, "x")
            Session.flush()
            yield from shape(environ, start_response)

    app_ = SessionMiddleware(app, Session, commit=rule)
    if is_kept:
        request(app_, method, log=log)
        assert log[0] == "200 OK"
    else:
        with pytest.raises(OpenTransactionError, match=r"<Scope of .*End the block before the first chunk"):
            request(app_, method, log=log)
        assert log == ["close"]

    assert words(engine) == (["x"] if is_kept else [])
    assert is_clean(engine)
    assert caplog.records == []


def test_a_block_that_begins_in_the_body(Session: Any, engine: Engine, caplog: Any) -> None:
    """A ``begin()`` block that begins when the outcome is settled commits by itself, after the first byte."""
    log: list[str] = []
    log_commits(engine, log)

    def body() -> Iterator[bytes]:
        with Session.begin():
            add_words(Session, "x")
            yield b"x"

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return body()

    request(SessionMiddleware(app, Session, commit=on_success), "POST", log=log)

    assert log == ["200 OK", "b'x'", "COMMIT", "close"]
    assert words(engine) == ["x"]
    assert is_clean(engine)
    assert caplog.records == []


def begins(session: Any) -> None:
    """Begin without a block."""
    session.begin()
    add_words(session, "x")


@pytest.mark.parametrize("begin", [begins, lambda session: leaves_flushed_in_a_released_savepoint(session)])
def test_a_transaction_that_is_begun_without_a_block(begin: Any, Session: Any, engine: Engine) -> None:
    """``begin()`` by itself, or a savepoint as the first thing, leaves a transaction that a rule commits."""

    def app(environ: Any, start_response: Any) -> Any:
        begin(environ[KEY])
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, commit=on_success))

    assert words(engine) == ["x"]


def test_all_sessions_of_the_scope_are_committed_its_own_last(new_engine: Any) -> None:
    """A failure after an earlier commit is an error that names both; before it, the driver's own."""
    first, second = new_engine(), new_engine()
    own, other = RequestScopedSession(sessionmaker(first)), RequestScopedSession(sessionmaker(second))
    log: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        add_words(own, "own")
        add_words(other, "other")
        if environ["PATH_INFO"] == "/own":
            own.add(orphan())
        if environ["PATH_INFO"] == "/other":
            other.add(orphan())
        answer(start_response)
        return [b""]

    app = SessionMiddleware(app, own, commit=on_success)
    request(app)
    with pytest.raises(IntegrityError):
        request(app, path="/other")
    assert (words(first), words(second)) == (["own"], ["other"])
    with pytest.raises(PartialCommitError) as caught:
        request(app, path="/own", log=log)

    assert first.url.database in str(caught.value)
    assert second.url.database in str(caught.value)
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert log == []
    assert (words(first), words(second)) == (["own"], ["other", "other"])
    assert is_clean(first)
    assert is_clean(second)


def test_nothing_is_committed_in_close(Session: Any, engine: Engine) -> None:
    """A generator application that is closed before its first chunk was never settled, and is rolled back."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        return is_generator(environ, start_response)

    Exchange(SessionMiddleware(app, Session, commit=on_success)).close()

    assert words(engine) == []
    assert is_clean(engine)


def test_an_upload_that_breaks_off(Session: Any, engine: Engine) -> None:
    """An application that fails while it reads the request's body leaves nothing."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError("gone")

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        environ[KEY].flush()
        environ["wsgi.input"].read(10)

    with pytest.raises(ConnectionResetError):
        request(SessionMiddleware(app, Session, commit=on_success), "POST", **{"wsgi.input": Broken()})

    assert words(engine) == []
    assert is_clean(engine)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "206 Partial Content"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("make_body", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_bodiless_responses_are_settled(status: str, method: str, make_body: Any, Session: Any, engine: Engine) -> None:
    """HEAD, 204, 304 and 206, with and without a body: committed before the status."""
    log: list[str] = []
    log_commits(engine, log)

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        answer(start_response, status)
        return make_body([b"part"] if status[:3] == "206" and method != "HEAD" else [])

    for app_ in wrapped_both_ways(app, Session, commit=on_success):
        log.clear()
        request(app_, method, log=log)

        assert log[:2] == ["COMMIT", status]
    assert words(engine) == ["x", "x"]


# Without a rule: what the application commits itself, at any time, is there.


def commits_around_the_yield(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Commit when the block is left, after the last chunk."""
    answer(start_response, "200 OK", ("Content-Length", "4"))
    with environ[KEY].begin():
        add_words(environ[KEY], "x")
        environ[KEY].flush()
        yield b"body"


def commits_core_insert_after_the_last_chunk(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Commit an INSERT that nobody can see."""
    answer(start_response, "200 OK", ("Content-Length", "4"))
    environ[KEY].execute(insert(Word).values(text="x"))
    yield b"body"
    environ[KEY].commit()


def flask_commits_on_close(environ: Any, start_response: Any) -> Any:
    """Flush in a Flask view, commit in the response's ``call_on_close``."""
    import flask

    app = flask.Flask(__name__)

    @app.get("/")
    def view() -> flask.Response:
        session = flask.request.environ[KEY]
        add_words(session, "x")
        session.flush()
        response = flask.Response("body")
        response.call_on_close(session.commit)
        return response

    return app(environ, start_response)


class CommitsAfterTheStream:
    """A transaction middleware of the older kind, between us and the application."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from self.app(environ, start_response)
        environ[KEY].commit()


def writes_and_answers(environ: Any, start_response: Any) -> Any:
    """Write, and leave the commit to somebody else."""
    add_words(environ[KEY], "x")
    environ[KEY].flush()
    answer(start_response, "200 OK", ("Content-Length", "4"))
    return [b"body"]


@pytest.mark.parametrize(
    "app",
    [
        commits_around_the_yield,
        commits_core_insert_after_the_last_chunk,
        flask_commits_on_close,
        CommitsAfterTheStream(writes_and_answers),
    ],
)
def test_acknowledged_writes_are_never_lost(app: Any, Session: Any, engine: Engine) -> None:
    """Under `until_close` the transaction is the application's until the end, also after a complete Content-Length."""
    exchange = request(SessionMiddleware(app, Session, commit=until_close))

    assert (exchange.status, exchange.body) == ("200 OK", b"body")
    assert ("Content-Length", "4") in exchange.headers
    assert words(engine) == ["x"]


# What a response leaves uncommitted is said once.


def leaves_new(session: Any) -> None:
    """Leave an object that was not flushed."""
    add_words(session, "x")


def leaves_flushed(session: Any) -> None:
    """Leave an object that was flushed."""
    add_words(session, "x")
    session.flush()


def leaves_flushed_in_a_released_savepoint(session: Any) -> None:
    """Leave what a savepoint that was released has handed up."""
    with session.begin_nested():
        add_words(session, "x")


def leaves_changed(session: Any) -> None:
    """Leave a changed object."""
    add_words(session, "x")
    session.commit()
    session.query(Word).first().text = "y"


def leaves_deleted(session: Any) -> None:
    """Leave a deletion."""
    add_words(session, "x")
    session.commit()
    session.delete(session.query(Word).first())


def leaves_nothing(session: Any) -> None:
    """Read, and commit what was written."""
    add_words(session, "x")
    session.commit()
    all_words(session)
    session.query(Word).first().text = "x"


def rolls_back(session: Any) -> None:
    """Roll back what was flushed."""
    add_words(session, "x")
    session.flush()
    session.rollback()
    all_words(session)


def rolls_a_savepoint_back(session: Any) -> None:
    """Roll back a savepoint, and one within one."""
    with session.begin_nested() as outer:
        with session.begin_nested():
            add_words(session, "x")
        outer.rollback()
    all_words(session)


LOSSES = {
    leaves_new: "1 new Word",
    leaves_flushed: "flushed changes",
    leaves_flushed_in_a_released_savepoint: None,  # with the driver of SQLite, which sends no BEGIN, it is saved
    leaves_changed: "1 changed Word",
    leaves_deleted: "1 deleted Word",
    leaves_nothing: None,
    rolls_back: None,
    rolls_a_savepoint_back: None,
}


@pytest.mark.parametrize("act", LOSSES, ids=lambda act: act.__name__)
@pytest.mark.parametrize("where", ["handler", "body"])
@pytest.mark.parametrize("length", [None, "1"])
@pytest.mark.parametrize("rule", [on_unsafe_success, never])
def test_what_a_response_leaves_uncommitted(
    act: Any, where: str, length: Any, rule: Any, Session: Any, engine: Engine, caplog: Any
) -> None:
    """It is rolled back with one warning that names method and path, where it can be seen."""

    def app(environ: Any, start_response: Any) -> Any:
        if where == "handler":
            act(environ[KEY])
        answer(start_response, "200 OK", *([("Content-Length", length)] if length else []))

        def body() -> Iterator[bytes]:
            if where == "body":
                act(environ[KEY])
            yield b"x"

        return body()

    request(SessionMiddleware(app, Session, commit=rule), path="/shelf\n")

    assert is_clean(engine)
    if LOSSES[act] is None:
        assert caplog.records == []
    else:
        [record] = caplog.records
        assert record.levelname == "WARNING"
        assert "GET /shelf\\n" in record.getMessage()
        assert LOSSES[act] in record.getMessage()


def test_the_warning_names_the_classes_of_what_is_lost(Session: Any, caplog: Any) -> None:
    """It counts the objects of each class, and shows nothing that is in them."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].add_all([Word(text="secret"), Letter(), Word(text="hidden")])
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, commit=never), "POST", "/words")

    [record] = caplog.records
    assert record.getMessage() == (
        "POST /words has lost what it wrote: 1 new Letter, 2 new Word, not committed. Call 'session.commit()' in the"
        " view, before it returns, or have the middleware do it: 'SessionMiddleware(..., commit=on_unsafe_success)'."
    )


def test_a_commit_by_a_rule_leaves_no_warning(Session: Any, engine: Engine, caplog: Any) -> None:
    """What was committed is not lost, and what failed is not warned about."""

    def app(environ: Any, start_response: Any) -> Any:
        leaves_flushed(environ[KEY])
        answer(start_response, environ["PATH_INFO"][1:])
        return iter([b"x"])

    app = SessionMiddleware(app, Session, commit=on_success)
    request(app, path="/200 OK")
    request(app, path="/404 Not Found")

    assert words(engine) == ["x"]
    assert caplog.records == []


def test_what_a_body_writes_after_a_commit_is_warned_about(Session: Any, engine: Engine, caplog: Any) -> None:
    """A rule commits before the first byte; what the body adds it has to commit itself."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(Session, "handler")
        answer(start_response)

        def body() -> Iterator[bytes]:
            add_words(Session, "committed by the body")
            Session.commit()
            yield b"x"
            add_words(Session, "lost")

        return body()

    request(SessionMiddleware(app, Session, commit=on_success), "POST", "/words")

    assert words(engine) == ["handler", "committed by the body"]
    assert "POST /words" in caplog.text
    assert "1 new" in caplog.text


def test_a_session_that_is_in_no_transaction_is_not_committed(Session: Any, engine: Engine) -> None:
    """An idle session costs no COMMIT, and none is built for one."""
    log: list[str] = []
    log_commits(engine, log)

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/idle":
            environ[KEY].in_transaction()
        answer(start_response)
        return [b""]

    app = SessionMiddleware(app, Session, commit=on_success)
    request(app)
    request(app, path="/idle")

    assert log == []


def test_text_writes_are_committed(Session: Any, engine: Engine) -> None:
    """A rule commits what no ORM has seen: Core and ``text()`` writes."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('x')"))
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, Session, commit=on_success))

    assert words(engine) == ["x"]
