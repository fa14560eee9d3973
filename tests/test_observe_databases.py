"""The recorder on every database: what it says is right on PostgreSQL and MariaDB, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import sessionmaker

from tests.conflicts import Meeting, increment
from tests.helpers import Exchange, Letter, Word, add_words, answer, beside, request
from wsgi_session import RetryMiddleware, SessionMiddleware, on_success
from wsgi_session.observe import FindingKind, Recorder, RequestRecord

KEY = "sqlalchemy.session"
SECRET = "s3cret"

needs_postgresql = pytest.mark.system("postgresql")
SERVERS = [
    pytest.param("postgresql+psycopg", marks=needs_postgresql),
    pytest.param("mariadb+pymysql", marks=pytest.mark.system("mariadb")),
]
on_every_database = pytest.mark.parametrize("driver", ["sqlite", *SERVERS])
on_every_server = pytest.mark.parametrize("driver", SERVERS)


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one, by the driver of the test."""
    return engine_by(driver)


@pytest.fixture
def recorder() -> Recorder:
    """Return a recorder of statements."""
    return Recorder(statements=True)


def app_of(work: Callable[[Any], object]) -> Any:
    """Return an application that does *work* with its session."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        work(environ[KEY])
        answer(start_response)
        return [b""]

    return app


def record_of(work: Callable[[Any], object], engine: Engine, recorder: Recorder, **options: Any) -> RequestRecord:
    """Do *work* with the session of a request, and return what was recorded of it."""
    request(SessionMiddleware(app_of(work), sessionmaker(engine), recorder=recorder, **options))
    return recorder.records[-1]


def kinds(record: RequestRecord) -> list[str]:
    """List the kinds of statements of a record."""
    return [one.kind for one in record.statements]


@on_every_database
def test_statements_are_named_and_counted(engine: Engine, recorder: Recorder) -> None:
    """Each has its kind, the rows that it has changed, and the line that has sent it; so has COMMIT."""

    def work(session: Any) -> None:
        session.add(Word(id=1, text="a"))
        session.flush()
        session.execute(update(Word).values(text="b"))
        session.commit()

    record = record_of(work, engine, recorder)

    assert kinds(record) == ["insert", "update", "commit"]
    assert [one.rowcount for one in record.statements[:2]] == [1, 1]
    assert record.commits == 1
    assert all("test_observe_databases.py" in str(one.line) for one in record.statements)
    assert record.findings == ()


@on_every_database
def test_many_rows_are_one_write(engine: Engine, recorder: Recorder) -> None:
    """What SQLAlchemy sends for many rows at once is no loop of writes."""
    record = record_of(
        lambda session: session.execute(insert(Word), [{"text": str(number)} for number in range(50)]),
        engine,
        recorder,
        commit=on_success,
    )

    assert kinds(record)[-1] == "commit"
    assert all(one.is_many for one in record.statements if one.kind == "insert")
    assert record.findings == ()


@on_every_database
def test_an_error_has_a_code_and_no_value(engine: Engine, recorder: Recorder) -> None:
    """The text of an error has values in it, as PostgreSQL's DETAIL has, so only classes and codes are kept."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE person (name VARCHAR(50) PRIMARY KEY)"))
    try:

        def work(session: Any) -> None:
            statement = text("INSERT INTO person (name) VALUES (:name)")
            session.execute(statement, {"name": SECRET})
            with suppress(IntegrityError), session.begin_nested():
                session.execute(statement, {"name": SECRET})

        record = record_of(work, engine, recorder)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE person"))

    code = {"sqlite": "SQLITE_CONSTRAINT_PRIMARYKEY", "postgresql": "23505", "mysql": "1062", "mariadb": "1062"}
    assert [one.error for one in record.statements if one.error] == list(record.errors)
    assert code[engine.dialect.name] in record.errors[0]
    assert "IntegrityError" in record.errors[0]
    assert SECRET not in repr(record)


@on_every_database
def test_savepoints_are_not_the_end(engine: Engine, recorder: Recorder) -> None:
    """A savepoint that is rolled back is no ROLLBACK, and what was written before it is committed."""

    def work(session: Any) -> None:
        add_words(session, "kept")
        session.flush()
        session.begin_nested().rollback()

    record = record_of(work, engine, recorder, commit=on_success)

    assert (record.commits, record.rollbacks) == (1, 0)
    assert record.uncommitted is None


@on_every_database
def test_lazy_loads_are_found(engine: Engine, recorder: Recorder) -> None:
    """An N+1 is found by its relationship, with the option that cures it."""
    with engine.begin() as connection:
        connection.execute(insert(Word), [{"id": number, "text": "w"} for number in range(1, 5)])
        connection.execute(insert(Letter), [{"word_id": number} for number in range(1, 5)])

    record = record_of(lambda session: [word.letters for word in session.scalars(select(Word))], engine, recorder)

    (finding,) = record.findings
    assert finding.kind is FindingKind.LAZY_LOADS
    assert (finding.subject, finding.count) == ("Word.letters", 4)
    assert "selectinload(Word.letters)" in finding.cure


@on_every_server
def test_who_waits_has_waited_while_the_other_held(engine: Engine, recorder: Recorder) -> None:
    """On a pool of one the second request waits, and no longer than the first has held the connection."""
    has_it, may_go = threading.Event(), threading.Event()

    def work(session: Any) -> None:
        session.execute(text("SELECT 1"))
        if not has_it.is_set():
            has_it.set()
            assert may_go.wait(20)

    app = SessionMiddleware(app_of(work), sessionmaker(engine), recorder=recorder)
    threads = [threading.Thread(target=request, args=(app, "GET", path)) for path in ("/first", "/second")]
    threads[0].start()
    assert has_it.wait(20)
    threads[1].start()
    while not any(one.waiting for one in recorder.live()):
        pass
    may_go.set()
    for thread in threads:
        thread.join(20)

    first, second = sorted(recorder.records, key=lambda record: record.path)
    assert 0 < second.waited < first.held
    assert first.waited < second.waited


@on_every_server
def test_a_dry_pool_names_who_has_it(driver: str, engine_by: Callable[..., Engine], recorder: Recorder) -> None:
    """Who finds no connection is told of the request that has the last one, and since which line."""
    engine = engine_by(driver, pool_timeout=0.05)
    app = app_of(lambda session: session.execute(text("SELECT 1")))

    def holder(environ: Any, start_response: Any) -> list[bytes]:
        environ[KEY].execute(text("SELECT 1"))
        with pytest.raises(PoolTimeoutError):
            request(SessionMiddleware(app, sessionmaker(engine), recorder=recorder), path="/dry")
        answer(start_response)
        return [b""]

    request(SessionMiddleware(holder, sessionmaker(engine), recorder=recorder), path="/holder")

    dry = recorder.records[0]
    assert dry.path == "/dry"
    assert dry.ran_dry is not None
    assert "GET /holder" in dry.ran_dry[0]
    assert "test_observe_databases.py" in dry.ran_dry[0]
    assert [finding.kind for finding in dry.findings] == [FindingKind.DRY]


@on_every_server
def test_bodies_in_turn_have_their_own_statements(
    driver: str, engine_by: Callable[..., Engine], recorder: Recorder
) -> None:
    """Two streams on one thread, each with its own connection, and each by the engine itself, are not mixed up."""
    engine = engine_by(driver, pool_size=4)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        name = environ["PATH_INFO"].strip("/")
        for _ in range(3):
            environ[KEY].execute(text(f"SELECT 1 AS {name}"))
            with engine.connect() as connection:
                connection.execute(text(f"SELECT 2 AS {name}"))
            yield name.encode()

    wrapped = SessionMiddleware(app, sessionmaker(engine), recorder=recorder)
    streams = [Exchange(wrapped, path=path) for path in ("/mine", "/yours")]
    for _ in range(3):
        for stream in streams:
            stream.step()
    for stream in streams:
        stream.read().close()

    for record in recorder.records:
        read = [one.sql for one in record.statements if one.kind == "select"]
        assert read == [f"SELECT ? AS {record.path.strip('/')}"] * 6


@on_every_server
def test_rows_that_are_streamed_hold_their_connection(engine: Engine, recorder: Recorder) -> None:
    """A server-side cursor is one statement, and the connection is held until the body has ended."""
    with engine.begin() as connection:
        connection.execute(insert(Word), [{"text": str(number)} for number in range(20)])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        for word in environ[KEY].scalars(select(Word).execution_options(yield_per=5)):
            yield word.text.encode()

    stream = Exchange(SessionMiddleware(app, sessionmaker(engine), recorder=recorder))
    stream.step()
    (live,) = recorder.live()
    stream.read().close()

    assert len(live.connections) == 1
    record = recorder.records[-1]
    assert kinds(record) == ["select", "rollback"]
    assert record.held >= live.connections[0].age


@on_every_server
def test_a_pool_that_keeps_nothing_has_gauges(engine: Engine, recorder: Recorder) -> None:
    """Connections without a pool are counted, too, while they are out and when they are gone."""
    engine = beside(engine)
    inside: list[int] = []

    def work(session: Any) -> None:
        session.execute(text("SELECT 1"))
        inside.extend(pool.out for pool in recorder.gauges().pools if pool.pool == "NullPool")

    record_of(work, engine, recorder)

    outside = [pool.out for pool in recorder.gauges().pools if pool.pool == "NullPool"]
    assert sum(inside) == 1
    assert sum(outside) == 0


@on_every_server
def test_a_connection_that_is_cut_is_an_error_and_no_hold(engine: Engine, recorder: Recorder) -> None:
    """Who is cut off by the server has an error, and nothing is held any more."""
    number, kill = {
        "postgresql": ("pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
        "mariadb": ("connection_id()", "KILL {}"),
    }[engine.dialect.name]

    def work(session: Any) -> None:
        found = session.scalar(text(f"SELECT {number}"))
        with beside(engine).connect() as connection:
            connection.execute(text(kill.format(found)))
        with suppress(DBAPIError):
            session.execute(text("SELECT 1"))

    record = record_of(work, engine, recorder)

    assert "OperationalError" in record.errors[0]
    assert len(record.connections) == 2  # the one that was cut, and the one that has cut it
    assert not any("GET /" in holder for holder in recorder.holders())


@needs_postgresql
@pytest.mark.parametrize("driver", ["postgresql+psycopg"])
def test_each_attempt_is_recorded(driver: str, engine_by: Callable[..., Engine], recorder: Recorder) -> None:
    """Of two requests that meet, one is repeated: that makes three records, and the code of the conflict."""
    engine = engine_by(driver, pool_size=2, isolation_level="SERIALIZABLE")
    with engine.begin() as connection:
        connection.execute(insert(Word).values(id=1, text="0"))
    meeting = Meeting()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        increment(environ[KEY], 1)
        meeting.wait(environ["retry.attempt"])
        answer(start_response)
        return [b""]

    wrapped = RetryMiddleware(SessionMiddleware(app, sessionmaker(engine), commit=on_success, recorder=recorder))
    threads = [threading.Thread(target=request, args=(wrapped,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(record.attempt for record in recorder.records) == [0, 0, 1]
    (conflict,) = [error for record in recorder.records for error in record.errors]
    assert "40001" in conflict
