"""A request's time: what begins after it is refused, and what PostgreSQL is still doing then is ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import URL, Engine, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker

from benchmarks.wire import RoundTrips, wired
from tests.drivers import POSTGRESQL, needs_postgresql, on_postgresql, with_every_driver
from tests.helpers import add_words, answer, is_clean, request, words
from wsgi_session import (
    DeadlineExceededError,
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    gateway_timeout,
    on_unsafe_success,
)

KEY = "sqlalchemy.session"
DEADLINE = "wsgi_session.deadline"


@pytest.fixture
def driver() -> str:
    """Return SQLite, where a test names no other."""
    return "sqlite"


@pytest.fixture
def engine(engine_by: Callable[..., Engine], driver: str) -> Engine:
    """Return an engine by the driver that the test names."""
    return engine_by(driver)


def sleeping(environ: Any, start_response: Any) -> Any:
    """Write something, then wait for the database for a long time."""
    add_words(environ[KEY], "lost")
    environ[KEY].execute(text("SELECT pg_sleep(30)"))
    answer(start_response)
    return [b""]


def wrapped(app: Any, engine: Engine, deadline: float, **options: Any) -> RetryMiddleware:
    """Wrap *app* as one does who wants an answer in time."""
    inner = SessionMiddleware(app, engine, commit=on_unsafe_success)
    return RetryMiddleware(inner, deadline=deadline, timed_out=gateway_timeout, **options)


@on_postgresql
def test_a_statement_that_takes_too_long(engine: Engine) -> None:
    """It is ended, nothing of its request is kept, and the client is told so."""
    began = time.monotonic()

    exchange = request(wrapped(sleeping, engine, 0.2), "POST")

    assert time.monotonic() - began < 20
    assert exchange.status == "504 Gateway Timeout"
    assert exchange.body == b"The database has not answered in time.\n"
    assert isinstance(exchange.environ["wsgi_session.error"], DBAPIError)
    assert words(engine) == []
    assert is_clean(engine)


@needs_postgresql
@pytest.mark.parametrize("driver", POSTGRESQL[:1])
def test_behind_a_framework(engine: Engine) -> None:
    """Where Flask has made a 500 of it, too; another 500 is its own."""
    Session = RequestScopedSession(sessionmaker(engine))
    flask = Flask(__name__)

    @flask.get("/slow")
    def slow() -> str:
        Session.execute(text("SELECT pg_sleep(30)"))
        return ""

    @flask.get("/broken")
    def broken() -> str:
        time.sleep(0.3)
        raise RuntimeError

    app = RetryMiddleware(SessionMiddleware(flask.wsgi_app, Session), deadline=0.2, timed_out=gateway_timeout)

    assert request(app, path="/slow").status == "504 Gateway Timeout"
    assert str(request(app, path="/broken").status).startswith("500")


@pytest.mark.parametrize("driver", POSTGRESQL[:1])
def test_without_another_answer_it_is_an_error(engine: Engine) -> None:
    """Who names no answer has the error at the server."""
    app = RetryMiddleware(SessionMiddleware(sleeping, engine), deadline=0.2)

    with pytest.raises(DBAPIError):
        request(app, "POST")


@with_every_driver
def test_what_would_begin_too_late(engine: Engine) -> None:
    """After its time a request begins no transaction, on any database."""

    def app(environ: Any, start_response: Any) -> Any:
        time.sleep(0.1)
        add_words(environ[KEY], "late")
        environ[KEY].flush()
        raise AssertionError

    exchange = request(wrapped(app, engine, 0.05), "POST")

    assert exchange.status == "504 Gateway Timeout"
    assert isinstance(exchange.environ["wsgi_session.error"], DeadlineExceededError)
    assert is_clean(engine)


@with_every_driver
def test_a_request_in_time(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """It is as without; where no statement would be ended, that is said once."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "kept")
        answer(start_response)
        return [b""]

    for _ in range(2):
        assert request(wrapped(app, engine, 60), "POST").status == "200 OK"

    assert words(engine)[-2:] == ["kept", "kept"]
    assert caplog.text.count("a deadline ends no statement here") == (engine.dialect.name != "postgresql")


@pytest.mark.parametrize("driver", POSTGRESQL[:1])
def test_in_autocommit_no_statement_is_ended(engine_by: Any, driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """There is no transaction to set it for; that is said."""

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return [environ[KEY].scalar(text("SHOW statement_timeout")).encode()]

    exchange = request(wrapped(app, engine_by(driver, isolation_level="AUTOCOMMIT"), 60))

    assert exchange.body == b"0"
    assert "a deadline ends no statement here" in caplog.text


@pytest.mark.parametrize("driver", POSTGRESQL[:1])
def test_each_transaction_has_what_is_left(engine: Engine) -> None:
    """It is set anew at each BEGIN; another request on the same connection has its own, and a job has none."""
    seen: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        for _ in range(2):
            seen.append(
                environ[KEY].scalar(text("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"))
            )
            environ[KEY].commit()
            time.sleep(0.02)
        answer(start_response)
        return [b""]

    request(wrapped(app, engine, 60))
    request(wrapped(app, engine, 30))
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "0"

    assert 60_000 >= seen[0] > seen[1] > 30_000 >= seen[2] > seen[3] > 0


def test_who_knows_better(engine: Engine) -> None:
    """A deadline that a server or another middleware has set earlier stays."""
    seen: list[float] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ[DEADLINE])
        answer(start_response)
        return [b""]

    soon, late = time.monotonic() + 1, time.monotonic() + 1000
    request(wrapped(app, engine, 60), **{DEADLINE: soon})
    request(wrapped(app, engine, 60), **{DEADLINE: late})

    assert seen[0] == soon
    assert seen[1] < late


def test_no_other_attempt_after_it(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """What would be repeated is not, when its time is over."""
    attempts: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        attempts.append(environ["retry.attempt"])
        environ[KEY].execute(select(1))
        time.sleep(0.1)
        raise Again

    retried = wrapped(app, engine, 0.05, is_retryable=lambda error: isinstance(error, Again), wait=0)
    with pytest.raises(Again):
        request(retried)

    assert attempts == [0]
    assert "not again: its time is over" in caplog.text


class Again(Exception):  # noqa: N818
    """Asks for another attempt."""


@needs_postgresql
def test_it_goes_with_the_settings_of_a_tenant(postgresql_url: URL) -> None:
    """The settings of `on_begin` and the time that is left are one statement."""
    trips = RoundTrips()

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        return [b""]

    with wired((str(postgresql_url.host), postgresql_url.port or 5432), trips.new_listener) as port:
        engine = create_engine(postgresql_url.set(port=port), pool_size=1)
        inner = SessionMiddleware(app, engine, on_begin=lambda connection, environ: {"app.tenant": "7"})
        counts: list[int] = []
        for outer in (inner, RetryMiddleware(inner, deadline=60)):
            for _ in range(3):
                before = trips.count
                request(outer)
            counts.append(trips.count - before)
        engine.dispose()

    assert counts == [4, 4]


@pytest.mark.parametrize("deadline", [0, -1, "soon"])
def test_what_is_no_time(deadline: Any, engine: Engine) -> None:
    """It is a number of seconds, more than none."""
    with pytest.raises(ValueError, match=r"deadline=.* has to be a number of seconds"):
        RetryMiddleware(SessionMiddleware(print, engine), deadline=deadline)
    with pytest.raises(TypeError, match="timed_out has to be a WSGI application"):
        RetryMiddleware(SessionMiddleware(print, engine), timed_out="504")  # type: ignore[arg-type]
