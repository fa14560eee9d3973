"""Guarantee 11: a retry happens only when nothing was sent and nothing was committed."""

from __future__ import annotations

import dataclasses
import io
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from sqlalchemy import Engine, create_engine, insert, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from tests.conflicts import Lock
from tests.helpers import Exchange, Letter, Word, add_words, all_words, answer, is_clean, new_environ, request, words
from wsgi_session import (
    FailedAttempt,
    RetryMiddleware,
    ScopeEndedError,
    SessionMiddleware,
    current_scope,
    is_retryable,
    never,
    on_commit,
    on_success,
    retrying,
    service_unavailable,
    session_scope,
    until_close,
)
from wsgi_session.retry._policy import Policy

KEY = "sqlalchemy.session"


@pytest.fixture
def engine(new_engine: Any) -> Engine:
    """Return an engine with a pool of one that waits for no lock."""
    engine: Engine = new_engine(connect_args={"timeout": 0})
    return engine


@pytest.fixture
def lock(engine: Engine) -> Iterator[Lock]:
    """Return another program that can hold a lock on the database."""
    lock = Lock(engine)
    yield lock
    lock.close()


class Told(list[FailedAttempt]):
    """A hook that keeps what it is told, and then lets go of a lock."""

    def __init__(self, lock: Lock, after: int = 1) -> None:
        super().__init__()
        self.lock, self.after = lock, after

    def __call__(self, failed: FailedAttempt) -> None:
        self.append(failed)
        if len(self) == self.after:
            self.lock.let_go()


def wrapped(app: Any, registry: Any, told: Told, *, commit: Any = on_success, **options: Any) -> Any:
    """Wrap *app* in both middlewares; nobody waits."""
    return RetryMiddleware(SessionMiddleware(app, registry, commit=commit), wait=0, on_failed_attempt=told, **options)


# The shapes of an application, and the places in which its database asks for a repetition.


def fails_in_a_statement(environ: Any, start_response: Any) -> Any:
    """The application raises what a statement of its own has raised."""
    environ[KEY].execute(text("INSERT INTO word (text) VALUES ('ada')"))
    answer(start_response)
    return [b"done"]


def fails_in_a_flush(environ: Any, start_response: Any) -> Any:
    """The flush raises it."""
    add_words(environ[KEY], "ada")
    environ[KEY].flush()
    answer(start_response)
    return [b"done"]


def fails_after_start_response(environ: Any, start_response: Any) -> Any:
    """It comes when the headers have been given, but not sent."""
    answer(start_response)
    add_words(environ[KEY], "ada")
    environ[KEY].flush()
    return [b"done"]


def fails_in_a_generator(environ: Any, start_response: Any) -> Any:
    """It comes in the first ``next()``, and so does ``start_response``."""
    add_words(environ[KEY], "ada")
    environ[KEY].flush()
    answer(start_response)
    yield b"done"


def commits_in_a_list(environ: Any, start_response: Any) -> Any:
    """A rule commits when the application returns."""
    add_words(environ[KEY], "ada")
    answer(start_response)
    return [b"done"]


def commits_in_a_generator(environ: Any, start_response: Any) -> Any:
    """A rule commits in the first ``next()``."""
    add_words(environ[KEY], "ada")
    answer(start_response)
    yield b"do"
    yield b"ne"


def commits_after_empty_chunks(environ: Any, start_response: Any) -> Any:
    """A rule commits in the third ``next()``."""
    yield b""
    add_words(environ[KEY], "ada")
    answer(start_response)
    yield b""
    yield b"done"


def commits_itself(environ: Any, start_response: Any) -> Any:
    """The application commits before it returns."""
    add_words(environ[KEY], "ada")
    environ[KEY].commit()
    answer(start_response)
    return [b"done"]


def commits_itself_in_its_body(environ: Any, start_response: Any) -> Any:
    """The application commits in its first chunk, when its headers have been given."""
    answer(start_response)

    def body() -> Iterator[bytes]:
        add_words(environ[KEY], "ada")
        environ[KEY].commit()
        yield b"done"

    return body()


PLACES = [
    (fails_in_a_statement, "write", on_success),
    (fails_in_a_flush, "write", on_success),
    (fails_after_start_response, "write", on_success),
    (fails_in_a_generator, "write", on_success),
    (commits_in_a_list, "read", on_success),
    (commits_in_a_generator, "read", on_success),
    (commits_after_empty_chunks, "read", on_success),
    (commits_itself, "read", never),
    (commits_itself, "read", until_close),
    (commits_itself_in_its_body, "read", until_close),
]


@pytest.mark.parametrize(("app", "held", "commit"), PLACES)
def test_wherever_the_database_asks_for_it(
    app: Any, held: str, commit: Any, Session: Any, engine: Engine, lock: Lock
) -> None:
    """Raised by the application, a flush or COMMIT, in the call or in the first ``next()``: the request is repeated."""
    told = Told(lock, after=2)
    getattr(lock, held)()

    exchange = request(wrapped(app, Session, told, commit=commit), "POST")

    assert (exchange.status, exchange.body) == ("200 OK", b"done")
    assert words(engine) == ["ada"]
    assert [(failed.number, failed.attempts, failed.obstacle) for failed in told] == [(0, 3, None), (1, 3, None)]
    assert exchange.log[0] == "200 OK"
    assert is_clean(engine)


@pytest.mark.parametrize("app", [commits_in_a_list, commits_in_a_generator])
def test_it_is_valid(app: Any, Session: Any, engine: Engine, lock: Lock) -> None:
    """PEP 3333 holds on both sides of it, in each attempt."""
    lock.read()

    inner = SessionMiddleware(app, Session, commit=on_success)
    app_ = validator(RetryMiddleware(validator(inner), wait=0, on_failed_attempt=Told(lock)))  # type: ignore[arg-type]

    assert request(app_, "POST").body == b"done"
    assert words(engine) == ["ada"]


def test_each_attempt_has_a_new_scope(Session: Any, engine: Engine, lock: Lock) -> None:
    """The sessions of an attempt that has failed have ended when the next one begins."""
    seen: list[tuple[Any, Any]] = []
    lock.write()

    def app(environ: Any, start_response: Any) -> Any:
        for session, scope in seen:
            assert scope.state.value == "ended"
            with pytest.raises(ScopeEndedError):
                session.info  # noqa: B018
        seen.append((Session(), current_scope()))
        return fails_in_a_flush(environ, start_response)

    request(wrapped(app, Session, Told(lock, after=2)), "POST")

    assert len({id(session) for session, _ in seen}) == 3


# Never once anything was sent.


def test_not_after_a_chunk(Session: Any, engine: Engine, lock: Lock) -> None:
    """When the first chunk has gone out, an error is the server's."""
    told = Told(lock)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        yield b"sent"
        lock.write()
        add_words(environ[KEY], "ada")
        environ[KEY].flush()

    exchange = Exchange(wrapped(app, Session, told, commit=until_close), "POST")
    assert exchange.step() == b"sent"
    with pytest.raises(OperationalError):
        exchange.step()
    exchange.close()

    assert told == []
    assert is_clean(engine)


def test_not_after_write(Session: Any, engine: Engine, lock: Lock, caplog: Any) -> None:
    """What ``write()`` has sent is sent."""
    told = Told(lock)
    lock.write()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])(b"sent")
        return fails_in_a_statement(environ, lambda *arguments: None)

    exchange = None
    with pytest.raises(OperationalError):
        exchange = Exchange(wrapped(app, Session, told, commit=until_close), "POST")

    assert exchange is None
    assert [failed.obstacle for failed in told] == ["some of the response was sent"]
    assert "POST / failed (OperationalError: OperationalError); not again: some of the response was sent" in caplog.text


# Never once anything was committed.


def by_its_session(Session: Any, environ: Any, other: Engine) -> None:
    """The request's own session."""
    add_words(environ[KEY], "committed")
    environ[KEY].commit()


def by_a_block(Session: Any, environ: Any, other: Engine) -> None:
    """A `session_scope` block in the request."""
    with session_scope(Session) as session:
        add_words(session, "committed")


def by_another_engine(Session: Any, environ: Any, other: Engine) -> None:
    """A connection to another database that no session has used."""
    with other.begin() as connection:
        connection.execute(text("INSERT INTO word (text) VALUES ('committed')"))


def by_autocommit(Session: Any, environ: Any, other: Engine) -> None:
    """A connection on which each statement is committed by itself."""
    with other.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("INSERT INTO word (text) VALUES ('committed')"))


def by_an_engine_in_autocommit(Session: Any, environ: Any, other: Engine) -> None:
    """A session on an engine on which each statement is committed by itself."""
    engine = create_engine(other.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with sessionmaker(engine)() as session:
        session.execute(text("INSERT INTO word (text) VALUES ('committed')"))


def by_a_retried_job(Session: Any, environ: Any, other: Engine) -> None:
    """A job with attempts of its own, in the request."""

    @retrying(Session)
    def job() -> None:
        add_words(Session(), "committed")

    job()


def by_a_callback(Session: Any, environ: Any, other: Engine) -> None:
    """A callback of `on_commit` that fails by a conflict of its own."""
    add_words(environ[KEY], "committed")
    on_commit(environ[KEY], lambda: None)
    environ[KEY].commit()


@pytest.mark.parametrize(
    "commit_something",
    [
        by_its_session,
        by_a_block,
        by_another_engine,
        by_autocommit,
        by_an_engine_in_autocommit,
        by_a_retried_job,
        by_a_callback,
    ],
)
def test_not_after_a_commit(commit_something: Any, new_engine: Any, engine: Engine, Session: Any, lock: Lock) -> None:
    """Whoever has committed something in the attempt: it would be committed again."""
    told, other = Told(lock), new_engine()

    def app(environ: Any, start_response: Any) -> Any:
        commit_something(Session, environ, other)
        environ[KEY].connection()
        lock.write()
        return fails_in_a_statement(environ, start_response)

    with pytest.raises(OperationalError):
        request(wrapped(app, Session, told), "POST")

    assert [failed.obstacle for failed in told] == ["something was committed, or may have been"]
    assert words(engine) + words(other) == ["committed"]
    assert is_clean(engine)


def test_what_comes_after_a_commit_does_not_undo_it(Session: Any, engine: Engine, lock: Lock, new_engine: Any) -> None:
    """Another connection that cannot be made, or cannot be rolled back, is no COMMIT that has failed."""
    told, other = Told(lock), new_engine()

    def app(environ: Any, start_response: Any) -> Any:
        by_its_session(Session, environ, other)
        with pytest.raises(OperationalError, match="unable to open"):
            create_engine("sqlite:////nowhere/at/all.db").connect()
        for act in ("begin_nested", "rollback"):
            with other.connect() as connection:
                connection.begin()
                connection.connection.driver_connection.close()
                with pytest.raises(ProgrammingError, match="closed"):
                    getattr(connection, act)()
        environ[KEY].connection()
        lock.write()
        return fails_in_a_statement(environ, start_response)

    with pytest.raises(OperationalError, match="locked"):
        request(wrapped(app, Session, told), "POST")

    assert [failed.obstacle for failed in told] == ["something was committed, or may have been"]
    assert words(engine) == ["committed"]


@pytest.mark.parametrize("where", ["close", "on_end"])
@pytest.mark.parametrize("framework", [None, "makes a page"])
def test_not_after_a_commit_in_the_end(framework: Any, where: str, Session: Any, engine: Engine, lock: Lock) -> None:
    """What is committed by the ``close()`` of a body that is thrown away, or by an end hook, counts as well."""
    told = Told(lock)

    def audit(*_of_the_hook: Any) -> None:
        lock.let_go()
        with session_scope(Session) as session:
            add_words(session, "audited")

    class Body(list[bytes]):
        def __init__(self, environ: Any) -> None:
            super().__init__([b"sorry"])
            self.environ = environ

        def __iter__(self) -> Iterator[bytes]:
            lock.write()
            with pytest.raises(OperationalError):
                fails_in_a_statement(self.environ, None)
            if not framework:
                fails_in_a_statement(self.environ, None)
            self.environ[KEY].rollback()
            return super().__iter__()

        def close(self) -> None:
            if where == "close":
                audit()

    def app(environ: Any, start_response: Any) -> Any:
        if where == "on_end":
            current_scope().on_end(audit)
        answer(start_response, "500 Sorry")
        return Body(environ)

    with pytest.raises(Exception, match="locked"):
        request(wrapped(app, Session, told, commit=until_close), "POST")

    assert words(engine) == ["audited"]


def test_not_after_a_savepoint_that_sqlite_commits(Session: Any, engine: Engine, lock: Lock) -> None:
    """The driver of SQLite sends no BEGIN before a savepoint that comes first, so that its release is a COMMIT."""
    told = Told(lock)

    def app(environ: Any, start_response: Any) -> Any:
        with environ[KEY].begin_nested():
            add_words(environ[KEY], "in a savepoint")
        lock.write()
        return fails_in_a_statement(environ, start_response)

    with pytest.raises(OperationalError):
        request(wrapped(app, Session, told), "POST")

    assert [failed.obstacle for failed in told] == ["something was committed, or may have been"]
    assert words(engine) == ["in a savepoint"]


def test_a_savepoint_in_a_transaction_is_no_commit(Session: Any, engine: Engine, lock: Lock) -> None:
    """A savepoint that is released in a transaction has committed nothing."""
    lock.read()

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        with environ[KEY].begin_nested():
            add_words(environ[KEY], "bob")
        answer(start_response)
        return [b"done"]

    assert request(wrapped(app, Session, Told(lock)), "POST").body == b"done"
    assert words(engine) == ["ada", "bob"]


def test_a_refused_commit_of_a_plain_connection(Session: Any, engine: Engine, lock: Lock) -> None:
    """It is rolled back before the request is repeated, also on an engine that no session has used."""
    lock.read()

    def app(environ: Any, start_response: Any) -> Any:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO word (text) VALUES ('ada')"))
        answer(start_response)
        return [b"done"]

    assert request(wrapped(app, Session, Told(lock)), "POST").body == b"done"
    assert words(engine) == ["ada"]
    assert is_clean(engine)


def test_a_commit_that_failed_is_none(Session: Any, engine: Engine, lock: Lock) -> None:
    """A COMMIT that the database has refused, and the application has survived, does not count."""
    told = Told(lock, after=1)

    def app(environ: Any, start_response: Any) -> Any:
        if environ["retry.attempt"] == 0:
            lock.read()
            add_words(environ[KEY], "refused")
            with pytest.raises(OperationalError):
                environ[KEY].commit()
            environ[KEY].rollback()
            lock.let_go()
            lock.write()
        return fails_in_a_statement(environ, start_response)

    assert request(wrapped(app, Session, told), "POST").body == b"done"
    assert words(engine) == ["ada"]


def test_not_inside_of_a_scope(Session: Any, engine: Engine, lock: Lock, caplog: Any) -> None:
    """It cannot be put inside of a `SessionMiddleware`; where something lies between, it says that it does nothing."""
    told = Told(lock)
    inside = RetryMiddleware(fails_in_a_flush, on_failed_attempt=told)
    lock.write()

    with pytest.raises(TypeError, match=r"RetryMiddleware\(SessionMiddleware\(app, ...\)\)"):
        SessionMiddleware(inside, Session)
    app = SessionMiddleware(lambda environ, start_response: inside(environ, start_response), Session)
    with pytest.raises(OperationalError):
        request(app, "POST")
    request(app, "POST")  # the lock is gone by now

    assert "belongs outside of the SessionMiddleware" in str(told[0].obstacle)
    assert caplog.text.count("Put it outside of the SessionMiddleware") == 1


def test_not_for_other_errors(Session: Any, engine: Engine, lock: Lock) -> None:
    """An error that is no conflict goes on, and nobody is told."""
    told = Told(lock)
    error = ValueError("no")

    def app(environ: Any, start_response: Any) -> Any:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        request(wrapped(app, Session, told), "POST")

    assert caught.value is error
    assert told == []


@pytest.mark.parametrize("where", ["call", "next"])
def test_not_for_a_base_exception(where: str, Session: Any, engine: Engine, lock: Lock) -> None:
    """A worker's timeout goes on; a body that nobody else could close has been closed."""

    class Timeout(BaseException):
        """What a server raises."""

    def body() -> Iterator[bytes]:
        raise Timeout
        yield b""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        all_words(environ[KEY])
        if where == "call":
            raise Timeout
        return body()

    with pytest.raises(Timeout):
        request(wrapped(app, Session, Told(lock), commit=until_close), "POST")

    assert is_clean(engine)


# Each attempt is the whole request.


def test_each_attempt_has_the_environ_as_it_was_received(Session: Any, engine: Engine, lock: Lock) -> None:
    """What an attempt has done to its environ is not the next one's; the server's has what the last one has left."""
    seen: list[tuple[Any, ...]] = []
    lock.write()

    def app(environ: Any, start_response: Any) -> Any:
        assert type(environ) is dict
        attempt = environ["retry.attempt"]
        seen.append((attempt, environ["retry.attempts"], environ["PATH_INFO"], environ.get("routed")))
        environ["routed"] = attempt
        environ["PATH_INFO"] = "/moved"
        return fails_in_a_flush(environ, start_response)

    environ = new_environ("POST", "/path")
    server_input = environ["wsgi.input"]
    request(wrapped(app, Session, Told(lock, after=2)), environ=environ)

    assert seen == [(0, 3, "/path", None), (1, 3, "/path", None), (2, 3, "/path", None)]
    assert (environ["routed"], environ["PATH_INFO"], environ["retry.attempt"]) == (2, "/moved", 2)
    assert environ["wsgi.input"] is server_input


def test_nothing_of_a_failed_attempt_is_in_the_environ(Session: Any, engine: Engine, lock: Lock) -> None:
    """What an attempt that was thrown away has put into its environ does not reach the one that was received."""
    environ = new_environ("POST")
    lock.write()

    def app(environ: Any, start_response: Any) -> Any:
        if environ["retry.attempt"] == 0:
            environ["REMOTE_USER"] = "of the failed attempt"
        return fails_in_a_flush(environ, start_response)

    request(wrapped(app, Session, Told(lock)), environ=environ)

    assert environ["retry.attempt"] == 1
    assert "REMOTE_USER" not in environ


def test_each_attempt_has_the_same_body(Session: Any, engine: Engine, lock: Lock) -> None:
    """It is read from its beginning, whatever an earlier attempt has read."""
    read: list[bytes] = []
    lock.write()

    def app(environ: Any, start_response: Any) -> Any:
        read.append(environ["wsgi.input"].read(*[3] * (environ["retry.attempt"] == 0)))
        return fails_in_a_flush(environ, start_response)

    body = {"wsgi.input": io.BytesIO(b"name=ada"), "CONTENT_LENGTH": "8"}
    exchange = request(wrapped(app, Session, Told(lock)), "POST", **body)

    assert exchange.body == b"done"
    assert read == [b"nam", b"name=ada"]


def test_a_body_that_is_too_long(Session: Any, engine: Engine, lock: Lock) -> None:
    """Beyond ``max_body`` a request is not repeated."""
    told = Told(lock)
    lock.write()

    body = {"wsgi.input": io.BytesIO(b"name=ada"), "CONTENT_LENGTH": "8"}
    with pytest.raises(OperationalError):
        request(wrapped(fails_in_a_flush, Session, told, max_body=7), "POST", **body)

    assert [failed.obstacle for failed in told] == ["its request body is too long to be kept"]


def test_the_body_that_is_thrown_away_is_closed(Session: Any, engine: Engine, lock: Lock) -> None:
    """Each attempt's, once."""
    closed: list[int] = []
    lock.write()

    class Body:
        def __init__(self, environ: Any) -> None:
            self.environ = environ

        def __iter__(self) -> Iterator[bytes]:
            add_words(self.environ[KEY], "ada")
            self.environ[KEY].commit()
            yield b"done"

        def close(self) -> None:
            closed.append(self.environ["retry.attempt"])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body(environ)

    exchange = Exchange(wrapped(app, Session, Told(lock, after=2), commit=until_close), "POST")
    assert closed == [0, 1]
    assert exchange.read().body == b"done"
    exchange.close()

    assert closed == [0, 1, 2]
    assert is_clean(engine)


@pytest.mark.parametrize("option", ["on_failed_attempt", "is_retryable"])
def test_a_hook_that_raises(option: str, Session: Any, engine: Engine, lock: Lock) -> None:
    """Its error goes on; the body that nobody else could close has been closed."""
    lock.write()

    def fail(*_of_the_hook: Any) -> bool:
        raise LookupError(option)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        yield from fails_in_a_generator(environ, lambda *arguments: None)

    with pytest.raises(LookupError, match=option):
        request(RetryMiddleware(SessionMiddleware(app, Session), **{option: fail}), "POST")

    assert is_clean(engine)


# What the server gets.


@pytest.mark.parametrize("body", [[b"a", b"b"], (b"a",), FileWrapper(io.BytesIO(b"a"))])
def test_a_finished_body_is_handed_on_as_it_is(body: Any, Session: Any, engine: Engine, lock: Lock) -> None:
    """The very object: a list keeps its length, a file its ``sendfile``."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "ada")
        environ[KEY].flush()
        answer(start_response)
        return body

    exchange = Exchange(RetryMiddleware(SessionMiddleware(app, Session, commit=on_success)), "POST")

    assert exchange.status == "200 OK"
    assert type(body) is FileWrapper or exchange.result is body
    assert exchange.read().close().body in (b"ab", b"a")


def test_an_empty_body(Session: Any, engine: Engine, lock: Lock) -> None:
    """A response without a chunk is one all the same."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response, "204 No Content")
        return iter([b"", b""])

    exchange = request(wrapped(app, Session, Told(lock)))

    assert (exchange.status, exchange.body) == ("204 No Content", b"")


def test_an_iterable_without_a_close() -> None:
    """Not every iterable can be closed."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return iter([b"", b"a", b"", b"b"])

    exchange = request(RetryMiddleware(app))

    assert exchange.chunks == [b"a", b"b"]


def test_what_is_no_iterable_goes_on(lock: Lock) -> None:
    """What only the server knows how to send is left to it."""
    own = object()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return own

    assert Exchange(RetryMiddleware(app)).result is own


def test_an_error_page_of_the_applications_own(Session: Any, engine: Engine, lock: Lock) -> None:
    """``exc_info`` before anything was sent replaces what was said; it reaches the server."""
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        try:
            raise ValueError("no")
        except ValueError as error:
            start_response("500 Oh", [("Content-Type", "text/plain")], (ValueError, error, error.__traceback__))
        return [b"sorry"]

    def start_response(*arguments: Any) -> Any:
        given.append(arguments)

    RetryMiddleware(app)(new_environ(), start_response)

    [(status, _, exc_info)] = given
    assert status == "500 Oh"
    assert exc_info[0] is ValueError


def test_start_response_after_the_first_chunk(lock: Lock) -> None:
    """What comes late goes straight on to the server, which knows what to do with it."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        yield b"sent"
        try:
            raise ValueError("late")
        except ValueError as error:
            start_response("500 Oh", [], (ValueError, error, error.__traceback__))

    exchange = Exchange(RetryMiddleware(app))
    assert exchange.step() == b"sent"
    with pytest.raises(ValueError, match="late"):
        exchange.step()


def test_a_client_that_leaves(Session: Any, engine: Engine, lock: Lock) -> None:
    """The server's ``close()`` reaches the application's, also when nothing of the body has been asked for."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        for word in itertools.count():
            all_words(environ[KEY])
            yield str(word).encode()

    exchange = Exchange(wrapped(app, Session, Told(lock), commit=until_close))
    assert not is_clean_now(engine)
    exchange.close()

    assert is_clean(engine)


def is_clean_now(engine: Engine) -> bool:
    """Say whether no connection is out."""
    return not engine.pool.checkedout()  # type: ignore[attr-defined]


# When the attempts have run out.


def test_the_last_error_is_raised(Session: Any, engine: Engine, lock: Lock, caplog: Any) -> None:
    """As it is; each attempt was told to the log and to the hook, which gets one frozen record."""
    told = Told(lock, after=99)
    lock.write()

    with pytest.raises(OperationalError, match="locked") as caught:
        request(wrapped(fails_in_a_statement, Session, told, attempts=2), "POST", "/words")

    assert [(failed.number, failed.wait is None, failed.obstacle) for failed in told] == [
        (0, False, None),
        (1, True, "it was the last attempt"),
    ]
    assert told[1].error is caught.value
    assert told[1].environ is not None
    assert told[1].environ["retry.attempt"] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        told[0].number = 7  # type: ignore[misc]
    assert "Attempt 1 of 2 of POST /words failed (OperationalError: OperationalError); again in 0.000 s." in caplog.text
    assert "Attempt 2 of 2 of POST /words failed" in caplog.text
    assert "INSERT" not in caplog.text
    assert is_clean(engine)


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_an_application_that_answers(method: str, Session: Any, engine: Engine, lock: Lock) -> None:
    """In place of the error: 503 with a Retry-After, and the error in the environ."""
    lock.write()
    environ = new_environ(method)

    exchange = request(
        wrapped(fails_in_a_statement, Session, Told(lock, after=99), exhausted=service_unavailable), environ=environ
    )

    assert exchange.status == "503 Service Unavailable"
    assert ("Retry-After", "1") in exchange.headers
    assert (b"busy" in exchange.body) == (method == "POST")
    assert isinstance(environ["wsgi_session.error"], OperationalError)
    assert is_clean(engine)


def test_a_pool_that_has_run_out(Session: Any, engine: Engine, lock: Lock) -> None:
    """It answers for a pool, too, but does not try again: the pool's timeout was the wait."""
    told = Told(lock)
    app = wrapped(fails_in_a_statement, Session, told, exhausted=service_unavailable)

    with engine.connect():
        assert request(app, "POST").status == "503 Service Unavailable"
        with pytest.raises(PoolTimeoutError):
            request(wrapped(fails_in_a_statement, Session, told), "POST")

    assert told == []


def test_it_does_not_answer_for_other_errors(Session: Any, engine: Engine, lock: Lock) -> None:
    """A failure that is none of the database's is the server's to answer."""

    def app(environ: Any, start_response: Any) -> Any:
        raise KeyError("x")

    with pytest.raises(KeyError):
        request(wrapped(app, Session, Told(lock), exhausted=service_unavailable), "POST")


def test_it_does_not_answer_for_what_is_committed(Session: Any, engine: Engine, lock: Lock) -> None:
    """To ask for another try would have it done twice."""

    def app(environ: Any, start_response: Any) -> Any:
        by_its_session(Session, environ, engine)
        environ[KEY].connection()
        lock.write()
        return fails_in_a_statement(environ, start_response)

    with pytest.raises(OperationalError):
        request(wrapped(app, Session, Told(lock), exhausted=service_unavailable), "POST")


# Responses that a framework has made of an error.


def swallowing(app: Any) -> Any:
    """Make a 500 of every error, as frameworks do."""

    def framework(environ: Any, start_response: Any) -> Any:
        try:
            return app(environ, start_response)
        except Exception:
            environ[KEY].rollback()
            answer(start_response, "500 Internal Server Error")
            return [b"sorry"]

    return framework


def test_an_error_page_may_be_final(Session: Any, engine: Engine, lock: Lock) -> None:
    """With ``retry_responses=False`` a 500 is a response like any other."""
    told = Told(lock)
    lock.write()

    app = wrapped(swallowing(fails_in_a_flush), Session, told, retry_responses=False)

    assert request(app, "POST").body == b"sorry"
    assert [failed.obstacle for failed in told] == ["retry_responses=False"]


def test_an_error_page_of_a_conflict(Session: Any, engine: Engine, lock: Lock) -> None:
    """A 500 is repeated, if a conflict was the last error of the database."""
    told = Told(lock)
    lock.write()

    exchange = request(wrapped(swallowing(fails_in_a_flush), Session, told), "POST")

    assert exchange.body == b"done"
    assert exchange.log[0] == "200 OK"
    assert words(engine) == ["ada"]
    assert len(told) == 1
    assert is_clean(engine)


def test_the_last_error_page(Session: Any, engine: Engine, lock: Lock) -> None:
    """When the attempts have run out it is sent, or the application for that answers."""
    lock.write()

    app = partial(wrapped, swallowing(fails_in_a_flush), Session, Told(lock, after=99))

    assert request(app(), "POST").body == b"sorry"
    assert request(app(exhausted=service_unavailable), "POST").status == "503 Service Unavailable"
    assert is_clean(engine)


def a_savepoint_around(environ: Any) -> None:
    """A savepoint absorbs the conflict."""
    all_words(environ[KEY])
    with pytest.raises(OperationalError), environ[KEY].begin_nested():
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('ada')"))


def another_error_after(environ: Any) -> None:
    """Another error comes after it."""
    with pytest.raises(OperationalError):
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('ada')"))
    environ[KEY].rollback()
    with pytest.raises(OperationalError):
        environ[KEY].execute(text("SELECT no_such_column"))


@pytest.mark.parametrize("handled", [a_savepoint_around, another_error_after])
def test_a_conflict_that_was_handled(handled: Any, Session: Any, engine: Engine, lock: Lock) -> None:
    """A 500 for another reason is not repeated: the handler runs once."""
    runs: list[int] = []
    told = Told(lock)
    lock.write()

    def app(environ: Any, start_response: Any) -> Any:
        runs.append(environ["retry.attempt"])
        handled(environ)
        answer(start_response, "500 Internal Server Error")
        return [b"for another reason"]

    assert request(wrapped(app, Session, told), "POST").body == b"for another reason"
    assert runs == [0]
    assert told == []


def test_an_error_page_that_reads(Session: Any, engine: Engine, lock: Lock) -> None:
    """The page of a framework may ask the database, for who is logged in: that does not undo the conflict."""
    told = Told(lock)
    lock.write()

    def framework(environ: Any, start_response: Any) -> Any:
        try:
            return fails_in_a_flush(environ, start_response)
        except OperationalError:
            environ[KEY].rollback()
            answer(start_response, "500 Internal Server Error")
            return [str(all_words(environ[KEY])).encode()]

    assert request(wrapped(framework, Session, told), "POST").body == b"done"
    assert len(told) == 1


def test_other_statuses_are_not_repeated(Session: Any, engine: Engine, lock: Lock) -> None:
    """A conflict that the application has answered by itself is answered."""
    lock.write()

    def app(environ: Any, start_response: Any) -> Any:
        with pytest.raises(OperationalError):
            fails_in_a_flush(environ, start_response)
        answer(start_response, "409 Conflict")
        return [b"conflict"]

    assert request(wrapped(app, Session, Told(lock)), "POST").status == "409 Conflict"


# The policy.


def test_the_wait_is_bounded_and_random(Session: Any, engine: Engine, lock: Lock) -> None:
    """Twice as much before each attempt, up to a bound, and any part of it."""
    told = Told(lock, after=99)
    lock.write()

    app = RetryMiddleware(
        SessionMiddleware(fails_in_a_statement, Session),
        attempts=8,
        wait=0.0001,
        max_wait=0.001,
        on_failed_attempt=told,
    )
    with pytest.raises(OperationalError):
        request(app)

    waits = [failed.wait for failed in told[:-1] if failed.wait is not None]
    assert len(waits) == 7
    assert all(wait <= min(0.0001 * 2**number, 0.001) for number, wait in enumerate(waits))
    assert len(set(waits)) == 7


def test_the_wait_of_a_late_attempt() -> None:
    """It is bounded after any number of attempts."""
    options = {"wait": 0.05, "max_wait": 1.0, "is_retryable": is_retryable, "on_failed_attempt": None}
    policy = Policy(attempts=5000, retry_disconnects=False, **options)

    wait = policy.failed_attempt(4000, ValueError(), None).wait

    assert wait is not None
    assert wait <= 1


def test_its_own_idea_of_a_conflict(Session: Any, engine: Engine, lock: Lock) -> None:
    """What is worth another attempt can be said by the user."""
    told = Told(lock)

    def app(environ: Any, start_response: Any) -> Any:
        if environ["retry.attempt"] == 0:
            raise KeyError("stale")
        answer(start_response)
        return [b"done"]

    def is_stale(error: BaseException) -> bool:
        return isinstance(error, KeyError)

    assert request(wrapped(app, Session, told, is_retryable=is_stale)).body == b"done"


@pytest.mark.parametrize(
    ("error", "options", "names"),
    [
        (TypeError, {"app": "app"}, "'app'"),
        (ValueError, {"attempts": 0}, "attempts=0"),
        (ValueError, {"attempts": "three"}, "attempts='three'"),
        (ValueError, {"wait": -1}, "wait=-1"),
        (ValueError, {"max_wait": "long"}, "max_wait='long'"),
        (ValueError, {"max_body": -1}, "max_body=-1"),
        (ValueError, {"max_in_memory": None}, "max_in_memory=None"),
        (TypeError, {"is_retryable": None}, "is_retryable"),
        (TypeError, {"on_failed_attempt": "hook"}, "on_failed_attempt"),
        (TypeError, {"exhausted": 503}, "exhausted"),
    ],
)
def test_mistakes_are_refused_at_once(error: Any, options: Any, names: str) -> None:
    """Where it is made, with the offender's name."""
    with pytest.raises(error, match=names):
        RetryMiddleware(**({"app": fails_in_a_flush} | options))


# Jobs.


def test_a_job_is_run_again(Session: Any, engine: Engine, lock: Lock, caplog: Any) -> None:
    """In a new scope, also when it is COMMIT that fails; it returns what the function returns."""
    told = Told(lock, after=2)
    lock.read()

    @retrying(Session, wait=0, on_failed_attempt=told)
    def add(word: str) -> int:
        """Add a word."""
        add_words(Session(), word)
        return len(told)

    assert add("ada") == 2
    assert add.__doc__ == "Add a word."
    assert words(engine) == ["ada"]
    assert [failed.environ for failed in told] == [None, None]
    assert "add() failed (OperationalError: OperationalError); again in 0.000 s." in caplog.text


def test_a_job_that_has_committed_is_not_run_again(Session: Any, engine: Engine, lock: Lock) -> None:
    """It leaves the commit to its block, or it is not repeated."""
    told = Told(lock)

    @retrying(Session, wait=0, on_failed_attempt=told)
    def add() -> None:
        add_words(Session(), "committed")
        Session().commit()
        Session().connection()
        lock.write()
        add_words(Session(), "ada")

    with pytest.raises(OperationalError):
        add()

    assert words(engine) == ["committed"]
    assert [failed.obstacle for failed in told] == ["something was committed, or may have been"]


def test_a_job_fails_for_good(Session: Any, engine: Engine, lock: Lock) -> None:
    """By the last conflict, or by any other error at once."""
    lock.write()
    runs: list[Any] = []

    @retrying(Session, attempts=2, wait=0)
    def work(error: Exception | None) -> None:
        runs.append(error)
        if error:
            raise error
        add_words(Session(), "ada")

    with pytest.raises(OperationalError, match="locked"):
        work(None)
    with pytest.raises(KeyError):
        work(KeyError("x"))

    assert len(runs) == 3
    assert is_clean(engine)


def test_what_cannot_be_a_job(Session: Any) -> None:
    """A generator function would run after its block; a session is no registry."""

    def rows() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="rows"):
        retrying(Session)(rows)
    with pytest.raises(TypeError, match="registry"):
        retrying("registry")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attempts=0"):
        retrying(Session, attempts=0)


def test_the_next_attempt_does_not_find_a_failed_commit(Session: Any, engine: Engine) -> None:
    """What a COMMIT has refused is gone, also from a connection that no session has ever had."""
    rows = iter(["refused", "kept"])

    @retrying(Session, wait=0, is_retryable=lambda error: True)
    def write() -> None:
        row = next(rows)
        with engine.begin() as connection:
            connection.execute(insert(Word), {"text": row})
            if row == "refused":
                connection.execute(insert(Letter), {"word_id": 12345})

    write()

    assert words(engine) == ["kept"]
