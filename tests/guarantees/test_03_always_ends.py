"""Guarantee 3: it always ends, once."""

from __future__ import annotations

import gc
import inspect
import itertools
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import sessionmaker

from tests.helpers import Exchange, add_words, all_words, answer, is_clean, new_environ, request, words
from wsgi_session import RequestScopedSession, SessionMiddleware, never, on_success, until_close
from wsgi_session._response.steps import steps

KEY = "sqlalchemy.session"
RULES = pytest.mark.parametrize("commit", [until_close, on_success, never])


class WorkerTimeoutError(BaseException):
    """What a server raises in a worker that takes too long."""


class Stop(Exception):  # noqa: N818
    """What an application raises."""


class Chunks:
    """A body that uses its session at every step, and fails where it is told to."""

    def __init__(self, session: Any, fails_in: str = "", error: type[BaseException] = Stop) -> None:
        self.session, self.fails_in, self.error, self.left = session, fails_in, error, 2

    def step(self, name: str) -> None:
        self.session.execute(text("SELECT 1"))
        if self.fails_in == name:
            raise self.error(name)

    def __iter__(self) -> Chunks:
        self.step("iter")
        return self

    def __next__(self) -> bytes:
        self.step("next")
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return b"x"

    def close(self) -> None:
        self.step("close")


def app_with(make_body: Callable[[Any], Any], fails: type[BaseException] | None = None) -> Any:
    """Make an application that writes, and then fails or returns a body."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "uncommitted")
        environ[KEY].flush()
        answer(start_response, "400 Bad Request")
        if fails:
            raise fails("call")
        return make_body(environ[KEY])

    return app


def exhausted(exchange: Exchange) -> None:
    """Read it all and close it."""
    exchange.read().close()


def closed_at_once(exchange: Exchange) -> None:
    """Close it before the first chunk."""
    exchange.close()


def closed_half_way(exchange: Exchange) -> None:
    """Close it after the first chunk."""
    exchange.step()
    exchange.close()


def closed_twice(exchange: Exchange) -> None:
    """Close it two times."""
    exchange.step()
    exchange.close().close()


def closed_elsewhere(exchange: Exchange) -> None:
    """Close it on another thread."""
    exchange.step()
    thread = threading.Thread(target=exchange.close)
    thread.start()
    thread.join(timeout=10)


def dropped(exchange: Exchange) -> None:
    """Never close it."""
    exchange.step()
    with pytest.warns(ResourceWarning, match="never closed"):
        exchange.drop()


def dropped_at_once(exchange: Exchange) -> None:
    """Never close it, never read it."""
    with pytest.warns(ResourceWarning, match="never closed"):
        exchange.drop()


def generator(session: Any) -> Iterator[bytes]:
    """Use the session at every chunk."""
    for _ in range(2):
        session.execute(text("SELECT 1"))
        yield b"x"


EXITS = [exhausted, closed_at_once, closed_half_way, closed_twice, closed_elsewhere, dropped, dropped_at_once]


@pytest.mark.parametrize("make_body", [Chunks, generator])
@pytest.mark.parametrize("leave", EXITS)
def test_every_exit(Session: Any, engine: Engine, leave: Any, make_body: Any, caplog: Any) -> None:
    """However a server leaves a body, fifty times on a pool of one: one end, a clean connection, nothing in the log."""
    ends: list[Any] = []
    app = SessionMiddleware(app_with(make_body), Session, commit=until_close)
    app.on_request_end(ends.append)
    gc.collect()
    gc.disable()
    try:
        for number in range(1, 51):
            leave(Exchange(app))

            assert len(ends) == number
            assert is_clean(engine)
    finally:
        gc.enable()
    assert words(engine) == []
    assert caplog.records == []


@RULES
@pytest.mark.parametrize("where", ["call", "iter", "next", "close"])
@pytest.mark.parametrize("error", [Stop, WorkerTimeoutError, SystemExit, GeneratorExit])
def test_every_failure(engine: Engine, where: str, error: Any, commit: Any, caplog: Any) -> None:
    """Wherever the application fails, fifty times on a pool of one, the caller has the very error, and all is clean."""
    Session = RequestScopedSession(sessionmaker(engine))
    ends: list[Any] = []
    app = SessionMiddleware(
        app_with(lambda session: Chunks(session, where, error), error if where == "call" else None),
        Session,
        commit=commit,
    )
    app.on_request_end(ends.append)
    for number in range(1, 51):
        with pytest.raises(error) as caught:
            request(app)

        assert str(caught.value) == where
        assert len(ends) == number
        assert is_clean(engine)
    assert words(engine) == []
    assert caplog.records == []


def test_a_failing_statement(Session: Any, engine: Engine) -> None:
    """An error of the driver's passes through untouched, and the connection is clean."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT nonsense"))

    for _ in range(50):
        with pytest.raises(OperationalError, match="nonsense"):
            request(SessionMiddleware(app, Session))

        assert is_clean(engine)


def test_an_error_in_a_step_gives_the_connection_back_at_once(Session: Any, engine: Engine) -> None:
    """A server that never calls ``close()`` after an error keeps no connection; the session is still usable."""
    bodies: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        bodies.append(Chunks(environ[KEY], "next"))
        return bodies[0]

    exchange = Exchange(SessionMiddleware(app, Session))
    with pytest.raises(Stop):
        exchange.step()

    assert is_clean(engine)
    bodies[0].step("again")
    exchange.close()
    assert is_clean(engine)


def late_chunks(session: Any, given: list[Any]) -> Any:
    """Call the only ``start_response`` that is given, which is not kept, in the first step, and use *session* then."""
    answer(given.pop())
    yield b"x"
    all_words(session)
    yield b"y"


def test_a_dropped_response_is_freed_by_reference_counting_alone(Session: Any, engine: Engine) -> None:
    """No cycle goes through a response, also where the server's ``start_response`` is a bound method."""
    gc.collect()
    gc.disable()
    try:
        for is_late, commit in itertools.product((False, True), (until_close, on_success, never)):

            def app(environ: Any, start_response: Any, is_late: bool = is_late) -> Any:
                environ[KEY].execute(text("SELECT 1"))
                if is_late:
                    return late_chunks(environ[KEY], [start_response])
                answer(start_response)
                return Chunks(environ[KEY])

            exchange = Exchange(SessionMiddleware(app, Session, commit=commit))
            exchange.step()
            exchange.step()
            freed = weakref.ref(exchange.result.scope)
            with pytest.warns(ResourceWarning):
                del exchange

            assert freed() is None
            assert is_clean(engine)
    finally:
        gc.enable()


@RULES
@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_who_holds_the_iterator_alone_goes_on(taken: int, commit: Any, Session: Any, engine: Engine) -> None:
    """A loop over the call itself keeps no response: the request ends when its iterator is dropped."""
    ended: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        for _ in range(2):
            all_words(Session)
            yield b"x"

    middleware = SessionMiddleware(app, Session, commit=commit)
    middleware.on_request_end(ended.append)
    chunks = iter(middleware(new_environ(), lambda *of_the_call: print))
    for _ in range(taken):
        next(chunks, None)
    assert not ended
    with catch_warnings():
        simplefilter("ignore", ResourceWarning)
        del chunks

    assert len(ended) == 1
    assert is_clean(engine)


@pytest.mark.parametrize("end", [closed_half_way, dropped])
def test_what_a_body_drops_at_its_end_finds_its_session(end: Any, Session: Any) -> None:
    """A generator inside of a body, which nobody closes, is collected in the scope, and finds its session."""
    sessions: list[Any] = []

    class Body:
        def __init__(self) -> None:
            self._chunks = self._generate()

        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            return next(self._chunks)

        def close(self) -> None:
            pass

        @staticmethod
        def _generate() -> Iterator[bytes]:
            try:
                sessions.append(Session())
                all_words(Session)
                yield b"one"
            finally:
                sessions.append(Session())

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    end(Exchange(SessionMiddleware(app, Session)))

    assert len(sessions) == 2
    assert sessions[0] is sessions[1]


@pytest.mark.parametrize(("end", "times"), [("close", 1), ("drop", 0)])
def test_a_body_that_goes_on_after_its_declared_length(end: str, times: int, Session: Any) -> None:
    """It is closed once when the server closes the response, and not at all when the server forgets to."""
    closed: list[int] = []

    class Own:
        def __init__(self) -> None:
            self.chunks = iter([b"ab", b"", b""])

        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            return next(self.chunks)

        def close(self) -> None:
            closed.append(1)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response, "200 OK", ("Content-Length", "2"))
        return Own()

    exchange = Exchange(SessionMiddleware(app, Session, commit=never))
    exchange.step()
    exchange.step()
    getattr(exchange, end)()

    assert len(closed) == times


def test_two_steps_at_once_are_refused(Session: Any, engine: Engine) -> None:
    """A server that takes a step while another thread is in one gets an error, as from a generator."""
    in_step, go_on = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        all_words(environ[KEY])
        in_step.set()
        assert go_on.wait(20)
        yield b"x"

    exchange = Exchange(SessionMiddleware(app, Session))
    thread = threading.Thread(target=exchange.step)
    thread.start()
    assert in_step.wait(20)
    with pytest.raises(ValueError, match="already executing"):
        next(exchange.result)
    go_on.set()
    thread.join()

    assert exchange.chunks == [b"x"]
    exchange.close()
    assert is_clean(engine)


def test_a_close_while_a_step_is_running_is_left_to_that_step(Session: Any, engine: Engine) -> None:
    """``close()`` from another thread returns at once; the step ends the scope when it is done."""
    in_step, go_on = threading.Event(), threading.Event()
    closes: list[str] = []
    ends: list[Any] = []

    class Slow(Chunks):
        def __next__(self) -> bytes:
            self.session.execute(text("SELECT 1"))
            in_step.set()
            assert go_on.wait(10)
            self.session.execute(text("SELECT 2"))
            return b"x"

        def close(self) -> None:
            closes.append(threading.current_thread().name)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Slow(environ[KEY])

    app = SessionMiddleware(app, Session)
    app.on_request_end(ends.append)
    for number in range(1, 51):
        in_step.clear()
        go_on.clear()
        exchange = Exchange(app)
        thread = threading.Thread(target=exchange.step, name="stepping")
        thread.start()
        assert in_step.wait(10)
        exchange.close()
        assert len(ends) == number - 1
        go_on.set()
        thread.join(timeout=10)

        assert len(ends) == number
        assert next(exchange.result, None) is None
        assert is_clean(engine)
    assert closes == ["stepping"] * 50


@pytest.mark.parametrize("is_generator", [True, False])
def test_a_close_between_the_last_look_of_a_step_and_a_chunk(is_generator: bool, Session: Any, engine: Engine) -> None:
    """``close()`` from another thread, when the step has looked for it and not handed its chunk over yet, ends all."""
    ends: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        chunks = (chunk for chunk in [b"x", b"y"])
        return chunks if is_generator else Chunks(environ[KEY])

    app = SessionMiddleware(app, Session)
    app.on_request_end(ends.append)
    exchange = Exchange(app)
    scope = exchange.result.scope
    closer = threading.Thread(target=exchange.result.close)

    def close_elsewhere() -> None:
        closer.start()
        while not scope.is_closing:
            time.sleep(0)

    step_and_close_as_it_hands_over(exchange, close_elsewhere)
    closer.join()

    assert len(ends) == 1
    assert next(exchange.result, None) is None
    assert is_clean(engine)


def step_and_close_as_it_hands_over(exchange: Exchange, close: Callable[[], object]) -> None:
    """Take a step, and call *close* when the step has looked for it and not handed its chunk over yet."""
    scope = exchange.result.scope
    lines, first = inspect.getsourcelines(steps)
    [yields] = [first + at for at, line in enumerate(lines) if line == " " * 12 + "yield chunk\n"]

    def trace(frame: Any, event: str, _argument: object) -> Any:
        if frame.f_code is steps.__code__ and frame.f_lineno == yields and not scope.is_closing:
            close()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        next(exchange.result)
    finally:
        sys.settrace(before)


def test_a_close_by_the_step_itself_as_it_hands_over(Session: Any, engine: Engine) -> None:
    """A signal handler may call ``close()`` at the worst moment: it returns soon, and the next step ends all."""
    ends: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        return (chunk for chunk in [b"x", b"y"])

    app = SessionMiddleware(app, Session)
    app.on_request_end(ends.append)
    exchange = Exchange(app)

    step_and_close_as_it_hands_over(exchange, exchange.result.close)

    assert ends == []
    next(exchange.result)
    assert len(ends) == 1
    assert is_clean(engine)


def test_where_nobody_counts_references() -> None:
    """An interpreter without ``sys.getrefcount()`` ends what a server drops as well, when that is collected."""
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_COUNTS]

    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])

    assert (run.stdout, run.stderr) == ("ended 1\nended 2\n", "")


WITHOUT_COUNTS = """
import gc
import sys

del sys.getrefcount

from sqlalchemy import text

from tests.helpers import Exchange, answer
from wsgi_session import SessionMiddleware

ends = []


def app(environ, start_response):
    environ["sqlalchemy.session"].execute(text("SELECT 1"))
    answer(start_response)
    return (chunk for chunk in [b"x", b"y"])


app = SessionMiddleware(app, "sqlite://")
app.on_request_end(ends.append)
exchange = Exchange(app)
exchange.read().close()
print("ended", len(ends))
exchange = Exchange(app)
exchange.step()
exchange.drop()
gc.collect()
print("ended", len(ends))
"""


@pytest.mark.parametrize("error", [StopIteration, Stop])
@pytest.mark.parametrize("keeps", [True, False])
def test_a_close_during_the_last_step(error: Any, keeps: bool, Session: Any, engine: Engine) -> None:
    """It is left to that step also when that is the end of the body, or fails, or the response is dropped meanwhile."""
    in_step, go_on = threading.Event(), threading.Event()
    closes: list[str] = []
    raised: list[BaseException] = []

    class Slow(Chunks):
        def __next__(self) -> bytes:
            self.session.execute(text("SELECT 1"))
            in_step.set()
            assert go_on.wait(10)
            raise error

        def close(self) -> None:
            closes.append(threading.current_thread().name)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Slow(environ[KEY])

    response: Any = SessionMiddleware(app, Session)(new_environ(), lambda *of_the_call: print)

    def step(chunks: Iterator[bytes]) -> None:
        try:
            next(chunks)
        except Exception as failure:
            raised.append(failure)

    thread = threading.Thread(target=step, args=[iter(response)], name="stepping")
    thread.start()
    assert in_step.wait(10)
    response.close()
    if not keeps:
        del response
    go_on.set()
    thread.join(timeout=10)

    assert closes == ["stepping"]
    assert [type(failure) for failure in raised] == [error]
    assert is_clean(engine)


def test_two_closes_at_once_are_one(Session: Any) -> None:
    """A ``close()`` that comes while another thread's is running calls nothing of the application's."""
    closes: list[str] = []
    in_close, go_on = threading.Event(), threading.Event()

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            closes.append(threading.current_thread().name)
            in_close.set()
            assert go_on.wait(20)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return Body()

    exchange = Exchange(SessionMiddleware(app, Session))
    first = threading.Thread(target=exchange.close, name="first")
    first.start()
    assert in_close.wait(20)
    second = threading.Thread(target=exchange.result.close, name="second")
    second.start()
    second.join(5)
    is_waiting = second.is_alive()
    go_on.set()
    first.join(20)
    second.join(20)

    assert not is_waiting
    assert closes == ["first"]


def test_a_failing_close_that_another_thread_asked_for_is_logged(Session: Any, caplog: Any) -> None:
    """Nobody waits for that error, and the step's own result is not lost to it."""

    class Slow(Chunks):
        def __next__(self) -> bytes:
            thread = threading.Thread(target=exchange.result.close)
            thread.start()
            thread.join(timeout=10)
            return b"x"

        def close(self) -> None:
            raise Stop("close")

    exchange = Exchange(SessionMiddleware(app_with(Slow), Session))

    assert exchange.step() == b"x"
    assert "The application's close() failed" in caplog.text


def test_no_foreign_close_is_called_by_a_collection(Session: Any) -> None:
    """A body that is collected may be so on any thread: a generator cleans up, but no other ``close()`` is called."""
    closed: list[str] = []

    class Body(Chunks):
        def close(self) -> None:
            closed.append("class")

    def body(session: Any) -> Iterator[bytes]:
        try:
            yield b"x"
        finally:
            closed.append("generator")

    for make_body in (Body, body):
        exchange = Exchange(SessionMiddleware(app_with(make_body), Session, commit=until_close))
        exchange.step()
        with pytest.warns(ResourceWarning):
            exchange.drop()

    assert closed == ["generator"]


def test_a_dropped_generator_that_fails_ends_all_the_same(
    Session: Any, engine: Engine, monkeypatch: Any, caplog: Any
) -> None:
    """The error of its clean-up is Python's to report, as without the middleware; what it loses is no loss."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(unraisable.exc_type))

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        try:
            yield b"x"
        finally:
            add_words(environ[KEY], "half")
            raise Stop("finally")

    exchange = Exchange(SessionMiddleware(app, Session))
    exchange.step()
    exchange.drop()

    assert reported == [Stop]
    assert is_clean(engine)
    assert caplog.records == []


def test_start_response_never_called(Session: Any, engine: Engine) -> None:
    """The server's own error is the caller's; the scope has ended, under a rule, too."""
    ends: list[Any] = []
    for commit in (never, until_close, on_success):
        for make_body in (Chunks, generator, lambda session: [b"x"]):

            def app(environ: Any, start_response: Any, make_body: Any = make_body) -> Any:
                add_words(environ[KEY], "uncommitted")
                return make_body(environ[KEY])

            wrapped = SessionMiddleware(app, Session, commit=commit)
            wrapped.on_request_end(ends.append)
            with pytest.raises(AssertionError, match="before start_response"):
                request(wrapped)
    assert len(ends) == 9
    assert is_clean(engine)
    assert words(engine) == []


def test_a_rolled_back_request_logs_nothing(Session: Any, engine: Engine, caplog: Any) -> None:
    """An exception of the application's, or a 4xx under a rule, is its own to report."""
    rollbacks: list[Any] = []
    event.listen(engine, "rollback", rollbacks.append)

    request(SessionMiddleware(app_with(lambda session: [b""]), Session, commit=on_success))

    assert len(rollbacks) == 1
    assert caplog.records == []


@RULES
def test_a_body_that_only_the_server_can_send(Session: Any, engine: Engine, commit: Any) -> None:
    """What cannot be iterated is handed on as it is; its scope ends when it is collected."""
    ends: list[Any] = []

    class File:
        def read(self, size: int = -1) -> bytes:
            return b""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        return File()

    wrapped = SessionMiddleware(app, Session, commit=commit)
    wrapped.on_request_end(ends.append)
    exchange = Exchange(wrapped)

    assert isinstance(exchange.result, File)
    assert ends == []
    exchange.drop()
    assert len(ends) == 1
    assert is_clean(engine)


@RULES
@pytest.mark.parametrize("body", [None, 7])
def test_a_body_that_nobody_can_send(Session: Any, engine: Engine, commit: Any, body: Any) -> None:
    """A mistake of the application's is handed on for the server to complain about; the scope has ended."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        answer(start_response)
        return body

    exchange = Exchange(SessionMiddleware(app, Session, commit=commit))

    assert exchange.result is body
    assert is_clean(engine)
