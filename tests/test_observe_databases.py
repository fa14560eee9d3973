"""The recorder on every database: what it says is right on PostgreSQL and MariaDB, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import sessionmaker

from tests import mariadb, postgresql
from tests.conflicts import Meeting, increment
from tests.drivers import needs_mariadb, needs_postgresql, with_every_driver
from tests.guarantees.test_all_databases import cut, on_every_database, on_every_server
from tests.helpers import Exchange, Letter, Word, add_words, answer, beside, request
from wsgi_session import RetryMiddleware, SessionMiddleware, on_success
from wsgi_session.observe import FindingKind, LiveRequest, Recorder, RequestRecord

KEY = "sqlalchemy.session"
SECRET = "s3cret"


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
    assert {finding.kind for finding in record.findings} <= {FindingKind.IDLE}  # a machine may be slow


@on_every_database
def test_many_rows_are_one_write(driver: str, engine_by: Callable[..., Engine], recorder: Recorder) -> None:
    """Rows that are passed as a list are no loop of writes, in however many statements SQLAlchemy sends them."""
    engine = engine_by(driver, insertmanyvalues_page_size=5)
    rows = [{"text": str(number)} for number in range(50)]

    def work(session: Any) -> None:
        session.execute(insert(Word), rows)
        session.scalars(insert(Word).returning(Word.id), rows).all()

    record = record_of(work, engine, recorder, commit=on_success)

    inserts = [one for one in record.statements if one.kind == "insert"]
    assert len(inserts) == 1 + 50 / 5
    assert all(one.is_many for one in inserts)
    assert record.commits == 1
    assert {found.kind for found in record.findings} <= {FindingKind.IDLE}  # on a busy machine


@with_every_driver
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

    code = {"sqlite": "SQLITE_CONSTRAINT_PRIMARYKEY", "postgresql": "23505", "mariadb": "1062"}
    (error,) = record.errors
    assert [one.error for one in record.statements if one.error] == [error]
    assert error.startswith("IntegrityError: ")
    assert error.endswith(f" {code[engine.dialect.name]}")
    assert SECRET not in repr(record)


@needs_mariadb
@pytest.mark.parametrize("driver", ["mariadb+pymysql"])
def test_an_error_of_the_driver_itself_has_no_code(engine: Engine, recorder: Recorder) -> None:
    """PyMySQL refuses some values, with a text where the number of an error would be, and the value in it."""
    with pytest.raises(ProgrammingError, match="nan can not be used"):
        record_of(lambda session: session.scalar(text("SELECT :number"), {"number": float("nan")}), engine, recorder)

    assert [one.error for one in recorder.records[0].statements if one.error] == ["ProgrammingError: ProgrammingError"]
    assert "nan" not in repr(recorder.records)


@needs_mariadb
@pytest.mark.parametrize("driver", ["mariadb+pymysql"])
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_transaction_in_two_phases_ends_once(ends: str, engine: Engine, recorder: Recorder) -> None:
    """The end of one in two phases is recorded as one, beside the statements that it takes."""

    def work(session: Any) -> None:
        add_words(session, "kept")
        session.flush()
        getattr(session, ends)()

    app = SessionMiddleware(app_of(work), sessionmaker(engine, twophase=True), recorder=recorder)
    request(app)
    (record,) = recorder.records

    assert (record.commits, record.rollbacks) == ((1, 0) if ends == "commit" else (0, 1))


@on_every_database
def test_savepoints_are_not_the_end(engine: Engine, recorder: Recorder) -> None:
    """A savepoint that is rolled back is no ROLLBACK, and what was written before it is committed."""

    def work(session: Any) -> None:
        add_words(session, "kept")
        session.flush()
        savepoint = session.begin_nested()
        session.execute(select(1))
        savepoint.rollback()

    record = record_of(work, engine, recorder, commit=on_success)

    assert (record.commits, record.rollbacks) == (1, 0)
    assert record.loss is None
    assert not record.is_truncated


@needs_postgresql
def test_a_select_whose_with_writes_is_a_write(postgresql_engine: Engine, recorder: Recorder) -> None:
    """What a common table expression has written, and nobody commits, is a finding as any other write."""
    ada = text("WITH one AS (INSERT INTO word (text) VALUES ('ada') RETURNING id) SELECT id FROM one")

    record = record_of(lambda session: session.execute(ada), postgresql_engine, recorder)

    assert kinds(record) == ["insert", "rollback"]
    assert [finding.kind for finding in record.findings] == [FindingKind.UNCOMMITTED]


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
def test_who_waits_has_waited_while_the_other_held(
    driver: str, engine_by: Callable[..., Engine], recorder: Recorder
) -> None:
    """On a pool of one the second request waits about as long as the first holds the connection."""
    has_it, may_go = threading.Event(), threading.Event()

    def work(session: Any) -> None:
        session.execute(text("SELECT 1"))
        if not has_it.is_set():
            has_it.set()
            assert may_go.wait(20)

    app = SessionMiddleware(app_of(work), sessionmaker(engine_by(driver, pool_timeout=20)), recorder=recorder)
    with ThreadPoolExecutor() as threads:
        holder = threads.submit(request, app, path="/holder")
        assert has_it.wait(20)
        waiter = threads.submit(request, app, path="/waiter")
        while not waiter.done() and not has_waited_nearly_as_long(recorder):
            pass
        may_go.set()
        holder.result(20)
        waiter.result(20)

    held, waited = sorted(recorder.records, key=lambda record: record.path)
    assert waited.waited > NEARLY * held.held
    assert waited.waited + waited.held <= waited.duration
    assert waited.ran_dry is None


NEARLY = 0.9


def has_waited_nearly_as_long(recorder: Recorder) -> bool:
    """Say whether one request has waited for most of the time for which the other has held a connection."""
    live = recorder.live()
    waiting = max((one.waiting or 0 for one in live), default=0)
    return waiting > NEARLY * max(connection.age for one in live for connection in one.connections)


@on_every_server
def test_another_thread_of_a_request(driver: str, engine_by: Callable[..., Engine], recorder: Recorder) -> None:
    """What a thread sends with the request's session, or with the engine in its context, is the request's."""
    engine = engine_by(driver, pool_size=2)

    def send() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 2"))

    def work(session: Any) -> None:
        with ThreadPoolExecutor() as threads:
            threads.submit(session.execute, text("SELECT 1")).result(20)
            threads.submit(copy_context().run, send).result(20)

    record = record_of(work, engine, recorder)

    assert kinds(record) == ["select", "select", "end", "end"]
    assert len(record.connections) == 2


@on_every_database
def test_a_statement_that_fails(engine: Engine, recorder: Recorder) -> None:
    """It is recorded with its error and without rows, and the request that fails with it is rolled back."""

    def work(session: Any) -> None:
        add_words(session, "lost")
        session.flush()
        session.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(DBAPIError):
        record_of(work, engine, recorder, commit=on_success)

    (record,) = recorder.records
    assert kinds(record) == ["insert", "select", "rollback"]
    assert [(one.error is None, one.rowcount) for one in record.statements][1] == (False, None)
    assert (record.commits, record.rollbacks, record.loss) == (0, 1, None)


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

    assert len(recorder.records) == 2
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
    assert kinds(record) == ["select", "end"]
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


@pytest.mark.parametrize(
    "new_server",
    [
        pytest.param(postgresql.server, marks=pytest.mark.system("postgresql-server"), id="postgresql"),
        pytest.param(mariadb.server, marks=pytest.mark.system("mariadb-server"), id="mariadb"),
    ],
)
def test_a_connection_that_is_cut_is_an_error_and_no_hold(new_server: Any, recorder: Recorder) -> None:
    """Who is cut off by the server has an error, and from then on holds nothing."""
    after: list[LiveRequest] = []

    def work(session: Any) -> None:
        cut(session)
        with suppress(DBAPIError):
            session.execute(text("SELECT 1"))
        after.extend(recorder.live())

    with new_server() as server:
        engine = create_engine(server.url)
        record = record_of(work, engine, recorder)
        engine.dispose()

    (error,) = record.errors
    assert error.startswith("OperationalError: ")
    assert [live.connections for live in after] == [()]
    assert len(record.connections) == 2  # the one that was cut, and the one that has cut it


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
    with ThreadPoolExecutor() as threads:
        for answered in [threads.submit(request, wrapped) for _ in range(2)]:
            answered.result(20)

    assert sorted(record.attempt for record in recorder.records) == [0, 0, 1]
    (conflict,) = [error for record in recorder.records for error in record.errors]
    assert "40001" in conflict
