"""The recorder: what it says of a request, of the live ones, and of the pools."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import DictLoader, Environment
from mako.template import Template  # type: ignore[import-untyped]
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import selectinload, sessionmaker
from sqlalchemy.pool import NullPool, SingletonThreadPool, StaticPool

from tests.helpers import Exchange, Word, add_words, answer, orphan, request
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    current_scope,
    on_success,
    session_scope,
)
from wsgi_session.observe import FindingKind, PoolGauges, Recorder, RequestRecord, _fault, _shapes
from wsgi_session.observe._labels import label_of

KEY = "sqlalchemy.session"
SELECT = text("SELECT 1")


@pytest.fixture
def recorder() -> Recorder:
    """Return a recorder of statements."""
    return Recorder(statements=True)


@pytest.fixture
def switching() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def record_of(work: Callable[[Any], object], registry: Any, recorder: Recorder, **options: Any) -> RequestRecord:
    """Do *work* with the session of a request, and return what was recorded of it."""

    def app(environ: Any, start_response: Any) -> Any:
        work(environ[KEY])
        answer(start_response)
        return []

    request(SessionMiddleware(app, registry, recorder=recorder, **options))
    return recorder.records[-1]


def kinds(record: RequestRecord) -> list[str]:
    """List the kinds of statements of a record."""
    return [statement.kind for statement in record.statements]


def found(record: RequestRecord) -> list[FindingKind]:
    """List the kinds of findings of a record."""
    return [finding.kind for finding in record.findings]


def gauges_of(engine: Engine, recorder: Recorder) -> PoolGauges:
    """Return the gauges of the pool of *engine*."""
    (gauges,) = (one for one in recorder.gauges().pools if one.engine.endswith(str(engine.url.database)))
    return gauges


def streams(environ: Any, start_response: Any) -> Iterator[bytes]:
    """Send a statement before each of five chunks, and one in its clean-up."""
    answer(start_response)
    for number in range(5):
        environ[KEY].execute(text(f"SELECT '{environ['PATH_INFO']}', {number}"))
        yield b"."


def test_a_statement_is_described(engine: Engine, recorder: Recorder) -> None:
    """A statement has its text without values, its kind, its time, its rows, and the line that sent it."""

    def work(session: SQLAlchemySession) -> None:
        add_words(session, "secret")
        session.flush()
        session.execute(text("UPDATE word SET text = 'secret' WHERE id < 12345"))

    record = record_of(work, engine, recorder, commit=on_success)

    assert kinds(record) == ["insert", "update", "commit"]
    assert record.statements[1].sql == "UPDATE word SET text = ? WHERE id < ?"
    assert record.statements[1].rowcount == 1
    assert str(record.statements[1].line).startswith("tests/test_observe.py:")
    assert record.statements[2].line is None
    assert all(one.duration > 0 and 0 < one.at < record.duration for one in record.statements)
    assert record.in_database == pytest.approx(sum(one.duration for one in record.statements))
    assert (record.statement_count, record.commits, record.rollbacks, record.is_truncated) == (2, 1, 0, False)
    assert (record.method, record.path, record.status, record.attempt) == ("GET", "/", 200, 0)


def test_a_statement_knows_its_connection(new_engine: Any, recorder: Recorder) -> None:
    """A statement has the moment at which its connection was taken, also where two are held at the same time."""
    engine = new_engine(pool_size=2)

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        with engine.connect() as connection:
            connection.execute(SELECT)
            session.execute(SELECT)

    record = record_of(work, engine, recorder)

    second, first = (held.at for held in record.connections)
    assert [one.held_at for one in record.statements] == [first, second, first, second, first]


def test_a_lost_connection_is_not_asked_for_another(new_engine: Any, recorder: Recorder) -> None:
    """A ROLLBACK on a connection that was invalidated is recorded without one, and none is made for it."""
    engine = new_engine()
    made: list[Any] = []

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        event.listen(engine, "connect", lambda *_: made.append(_))
        session.connection().invalidate()

    record = record_of(work, engine, recorder)

    assert [(one.kind, one.held_at is None) for one in record.statements] == [("select", False), ("end", True)]
    assert made == []


def test_nothing_that_is_kept_has_a_value(engine: Engine, recorder: Recorder) -> None:
    """Neither parameters, nor values in the text, nor those in the text of an error are kept."""

    def work(session: SQLAlchemySession) -> None:
        session.execute(text("SELECT 'secret', :value /* secret */ -- secret"), {"value": "secret"})
        session.execute(text("SELECT 12345"))
        session.execute(text("INSERT INTO word (id, text) VALUES (12345, 'secret')"))
        with pytest.raises(IntegrityError):
            session.execute(text("INSERT INTO word (id, text) VALUES (12345, 'secret')"))

    record = record_of(work, engine, recorder)

    assert "secret" not in repr(record)
    assert "12345" not in repr(record)
    assert record.errors == ("IntegrityError: IntegrityError SQLITE_CONSTRAINT_PRIMARYKEY",)
    assert record.statements[-2].error == record.errors[0]


def test_interleaved_bodies_are_told_apart(new_engine: Any, recorder: Recorder) -> None:
    """Statements of two bodies that a server interleaves on one thread are recorded with their own request."""
    app = SessionMiddleware(streams, new_engine(pool_size=2), recorder=recorder)  # type: ignore[arg-type]
    first, second = Exchange(app, path="/a"), Exchange(app, path="/b")

    for _ in range(5):
        first.step()
        second.step()
    first.close()
    second.close()

    assert [(record.path, record.statement_count) for record in recorder.records] == [("/a", 5), ("/b", 5)]


def test_raw_use_of_a_shared_engine_is_told_apart(new_engine: Any, recorder: Recorder) -> None:
    """So are statements that bodies send on the engine itself, in which no session takes part."""
    engine = new_engine(pool_size=3)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        with engine.connect() as connection:
            for _ in range(3):
                connection.execute(SELECT)
                environ[KEY].execute(SELECT)
                yield b"."

    app = SessionMiddleware(app, new_engine(pool_size=2), recorder=recorder)  # type: ignore[arg-type,assignment]
    first, second = Exchange(app, path="/a"), Exchange(app, path="/b")
    for _ in range(2):
        first.step()
        second.step()
    first.close()
    second.step()
    second.close()

    assert [(record.path, record.statement_count) for record in recorder.records] == [("/a", 4), ("/b", 6)]
    assert [len(record.connections) for record in recorder.records] == [2, 2]


def test_a_body_on_another_thread_is_recorded(engine: Engine, recorder: Recorder) -> None:
    """A response whose chunks are taken on another thread than its call loses nothing."""
    app = SessionMiddleware(streams, engine, recorder=recorder)  # type: ignore[arg-type]
    exchange = Exchange(app)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(exchange.read).result()
    exchange.close()

    assert recorder.records[0].statement_count == 5


def test_two_threads_share_an_engine(new_engine: Any, recorder: Recorder) -> None:
    """Requests on threads that share an engine are told apart."""
    app = SessionMiddleware(streams, new_engine(pool_size=4), recorder=recorder)  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: request(app, path=f"/{number}"), range(20)))

    assert {record.path for record in recorder.records} == {f"/{number}" for number in range(20)}
    assert {record.statement_count for record in recorder.records} == {5}


def test_what_is_sent_after_the_end_is_nobodys(engine: Engine, recorder: Recorder) -> None:
    """A connection that outlives its request is not counted for it, nor for the next."""
    kept: list[Connection] = []

    def work(session: SQLAlchemySession) -> None:
        kept.append(engine.connect())
        kept[0].execute(SELECT)

    record = record_of(work, create_engine("sqlite://"), recorder)
    kept[0].execute(SELECT)
    kept[0].close()

    assert recorder.records == (record,)
    assert record.statement_count == 1
    assert len(record.connections) == 1


def test_a_block_in_a_request_belongs_to_it(new_engine: Any, recorder: Recorder) -> None:
    """What a `session_scope` in a request does is recorded with the request; outside of one it is not recorded."""
    registry = RequestScopedSession(sessionmaker(new_engine(pool_size=2)))

    def in_block(session: object) -> None:
        with session_scope(registry) as own:
            add_words(own, "ada")

    record = record_of(in_block, registry, recorder)
    in_block(None)

    assert kinds(record) == ["insert", "commit"]
    assert len(recorder.records) == 1


def test_a_session_made_by_hand_belongs_to_the_current_request(new_engine: Any, recorder: Recorder) -> None:
    """A session that the application has made itself is recorded with the request in which it begins."""
    engine = new_engine(pool_size=2)

    def work(session: object) -> None:
        with SQLAlchemySession(engine) as own:
            own.execute(SELECT)

    assert kinds(record_of(work, engine, recorder)) == ["select", "end"]


def test_a_session_used_out_of_its_context_is_still_its_requests(engine: Engine, recorder: Recorder) -> None:
    """A thread that a request hands its session to has no scope; the session tells whose it is."""

    def work(session: SQLAlchemySession) -> None:
        thread = threading.Thread(target=session.execute, args=[SELECT])
        thread.start()
        thread.join()

    record = record_of(work, engine, recorder)

    assert record.statement_count == 1
    assert len(record.connections) == 1


def test_a_connection_that_is_taken_in_another_request_goes_to_its_own(new_engine: Any, recorder: Recorder) -> None:
    """A session of one request that is used in another, which nobody should do, is charged to its own."""
    outer = SessionMiddleware(streams, new_engine(), recorder=recorder)  # type: ignore[arg-type]
    exchange = Exchange(outer, path="/outer", environ=None)

    record = record_of(lambda session: exchange.environ[KEY].execute(SELECT), new_engine(), recorder)
    exchange.close()

    assert (record.statement_count, len(record.connections)) == (0, 0)
    assert (recorder.records[-1].statement_count, len(recorder.records[-1].connections)) == (1, 1)


def test_waiting_and_holding_are_timed(new_engine: Any) -> None:
    """A request is told how long it has waited for the pool and held its connection, at either level."""
    recorder = Recorder()
    engine = new_engine(pool_timeout=10)
    is_held, may_go = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(SELECT)
        if environ["PATH_INFO"] == "/first":
            is_held.set()
            may_go.wait()
        answer(start_response)
        return []

    app = SessionMiddleware(app, engine, recorder=recorder)  # type: ignore[arg-type,assignment]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(request, app, path="/first")
        is_held.wait()
        second = pool.submit(request, app, path="/second")
        while not any(live.waiting for live in recorder.live()):
            time.sleep(0.01)
        time.sleep(0.05)
        waiting = recorder.live()
        may_go.set()
        first.result()
        second.result()
    records = {record.path: record for record in recorder.records}

    assert records["/second"].waited > 0.05
    assert records["/first"].held > 0.05
    assert records["/second"].connections[0].waited == records["/second"].waited
    assert records["/second"].statements == ()
    assert records["/second"].in_database is records["/second"].idle is None
    assert [live.path for live in waiting] == ["/first", "/second"]
    assert "GET /second for 0." in str(waiting[1])
    assert ", waiting for 0." in str(waiting[1])
    assert ", holding sqlite:" in str(waiting[0])
    assert " since tests/test_observe.py:" in str(waiting[0])


def test_a_connection_held_idle_is_a_finding(engine: Engine, recorder: Recorder) -> None:
    """A request that holds a connection while it does something else is told so."""

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        time.sleep(0.15)

    record = record_of(work, engine, recorder)

    assert record.idle is not None
    assert 0.1 < record.idle <= record.held <= record.duration
    assert found(record) == [FindingKind.IDLE]


def test_a_released_connection_is_not_held(engine: Engine, recorder: Recorder) -> None:
    """A request that has released its connection before it waits holds none."""

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        current_scope().release()
        time.sleep(0.15)

    record = record_of(work, engine, recorder)

    assert record.held <= record.duration - 0.15
    assert found(record) == []


class SlowToCommit(sqlite3.Connection):
    """A connection of a database that takes long to commit."""

    def commit(self) -> None:
        """Take long."""
        time.sleep(0.15)
        super().commit()


def test_a_slow_commit_is_not_idle(tmp_path: Path, recorder: Recorder) -> None:
    """The time that COMMIT takes is time in the database."""
    engine = create_engine(f"sqlite:///{tmp_path}/slow.db", connect_args={"factory": SlowToCommit})

    record = record_of(lambda session: session.execute(SELECT), engine, recorder, commit=on_success)

    engine.dispose()
    assert record.statements[-1].kind == "commit"
    assert record.statements[-1].duration > 0.1
    assert found(record) == []


def test_writes_that_nobody_commits_are_a_finding(engine: Engine, recorder: Recorder) -> None:
    """A response that did not fail, but whose writes were never committed, is told so, with the line."""
    record = record_of(lambda session: session.execute(text("DELETE FROM word")), engine, recorder)

    assert found(record) == [FindingKind.UNCOMMITTED]
    assert record.findings[0].subject == "what was sent directly, not committed"
    assert str(record.findings[0].line).startswith("tests/test_observe.py:")


@pytest.mark.parametrize("after", ["commit", "rollback", "raise", "status", "body", "autocommit"])
def test_writes_that_were_given_up_are_none(new_engine: Any, recorder: Recorder, after: str) -> None:
    """What was committed, rolled back by the application, or failed with it, is no finding."""
    engine = new_engine(isolation_level="AUTOCOMMIT") if after == "autocommit" else new_engine()

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        session.execute(text("DELETE FROM word"))
        if after in ("commit", "rollback"):
            getattr(session, after)()
        if after == "raise":
            raise ValueError
        answer(start_response, "500 Oh" if after == "status" else "200 OK")
        return (1 / 0 for _ in "x") if after == "body" else []

    with suppress(ValueError, ZeroDivisionError):
        request(SessionMiddleware(app, engine, recorder=recorder))

    assert found(recorder.records[0]) == []
    assert recorder.records[0].errors == {"raise": ("ValueError",), "body": ("ZeroDivisionError",)}.get(after, ())


def test_a_response_that_is_never_closed_is_a_finding(engine: Engine, recorder: Recorder) -> None:
    """A response that the server drops is told apart from one that it closes."""
    app = SessionMiddleware(streams, engine, recorder=recorder)  # type: ignore[arg-type]
    exchange = Exchange(app)
    exchange.step()

    with pytest.warns(ResourceWarning, match="never closed"):
        exchange.drop()

    assert found(recorder.records[0]) == [FindingKind.UNCLOSED]


def test_a_pool_that_runs_dry_names_who_holds_it(engine: Engine, recorder: Recorder) -> None:
    """A request that gets no connection is told who had them, since when, and at which line."""

    def holds(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(SELECT)
        with pytest.raises(PoolTimeoutError):
            request(SessionMiddleware(asks, engine, recorder=recorder), path="/asks")
        answer(start_response)
        return []

    def asks(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(SELECT)

    request(SessionMiddleware(holds, engine, recorder=recorder), "POST", "/holds")
    dry = recorder.records[0]

    assert found(dry) == [FindingKind.DRY]
    assert dry.ran_dry is not None
    assert dry.ran_dry[0].startswith("POST /holds for 0.2")
    assert " since tests/test_observe.py:" in dry.ran_dry[0]
    assert dry.waited >= 0.2
    assert "(held by POST /holds" in str(dry)


def test_a_pool_that_runs_dry_by_other_hands(engine: Engine, recorder: Recorder) -> None:
    """A connection that was taken outside of requests is named, too."""
    with engine.connect() as connection:
        recorder.watch(engine)
        connection.execute(SELECT)
        with pytest.raises(PoolTimeoutError):
            record_of(lambda session: session.execute(SELECT), engine, recorder)
        with pytest.raises(PoolTimeoutError):
            engine.connect()
        holders = [holder for holder in recorder.holders() if str(engine.url.database) in holder]

    assert len(holders) == 1
    assert ": outside of a request for 0." in holders[0]
    assert str(recorder.records[0].ran_dry).startswith("('outside of a request for 0.")


def test_a_line_of_the_log(engine: Engine, recorder: Recorder, caplog: Any) -> None:
    """A request with findings is one line at INFO, one without is one at DEBUG."""
    caplog.set_level(logging.DEBUG, "wsgi_session.requests")

    record_of(lambda session: session.execute(SELECT), engine, recorder)
    record_of(lambda session: [session.execute(SELECT) for _ in range(3)], engine, recorder)

    assert [(one.name, one.levelname) for one in caplog.records] == [
        ("wsgi_session.requests", "DEBUG"),
        ("wsgi_session.requests", "INFO"),
    ]
    assert caplog.messages[0].startswith("GET / 200 ")
    assert ", 1 statements " in caplog.messages[0]
    assert "; identical query: SELECT ? x3 at tests/test_observe.py:" in caplog.messages[1]


def test_a_hook_is_told(engine: Engine) -> None:
    """The callback gets the record when the request is over."""
    told: list[RequestRecord] = []
    recorder = Recorder(on_finish=told.append)

    record_of(lambda session: None, engine, recorder)

    assert tuple(told) == recorder.records
    assert recorder.gauges().finished == 1


@pytest.mark.parametrize("name", ["record_if", "on_begin", "on_finish", "server_timing"])
def test_a_failing_function_of_the_users_harms_no_request(name: str, engine: Engine, caplog: Any) -> None:
    """What a recorder was given to call, and raises, is logged by its name, and the request goes on."""

    def fails(_of_the_request: Any) -> Any:
        raise ValueError("no")

    recorder = Recorder(**{name: fails})  # type: ignore[arg-type]
    app = SessionMiddleware(streams, engine, recorder=recorder)  # type: ignore[arg-type]

    assert request(app).body == b"....."
    (logged,) = caplog.records
    assert logged.getMessage() == f"The hook {fails!r} of a recorder has failed."


def test_a_request_that_is_interrupted_as_it_begins_is_not_live(engine: Engine) -> None:
    """An interrupt while an `on_begin` runs ends the request, and leaves nothing of it."""
    recorder = Recorder(on_begin=lambda environ: signal.raise_signal(signal.SIGINT))  # type: ignore[arg-type,return-value]

    with pytest.raises(KeyboardInterrupt):
        request(SessionMiddleware(streams, engine, recorder=recorder))  # type: ignore[arg-type]

    assert recorder.live() == ()


class Unspeakable(str):
    """A value that has neither a hash nor a text."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Fail."""
        raise ValueError("no")


def test_a_fault_is_logged_once_and_harms_no_request(engine: Engine, recorder: Recorder, caplog: Any) -> None:
    """What raises in the recorder itself, such as a value that cannot be told from others, is logged once."""
    sent = []

    def work(session: SQLAlchemySession) -> None:
        sent.append(session.scalar(text("SELECT :word"), {"word": Unspeakable("ada")}))

    for _ in range(2):
        record_of(work, engine, recorder)

    assert sent == ["ada", "ada"]
    assert caplog.text.count("The recorder has failed in note()") == 1


FAULTS = {
    "Recorder._begin": "_recorder.Recording",
    "Recording.end": "_recording.Recording._is_odd",
    "PoolWatch._connect": "_pools.Hold",
    "PoolWatch._on_checkin": "_pools.PoolWatch._give_back",
    "_on_begin": "_listeners._whose.of_session",
    "_on_execute": "_sending.hear",
    "note": "_statements.shape_of",
}
"""What raises, by where that is seen."""


@pytest.mark.parametrize("place", FAULTS)
def test_a_fault_anywhere_in_the_recorder_harms_no_request(
    place: str, new_engine: Any, recorder: Recorder, monkeypatch: Any, caplog: Any
) -> None:
    """Wherever the recorder fails, the request goes on, and the log names the place."""

    def fail(*_args: object, **_kwargs: object) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(_fault, "_faulty", set())
    monkeypatch.setattr(f"wsgi_session.observe.{FAULTS[place]}", fail)
    sent = []

    def app(environ: Any, start_response: Any) -> Any:
        sent.append(environ[KEY].scalar(text("SELECT 1")))
        answer(start_response)
        return []

    request(SessionMiddleware(app, sessionmaker(new_engine()), recorder=recorder))

    assert sent == [1]
    assert f"The recorder has failed in {place}()" in caplog.text


def test_every_way_to_send_is_recorded(engine: Engine, recorder: Recorder) -> None:
    """Statements for many rows and those without parameters are recorded, also when they fail."""
    rows = [{"id": 1, "text": "ada"}, {"id": 2, "text": "bob"}]

    def work(session: SQLAlchemySession) -> None:
        insert = text("INSERT INTO word (id, text) VALUES (:id, :text)")
        plain = session.connection().execution_options(no_parameters=True)
        session.execute(insert, rows)
        plain.exec_driver_sql("SELECT 1")
        with pytest.raises(IntegrityError):
            session.execute(insert, rows)
        with pytest.raises(OperationalError):
            plain.exec_driver_sql("SELEC 1")

    record = record_of(work, engine, recorder)

    sent = record.statements[:4]
    assert [(one.kind, one.is_many, one.error is None) for one in sent] == [
        ("insert", True, True),
        ("select", False, True),
        ("insert", True, False),
        ("selec", False, False),
    ]
    assert all(one.duration > 0 for one in sent)


def test_a_thread_of_the_applications_own_has_lines(engine: Engine, recorder: Recorder) -> None:
    """A thread in which next to nothing else runs may send on a request's connection, and take one."""
    done = threading.Event()

    def work(session: SQLAlchemySession) -> None:
        connection = session.connection()

        def alone() -> None:
            sys.settrace(threading.gettrace())  # else coverage does not see this thread
            with suppress(Exception):
                connection.exec_driver_sql("SELECT 1")
                connection.rollback()
            with suppress(PoolTimeoutError):
                engine.pool.connect()
            done.set()

        _thread.start_new_thread(alone, ())
        assert done.wait(5)

    record = record_of(work, engine, recorder)

    assert str(record.statements[0].line).startswith("tests/test_observe.py:")


def test_a_thread_that_does_nothing_but_send(engine: Engine, recorder: Recorder) -> None:
    """It has no line of the application, and what it sends is recorded."""

    def work(session: SQLAlchemySession) -> None:
        connection = session.connection()
        done = threading.Event()
        event.listen(connection, "after_cursor_execute", lambda *of_the_event: done.set())
        _thread.start_new_thread(connection.exec_driver_sql, ("SELECT 1",))
        assert done.wait(5)

    assert kinds(record_of(work, engine, recorder))[0] == "select"


def test_a_line_of_code_that_only_looks_like_a_template(engine: Engine, recorder: Recorder) -> None:
    """What was compiled under the name of a template has no file: the line is that of who runs it."""
    code = compile("session.execute(statement)", "<template>", "exec")

    def work(session: SQLAlchemySession) -> None:
        exec(code, {"session": session, "statement": SELECT})

    record = record_of(work, engine, recorder)

    assert str(record.statements[0].line).startswith("tests/test_observe.py:")


def test_a_connection_that_is_thrown_away_where_no_statements_are_recorded(engine: Engine) -> None:
    """It is held no more, and nothing is said of its end."""
    recorder = Recorder()

    def work(session: SQLAlchemySession) -> None:
        session.connection().invalidate()

    record = record_of(work, engine, recorder)

    assert record.statements == ()
    assert gauges_of(engine, recorder).out == 0


def test_a_hook_of_a_recorded_request(engine: Engine, recorder: Recorder) -> None:
    """It runs when the session is closed, and the request is recorded."""
    told: list[Any] = []

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        current_scope().on_end(told.append)

    record = record_of(work, engine, recorder)

    assert kinds(record)[0] == "select"
    assert len(told) == 1


def test_a_connection_that_has_left_its_pool_is_still_its_requests(engine: Engine, recorder: Recorder) -> None:
    """What is sent on a connection after it was detached is recorded, and nobody holds anything."""

    def work(session: SQLAlchemySession) -> None:
        session.connection().detach()
        session.execute(SELECT)

    record = record_of(work, engine, recorder)

    assert [(one.kind, one.held_at) for one in record.statements] == [("select", None), ("end", None)]


def test_only_some_requests_are_recorded(engine: Engine) -> None:
    """A request that is not to be recorded leaves no trace."""
    recorder = Recorder(statements=True, record_if=lambda environ: environ["PATH_INFO"] == "/a")
    app = SessionMiddleware(streams, engine, recorder=recorder)  # type: ignore[arg-type]

    for path in ("/a", "/b"):
        request(app, path=path)

    assert [record.path for record in recorder.records] == ["/a"]


def test_memory_is_bounded(engine: Engine) -> None:
    """So many requests are kept, and so many statements of each; beyond, statements are counted."""
    recorder = Recorder(statements=True, keep=2, max_statements=3)

    def work(session: SQLAlchemySession) -> None:
        for _ in range(30):
            session.execute(SELECT)
            session.rollback()
            with pytest.raises(OperationalError):
                session.execute(text("SELECT nothing"))
            session.rollback()

    for _ in range(3):
        record = record_of(work, engine, recorder)

    assert len(recorder.records) == 2
    assert (len(record.statements), record.statement_count, record.ends) == (3, 60, 60)
    assert (len(record.connections), len(record.errors)) == (3, 20)
    assert record.is_truncated


def test_what_a_client_makes_long_is_cut(engine: Engine, recorder: Recorder) -> None:
    """Of a long method and a long path the beginnings are kept, wherever a request is named."""
    app = SessionMiddleware(streams, engine, recorder=recorder)  # type: ignore[arg-type]
    exchange = Exchange(app, "PUT" * 1000, "/words" * 10_000)
    exchange.step()
    (live,) = recorder.live()
    holders = recorder.holders()
    exchange.close()
    (record,) = recorder.records

    assert record.method == live.method == ("PUT" * 7)[:20] + "..."
    assert record.path == live.path == ("/words" * 100)[:500] + "..."
    assert max(map(len, (str(record), str(live), *holders))) < 1000


def test_names_of_errors_are_cut_and_have_no_text(engine: Engine, recorder: Recorder) -> None:
    """A code is a code: what a driver says instead, and a class with a long name, do not get into a record."""

    class CauseError(Exception):
        sqlstate = "password hunter2 is wrong"

    error = type("Error" * 100, (ValueError,), {"orig": CauseError()})

    def work(session: SQLAlchemySession) -> None:
        raise error

    with pytest.raises(ValueError):  # noqa: PT011
        record_of(work, engine, recorder)

    (name,) = recorder.records[0].errors
    assert name == ("Error" * 100)[:200] + "..."


def test_not_all_who_had_a_connection_are_kept(new_engine: Any, recorder: Recorder) -> None:
    """A request that found no connection has the twenty that were out for the longest."""
    engine = new_engine(pool_size=25, pool_timeout=0.01)
    with ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(engine.connect()).execute(SELECT)
        with pytest.raises(PoolTimeoutError):
            record_of(lambda session: session.execute(SELECT), engine, recorder)

    assert len(recorder.records[0].ran_dry or ()) == 20


def test_what_is_cleared_is_gone(engine: Engine, recorder: Recorder) -> None:
    """A recorder that is cleared keeps neither records nor what it knows of statements and files."""
    record_of(lambda session: session.execute(SELECT), engine, recorder)

    recorder.clear()

    assert recorder.records == ()
    assert _shapes._shapes == {}
    assert recorder._callers._names == {}
    assert record_of(lambda session: session.execute(SELECT), engine, recorder).statements[0].sql == "SELECT ?"


def test_files_are_remembered_within_bounds(engine: Engine, recorder: Recorder, monkeypatch: Any) -> None:
    """An application that goes on making code, with a name for each, is found in it, and not all of it is kept."""
    monkeypatch.setattr("wsgi_session.observe._callers._MAX_FILES", 20)

    def work(session: SQLAlchemySession) -> None:
        for number in range(100):
            code = compile("session.scalar(SELECT)", f"/made/{number}", "exec")
            exec(code, {"session": session, "SELECT": SELECT})

    record = record_of(work, engine, recorder)

    assert [one.line for one in record.statements[:100]] == [f"/made/{number}:1" for number in range(100)]
    assert len(recorder._callers._names) <= 20


@pytest.mark.parametrize(
    ("url", "label"),
    [
        (URL.create("sqlite", database="shop.db"), "sqlite:shop.db"),
        (URL.create("sqlite", database="file:/data/env=a/shop.db?key=hunter2"), "sqlite:file:/data/env=a/shop.db"),
        (URL.create("postgresql", "ada", "hunter2", "db1", 5432, "shop"), "postgresql:shop at db1:5432"),
        (URL.create("postgresql", database="shop", query={"host": ("a", "b")}), "postgresql:shop at a, b"),
        (URL.create("postgresql", database="shop"), "postgresql:shop"),
        (make_url("postgresql:///shop?password=hunter2&passfile=/hunter2"), "postgresql:shop"),
        (make_url("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter2"), "mssql:"),
        (URL.create("postgresql", database="dbname=shop password=hunter2"), "postgresql:..."),
        (URL.create("oracle", database="ada/hunter2@shop"), "oracle:..."),
        (URL.create("mssql", database="shop;PWD:hunter2"), "mssql:..."),
        (URL.create("mysql", database="shop" * 100), "mysql:" + ("shop" * 100)[:194] + "..."),
    ],
)
def test_no_engine_shows_its_password(url: URL, label: str) -> None:
    """An engine is named by its database, without anything that may be a password or says where one is."""
    assert label_of(SimpleNamespace(url=url, logging_name=None)) == label  # type: ignore[arg-type]


def test_a_working_directory_that_is_gone_blinds_nothing(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    """Where the folder that the process was started in is gone, files have their whole names, and all is recorded."""
    exec(compile("", "shop/made.py", "exec"))  # now, because coverage asks for the folder of a file, once
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    recorder = Recorder(statements=True)

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        code = compile("session.scalar(SELECT)", "shop/made.py", "exec")
        exec(code, {"session": session, "SELECT": SELECT})

    record = record_of(work, engine, recorder)

    assert [one.kind for one in record.statements] == ["select", "select", "end"]
    assert str(record.statements[0].line).startswith(f"{__file__}:")
    assert record.statements[1].line == "shop/made.py:1"


def test_arguments_are_checked() -> None:
    """What could not work is refused at once."""
    with pytest.raises(ValueError, match="keep=-1"):
        Recorder(keep=-1)
    with pytest.raises(TypeError, match="on_finish has to be callable"):
        Recorder(on_finish="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="recorder has to be a"):
        SessionMiddleware(streams, "sqlite://", recorder=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("poolclass", [NullPool, StaticPool, SingletonThreadPool])
def test_gauges_of_other_pools(new_engine: Any, recorder: Recorder, poolclass: Any) -> None:
    """Gauges are right for pools that count nothing themselves."""
    engine = new_engine(poolclass=poolclass)
    recorder.watch(engine)
    before = gauges_of(engine, recorder)
    seen: list[PoolGauges] = []

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        seen.append(gauges_of(engine, recorder))

    record_of(work, engine, recorder)
    (during,) = seen
    after = gauges_of(engine, recorder)

    assert (during.pool, during.open, during.out, during.waiting) == (poolclass.__name__, 1, 1, 0)
    assert (after.open, after.out, after.peak) == (0 if poolclass is NullPool else 1, 0, 1)
    assert after.checkouts - before.checkouts == 1
    assert after.held > before.held


def test_a_connection_that_a_thread_of_nobodys_takes(engine: Engine, recorder: Recorder, caplog: Any) -> None:
    """It is counted as any is, though no line of an application has asked for it."""
    recorder.watch(engine)
    before = gauges_of(engine, recorder)
    given_back = threading.Event()
    event.listen(engine, "checkin", lambda *of_the_event: given_back.set())

    threading.Thread(target=engine.pool.connect).start()  # and drops it

    assert given_back.wait(5)
    assert gauges_of(engine, recorder).checkouts - before.checkouts == 1
    assert caplog.records == []


def test_an_engine_that_threads_find_at_once_is_watched_once(recorder: Recorder, switching: None) -> None:
    """The first requests of a process may begin at the same time; each pool has one line of gauges all the same."""
    engines = [create_engine("sqlite://", logging_name=f"found at once {number}") for number in range(20)]
    barrier = threading.Barrier(4)

    def watch() -> None:
        for engine in engines:
            barrier.wait(20)
            recorder.watch(engine)

    threads = [threading.Thread(target=watch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    names = [one.engine for one in recorder.gauges().pools if one.engine.startswith("found at once")]
    assert names == [f"found at once {number}" for number in range(20)]


def test_gauges_follow_an_engine_that_is_disposed_of(engine: Engine, recorder: Recorder) -> None:
    """The pool that an engine has after `dispose()` is counted on; connections that are thrown away count no more."""

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        session.connection().invalidate()
        session.rollback()
        session.connection().detach()

    recorder.watch(engine)
    before = gauges_of(engine, recorder)
    record_of(work, engine, recorder)
    engine.dispose()
    record_of(lambda session: session.execute(SELECT), engine, recorder)
    after = gauges_of(engine, recorder)

    assert (after.size, after.open, after.out, after.timeouts) == (1, 1, 0, 0)
    assert after.checkouts - before.checkouts == 3


def test_another_tools_pool_is_left_in_its_place(tmp_path: Path, recorder: Recorder) -> None:
    """Where another tool has replaced how the pool gives connections, it is still asked."""
    engine = create_engine(f"sqlite:///{tmp_path}/other.db")
    calls: list[str] = []
    connect = engine.pool.connect
    engine.pool.connect = lambda: (calls.append("asked"), connect())[1]

    record = record_of(lambda session: session.execute(SELECT), engine, recorder)

    engine.dispose()

    assert calls == ["asked"]
    assert len(record.connections) == 1


def test_a_connection_that_is_taken_twice_is_one(new_engine: Any, recorder: Recorder) -> None:
    """Where a pool gives a thread the connection that it has already, it is counted once."""
    engine = new_engine(poolclass=SingletonThreadPool)

    def work(session: SQLAlchemySession) -> None:
        session.execute(SELECT)
        with engine.connect() as connection:
            connection.execute(SELECT)

    record = record_of(work, engine, recorder)

    assert (record.statement_count, len(record.connections)) == (2, 1)
    assert gauges_of(engine, recorder).out == 0


def test_a_child_process_has_none_of_its_parents_requests(new_engine: Any, recorder: Recorder) -> None:
    """In a child process no request is live, and no connection of its parent's is counted."""
    engine = new_engine(pool_size=2)
    app = SessionMiddleware(streams, engine, recorder=recorder)  # type: ignore[arg-type]
    exchange = Exchange(app)
    exchange.step()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests have left threads
        child = os.fork()
    if child == 0:  # pragma: no cover  # judged by its exit status
        inherited = (recorder.live(), gauges_of(engine, recorder).out)
        request(SessionMiddleware(streams, engine, recorder=recorder))  # type: ignore[arg-type]
        os._exit(0 if inherited == ((), 0) and recorder.records[-1].statement_count == 5 else 1)
    _, status = os.waitpid(child, 0)
    live = recorder.live()
    exchange.close()

    assert os.waitstatus_to_exitcode(status) == 0
    assert len(live) == 1
    assert live[0].connections != ()


def test_live_requests_are_named(engine: Engine, recorder: Recorder) -> None:
    """The requests that are not over are named, with what they hold; when they are over, they are not."""
    app = SessionMiddleware(streams, engine, recorder=recorder)  # type: ignore[arg-type]
    exchange = Exchange(app, "POST", "/a\nb")
    before = recorder.live()
    exchange.step()
    during = recorder.live()
    exchange.close()

    assert before[0].connections == ()
    assert (during[0].method, during[0].path) == ("POST", "/a\\nb")
    assert during[0].connections[0].age <= during[0].age
    assert recorder.live() == ()


def test_each_attempt_is_a_record_of_its_own(engine: Engine, recorder: Recorder) -> None:
    """A request that is repeated has a record for each attempt."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(SELECT)
        if not environ["retry.attempt"]:
            raise ValueError
        answer(start_response)
        return []

    recorded = SessionMiddleware(app, engine, recorder=recorder)
    request(RetryMiddleware(recorded, wait=0, is_retryable=lambda error: isinstance(error, ValueError)))

    assert [(one.attempt, one.statement_count, one.errors) for one in recorder.records] == [
        (0, 1, ("ValueError",)),
        (1, 1, ()),
    ]


def test_a_commit_that_fails_is_recorded(engine: Engine, recorder: Recorder) -> None:
    """The error of a COMMIT is recorded with its request, and what it did not commit is no finding."""

    def work(session: SQLAlchemySession) -> None:
        session.add(orphan())

    with pytest.raises(IntegrityError):
        record_of(work, engine, recorder, commit=on_success)

    assert recorder.records[0].errors == ("IntegrityError: IntegrityError SQLITE_CONSTRAINT_FOREIGNKEY",)
    assert found(recorder.records[0]) == []


def test_a_session_outside_of_requests_is_not_recorded(engine: Engine, recorder: Recorder) -> None:
    """What sessions do outside of requests belongs to none."""
    with SQLAlchemySession(engine) as session:
        add_words(session, "ada")
        session.commit()

    assert recorder.records == ()
    assert gauges_of(engine, recorder).held > 0


def test_an_error_of_nobodys_is_not_recorded(engine: Engine, recorder: Recorder) -> None:
    """An error outside of requests belongs to none."""
    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.execute(text("SELECT nothing"))

    assert recorder.records == ()


def test_a_status_that_is_none(engine: Engine, recorder: Recorder) -> None:
    """A status line without a number has none in the record; what becomes of the response is not the recorder's."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("fine", [])
        return []

    request(SessionMiddleware(app, engine, recorder=recorder))

    assert recorder.records[0].status is None


def test_a_failed_flush_is_over_when_the_next_begins(engine: Engine, recorder: Recorder) -> None:
    """Statements are told apart by the flush that sends them."""

    def work(session: SQLAlchemySession) -> None:
        for name in "ab":
            add_words(session, name)
            session.flush()
        session.execute(SELECT)

    record = record_of(work, engine, recorder, commit=on_success)

    assert [one.flush for one in record.statements] == [1, 2, None, None]


def test_loads_name_their_relationship(engine: Engine, recorder: Recorder) -> None:
    """What the ORM reads for itself says what for."""

    def work(session: SQLAlchemySession) -> None:
        add_words(session, "ada")
        session.commit()
        word = session.scalars(select(Word)).one()
        _ = word.letters
        session.commit()
        _ = word.text
        session.scalars(select(Word).options(selectinload(Word.letters))).all()

    record = record_of(work, engine, recorder)

    assert [(one.load.kind, one.load.name) for one in record.statements if one.load] == [
        ("lazy", "Word.letters"),
        ("column", "Word"),
        ("eager", "Word.letters"),
    ]


def test_a_common_table_expression_is_what_it_does(engine: Engine, recorder: Recorder) -> None:
    """A statement that begins with WITH is of the kind of what it writes, or a SELECT."""

    def work(session: SQLAlchemySession) -> None:
        session.execute(text("WITH one AS (SELECT 1) SELECT * FROM one"))
        session.execute(text("WITH one AS (SELECT 1) DELETE FROM word WHERE id IN (SELECT * FROM one)"))
        session.execute(text("PRAGMA user_version"))
        session.rollback()

    assert kinds(record_of(work, engine, recorder)) == ["select", "delete", "pragma", "rollback"]


def test_the_line_of_a_jinja2_template(engine: Engine, recorder: Recorder, tmp_path: Path) -> None:
    """A template that sends a statement is named by its own line, whether it has a file or not."""
    environment = Environment(loader=DictLoader({"words.html": "one\ntwo\n\n{{ send() }}"}))

    def work(session: SQLAlchemySession) -> None:
        environment.get_template("words.html").render(send=lambda: session.scalar(SELECT))

    def in_template(session: SQLAlchemySession) -> None:
        environment.get_template("words.html").render(send=Sends(session).send)

    record_of(work, engine, recorder)
    record = record_of(in_template, engine, Recorder(statements=True, skip=["tests/test_observe.py"]))

    assert str(recorder.records[0].statements[0].line).startswith("tests/test_observe.py:")
    assert record.statements[0].line == "words.html:4"


class Sends:
    """What is given to a template to send a statement with."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self) -> Any:
        """Send it."""
        return self._session.scalar(SELECT)


def test_the_line_of_a_mako_template(engine: Engine, tmp_path: Path) -> None:
    """A Mako template is named by its own line, too."""
    (tmp_path / "words.mako").write_text("one\ntwo\n\n${send()}\n")
    recorder = Recorder(statements=True, skip=["tests/test_observe.py"])

    def work(session: SQLAlchemySession) -> None:
        Template(filename=str(tmp_path / "words.mako")).render(send=Sends(session).send)

    record = record_of(work, engine, recorder)

    assert record.statements[0].line == f"{tmp_path}/words.mako:4"


def test_the_lines_of_templates_are_remembered_within_bounds(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    """What Mako has said of a line is kept, for it takes long to find out, but not without end."""
    monkeypatch.setattr("wsgi_session.observe._callers._MAX_LINES", 1)
    (tmp_path / "words.mako").write_text("${send()}\n${send()}\n")
    template = Template(filename=str(tmp_path / "words.mako"))
    recorder = Recorder(statements=True, skip=["tests/test_observe.py"])

    def work(session: SQLAlchemySession) -> None:
        for _ in range(2):
            template.render(send=Sends(session).send)

    record = record_of(work, engine, recorder)

    lines = [str(one.line).rpartition(":")[2] for one in record.statements if one.kind == "select"]
    assert lines == ["1", "2", "1", "2"]
