"""What holds on every database: SQLite, PostgreSQL and MariaDB; the exits and the failed COMMIT with every driver."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, literal, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from tests import mariadb, postgresql
from tests.drivers import MARIADB, POSTGRESQL, needs_mariadb, needs_postgresql, with_every_driver
from tests.helpers import (
    Base,
    Exchange,
    Word,
    add_words,
    all_words,
    answer,
    beside,
    is_clean,
    new_environ,
    orphan,
    request,
    words,
)
from wsgi_session import (
    PartialCommitError,
    PendingChangesError,
    RequestScopedSession,
    SessionMiddleware,
    current_scope,
    on_success,
    on_unsafe_success,
    session_scope,
)

KEY = "sqlalchemy.session"

SERVERS = [POSTGRESQL[0], MARIADB[0]]
DATABASES = ["sqlite", *SERVERS]

on_every_database = pytest.mark.parametrize("driver", DATABASES)
on_every_server = pytest.mark.parametrize("driver", SERVERS)


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one, by the driver of the test."""
    return engine_by(driver)


def write(environ: Any, start_response: Any) -> list[bytes]:
    """Add the path as a word, as the next request does after one that is of interest."""
    add_words(environ[KEY], environ["PATH_INFO"])
    answer(start_response)
    return [b"written"]


def assert_the_next_is_right(engine: Engine, *before: str) -> None:
    """Assert that *before* is all there is, and that another request writes and adds nothing else to it."""
    assert is_clean(engine)
    assert words(engine) == [*before]
    request(SessionMiddleware(write, sessionmaker(engine), commit=on_success), "POST", "/next")
    assert is_clean(engine)
    assert words(engine) == [*before, "/next"]


def database_of(driver: str) -> str:
    """Return the database that *driver* speaks to."""
    return driver.partition("+")[0]


def cut(session: Any) -> None:
    """Have the server cut the connection of *session*, as it does when it is restarted."""
    engine = session.get_bind()
    number, kill = {
        "postgresql": ("pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
        "mariadb": ("connection_id()", "KILL {}"),
    }[engine.dialect.name]
    found = session.scalar(text(f"SELECT {number}"))
    with beside(engine).connect() as connection:
        connection.execute(text(kill.format(found)))


# Exits, with every driver


def reads(exchange: Exchange) -> None:
    """Read the response to its end."""
    exchange.read().close()


def leaves(exchange: Exchange) -> None:
    """Leave half-way."""
    exchange.step()
    exchange.step()
    exchange.close()


def never_reads(exchange: Exchange) -> None:
    """Close the response before its first chunk."""
    exchange.close()


def drops(exchange: Exchange) -> None:
    """Forget the response half-way, as some servers do."""
    exchange.step()
    exchange.step()
    with pytest.warns(ResourceWarning, match="never closed"):
        exchange.drop()


@with_every_driver
@pytest.mark.parametrize("leave", [reads, leaves, never_reads, drops], ids=lambda leave: leave.__name__)
def test_a_stream_that_is_left(leave: Any, engine: Engine) -> None:
    """What the handler wrote is committed, what the body wrote is not, and the connection is back and clean."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "of the handler")
        answer(start_response)

        def body() -> Iterator[bytes]:
            yield b"1"
            add_words(environ[KEY], "of the body")
            environ[KEY].flush()
            yield b"2"
            yield b"3"

        return body()

    leave(Exchange(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST"))

    assert_the_next_is_right(engine, "of the handler")


@with_every_driver
@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_handler_that_fails(error: type[BaseException], engine: Engine) -> None:
    """Nothing of it is there, flushed or not, and the error goes on."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "flushed")
        environ[KEY].flush()
        add_words(environ[KEY], "pending")
        raise error

    with pytest.raises(error):
        request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")

    assert_the_next_is_right(engine)


@with_every_driver
@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_body_that_fails(error: type[BaseException], engine: Engine) -> None:
    """What was committed before the first byte stays, and the connection is back before `close()`."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        add_words(environ[KEY], "of the handler")
        answer(start_response)
        yield b"1"
        add_words(environ[KEY], "of the body")
        environ[KEY].flush()
        raise error

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")
    with pytest.raises(error):
        exchange.read()
    is_back = is_clean(engine)
    exchange.close()

    assert is_back
    assert_the_next_is_right(engine, "of the handler")


@with_every_driver
def test_a_statement_that_fails(engine: Engine) -> None:
    """The transaction that a failed statement has broken is not the next request's."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "before")
        environ[KEY].flush()
        environ[KEY].execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(DBAPIError):
        request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")

    assert_the_next_is_right(engine)


# COMMIT, with every driver


@with_every_driver
@pytest.mark.parametrize("shape", [list, iter], ids=["list", "iterator"])
def test_the_row_is_there_before_the_status(shape: Any, engine: Engine) -> None:
    """When the server is told of a success, every other connection sees what was committed."""
    seen: list[list[str]] = []

    def app(environ: Any, start_response: Any) -> Any:
        return shape(write(environ, start_response))

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        seen.append(words(engine))

    response: Any = SessionMiddleware(app, sessionmaker(engine), commit=on_success)(
        new_environ("POST", "/a"), start_response
    )
    getattr(response, "close", list)()

    assert seen == [["/a"]]
    assert_the_next_is_right(engine, "/a")


def refused(session: Any) -> None:
    """Have COMMIT find that a constraint does not hold."""
    session.add(orphan())


REFUSED = {"sqlite": refused, "postgresql": refused, "mariadb": cut}
"""What makes COMMIT fail: MariaDB checks every constraint at once, so there the connection is cut."""


@with_every_driver
@pytest.mark.parametrize("shape", [list, iter], ids=["list", "iterator"])
def test_a_commit_that_fails(shape: Any, driver: str, engine: Engine) -> None:
    """Nothing is sent, the error leaves the middleware, and the next request commits nothing of it."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "failed")
        environ[KEY].flush()
        REFUSED[database_of(driver)](environ[KEY])
        answer(start_response)
        return shape([b"x"])

    log: list[str] = []
    with pytest.raises(DBAPIError):
        Exchange(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST", log=log)

    assert log == []
    assert_the_next_is_right(engine)


@with_every_driver
def test_a_commit_of_the_applications_that_fails(driver: str, engine: Engine) -> None:
    """An application that catches the error and closes its session itself leaves no more than one that does not."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "failed")
        environ[KEY].flush()
        REFUSED[database_of(driver)](environ[KEY])
        with pytest.raises(DBAPIError), environ[KEY] as session:
            session.commit()
        answer(start_response, "409 Conflict")
        return [b"x"]

    request(SessionMiddleware(app, sessionmaker(engine)), "POST")

    assert_the_next_is_right(engine)


@pytest.mark.system("mariadb-server")
def test_a_commit_that_mariadb_refuses() -> None:
    """A server that has become read-only refuses the COMMIT of what was written before; nothing of it stays."""
    with mariadb.server() as server:
        root = create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with root.connect() as connection:
            connection.execute(text("CREATE USER app@127.0.0.1"))  # root may write nevertheless
            connection.execute(text("CREATE DATABASE words"))
            connection.execute(text("GRANT ALL ON words.* TO app@127.0.0.1"))
        engine = create_engine(server.url.set(username="app", database="words"), pool_size=1, max_overflow=0)
        Base.metadata.create_all(engine)

        def read_only(value: int) -> None:
            with root.connect() as connection:
                connection.execute(text(f"SET GLOBAL read_only = {value}"))

        def app(environ: Any, start_response: Any) -> Any:
            add_words(environ[KEY], "failed")
            environ[KEY].flush()
            read_only(1)
            answer(start_response)
            return [b"x"]

        with pytest.raises(OperationalError, match="read-only"):
            request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")
        read_only(0)

        assert_the_next_is_right(engine)
        engine.dispose()


@pytest.mark.parametrize(
    "new_server",
    [
        pytest.param(postgresql.server, marks=pytest.mark.system("postgresql-server"), id="postgresql"),
        pytest.param(mariadb.server, marks=pytest.mark.system("mariadb-server"), id="mariadb"),
    ],
)
def test_a_server_that_crashes(new_server: Any) -> None:
    """No success is sent for what the server lost, and when it is back the application is, too."""
    with new_server() as server:
        engine = create_engine(server.url, pool_size=1, max_overflow=0)
        Base.metadata.create_all(engine)

        def app(environ: Any, start_response: Any) -> Any:
            add_words(environ[KEY], "lost")
            environ[KEY].flush()
            server.crash()
            answer(start_response)
            return [b"x"]

        log: list[str] = []
        with pytest.raises(DBAPIError):
            Exchange(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST", log=log)
        server.start()

        assert log == []
        assert_the_next_is_right(engine)
        engine.dispose()


# Outcomes


@on_every_database
@pytest.mark.parametrize("status", ["200 OK", "303 See Other", "404 Not Found", "500 Internal Server Error"])
def test_the_rule_decides(status: str, engine: Engine) -> None:
    """A success is committed, and an error status is rolled back."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        environ[KEY].flush()
        answer(start_response, status)
        return [b"x"]

    request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")

    assert_the_next_is_right(engine, *(["x"] if status < "4" else []))


@on_every_database
def test_a_doomed_request(engine: Engine) -> None:
    """It is rolled back, whatever its status."""

    def app(environ: Any, start_response: Any) -> Any:
        current_scope().doom()
        return write(environ, start_response)

    request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")

    assert_the_next_is_right(engine)


@on_every_database
def test_a_savepoint_is_the_applications(engine: Engine) -> None:
    """What a savepoint took back is gone, and the rest of the request is committed."""

    def app(environ: Any, start_response: Any) -> Any:
        session = environ[KEY]
        add_words(session, "kept")
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Word(id=session.scalars(select(Word.id)).one(), text="again"))
        answer(start_response)
        return [b"x"]

    request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")

    assert_the_next_is_right(engine, "kept")


@on_every_database
def test_a_request_sees_what_the_one_before_it_did_not(engine: Engine) -> None:
    """No request reads in the snapshot of another, and none goes on in its own after `release()`."""
    seen: list[list[str]] = []

    def app(environ: Any, start_response: Any) -> Any:
        for _ in range(2):
            seen.append(all_words(environ[KEY]))
            current_scope().release()
            with session_scope(RequestScopedSession(sessionmaker(beside(engine)))) as session:
                add_words(session, "x")
        answer(start_response)
        return [b"x"]

    for _ in range(2):
        request(SessionMiddleware(app, sessionmaker(engine)))

    assert [len(found) for found in seen] == [0, 1, 2, 3]


# A BaseException


@on_every_database
def test_a_base_exception_costs_its_connection(engine: Engine) -> None:
    """The connection that a worker's timeout has struck is not used again; that of an error is."""
    connects: list[object] = []
    event.listen(engine, "connect", lambda connection, record: connects.append(connection))

    def app(environ: Any, start_response: Any) -> Any:
        all_words(environ[KEY])
        raise {"/error": ValueError, "/timeout": SystemExit}[environ["PATH_INFO"]]

    numbers = []
    for path, error in (("/error", ValueError), ("/timeout", SystemExit)):
        with pytest.raises(error):
            request(SessionMiddleware(app, sessionmaker(engine)), path=path)
        request(SessionMiddleware(write, sessionmaker(engine), commit=on_success))
        numbers.append(len(connects))

    assert numbers == [0, 1]
    assert_the_next_is_right(engine, "/", "/")


@on_every_server
def test_a_base_exception_in_the_middle_of_a_statement(driver: str, engine: Engine) -> None:
    """The next request reads the answer to its own statement, not to the one that was cut short."""
    sleep = {"postgresql": "SELECT pg_sleep(5)", "mariadb": "SELECT SLEEP(5)"}[database_of(driver)]
    answers: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/slow":
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            environ[KEY].scalar(text(sleep))
        answers.append(environ[KEY].scalar(select(literal("my own"))))
        answer(start_response)
        return [b"x"]

    def time_out(*of_the_signal: Any) -> None:
        raise SystemExit

    app = SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success)
    before = signal.signal(signal.SIGALRM, time_out)
    try:
        with pytest.raises(SystemExit):
            request(app, path="/slow")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    request(app)

    assert answers == ["my own"]
    assert_the_next_is_right(engine)


# Release


@on_every_database
def test_release_in_mid_request(engine: Engine) -> None:
    """Another request has the connection, of a pool of one, and the objects stay readable without it."""
    Session = RequestScopedSession(sessionmaker(engine))
    other = SessionMiddleware(write, sessionmaker(engine), commit=on_success)
    with session_scope(Session):
        add_words(Session, "a")

    def app(environ: Any, start_response: Any) -> Any:
        word = environ[KEY].scalars(select(Word)).one()
        current_scope().release()
        request(other, path="/b")
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert word.text == "a"
        word.text = "c"
        answer(start_response)
        return [b"x"]

    request(SessionMiddleware(app, Session, commit=on_success))

    assert_the_next_is_right(engine, "c", "/b")


@on_every_database
def test_release_loses_nothing(engine: Engine) -> None:
    """What was flushed is not in the session's lists any more; it is refused nevertheless, and committed later."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        environ[KEY].flush()
        with pytest.raises(PendingChangesError):
            current_scope().release()
        answer(start_response)
        return [b"x"]

    request(SessionMiddleware(app, sessionmaker(engine), commit=on_success))

    assert_the_next_is_right(engine, "x")


# Nesting


@on_every_database
def test_a_request_within_a_request(driver: str, engine_by: Callable[..., Engine]) -> None:
    """It has a session and a connection of its own: it is committed, while the outer one is rolled back."""
    engine = engine_by(driver, pool_size=2)
    Session: Any = RequestScopedSession(sessionmaker(engine))
    connections: list[object] = []

    def connection() -> object:
        return Session.connection().connection.driver_connection

    def inner(environ: Any, start_response: Any) -> Any:
        connections.append(connection())
        return write(environ, start_response)

    def outer(environ: Any, start_response: Any) -> Any:
        connections.append(connection())
        request(SessionMiddleware(inner, Session, commit=on_success), path="/inner")
        connections.append(connection())
        add_words(Session, "outer")
        Session.flush()
        raise ValueError("outer")

    with pytest.raises(ValueError, match="outer"):
        request(SessionMiddleware(outer, Session, commit=on_success))

    assert connections[0] is connections[2]
    assert connections[0] is not connections[1]
    assert_the_next_is_right(engine, "/inner")


@on_every_database
def test_a_block_within_a_request(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A `session_scope` block commits for itself, and the request goes on in its own transaction."""
    engine = engine_by(driver, pool_size=2)
    Session: Any = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Any:
        all_words(Session)
        with session_scope(Session) as audit:
            add_words(audit, "tried")
        assert Session() is environ[KEY]
        add_words(Session, "done")
        answer(start_response, "500 Internal Server Error")
        return [b"x"]

    request(SessionMiddleware(app, Session, commit=on_success))

    assert_the_next_is_right(engine, "tried")


@needs_postgresql
@needs_mariadb
@pytest.mark.parametrize("own", ["postgresql", "mariadb"])
def test_two_databases_in_one_request(own: str, postgresql_engine: Engine, mariadb_engine: Engine) -> None:
    """The request's own database is committed last, so that one which refuses is told from one that is half done."""
    first, last = sorted([postgresql_engine, mariadb_engine], key=lambda engine: engine.dialect.name == own)
    Own, Other = (RequestScopedSession(sessionmaker(engine)) for engine in (last, first))

    def app(environ: Any, start_response: Any) -> Any:
        for session in (Own, Other):
            add_words(session, "x")
        (Own if own == "postgresql" else Other).add(orphan() if environ["PATH_INFO"] == "/refused" else Word(text="y"))
        Own.flush()
        answer(start_response)
        return [b"x"]

    def committed() -> list[list[str]]:
        return [words(postgresql_engine), words(mariadb_engine)]

    app = SessionMiddleware(app, Own, commit=on_success)
    with pytest.raises(PartialCommitError if own == "postgresql" else IntegrityError):
        request(app, path="/refused")
    after_the_failure = committed()
    request(app)

    assert after_the_failure == ([[], ["x"]] if own == "postgresql" else [[], []])
    assert committed()[0] == ["x", "y"]
    assert is_clean(postgresql_engine)
    assert is_clean(mariadb_engine)


# Streams


@on_every_database
@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")  # psycopg, of a cursor left open
@pytest.mark.parametrize("leave", [reads, leaves, never_reads, drops], ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("opened_in", ["handler", "body"])
def test_a_stream_of_rows(opened_in: str, leave: Any, engine: Engine) -> None:
    """A server-side cursor is read to its end by the body, under a rule, or left, and the connection is as good."""
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        add_words(session, *(str(number) for number in range(100)))
    before = words(engine)

    def app(environ: Any, start_response: Any) -> Any:
        def rows() -> Iterator[str]:
            return iter(environ[KEY].scalars(select(Word.text).order_by(Word.id).execution_options(yield_per=10)))

        found = rows() if opened_in == "handler" else None
        answer(start_response)

        def body() -> Iterator[bytes]:
            for row in found or rows():
                yield row.encode()

        return body()

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success))
    leave(exchange)

    assert exchange.chunks == [row.encode() for row in before][: len(exchange.chunks)]
    assert len(exchange.chunks) == {reads: 100, leaves: 2, never_reads: 0, drops: 2}[leave]
    assert_the_next_is_right(engine, *before)


@on_every_server
def test_a_connection_that_is_cut_in_mid_stream(engine: Engine) -> None:
    """The response is whole, for it needs the database no more; only the log hears of it."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "committed")
        answer(start_response)

        def body() -> Iterator[bytes]:
            yield b"1"
            all_words(environ[KEY])
            cut(environ[KEY])
            yield b"2"

        return body()

    exchange = request(SessionMiddleware(app, sessionmaker(engine), commit=on_success), "POST")

    assert exchange.body == b"12"
    assert_the_next_is_right(engine, "committed")


@on_every_database
def test_a_stream_that_releases_between_its_batches(engine: Engine) -> None:
    """It holds no connection while its client reads: another request has it, and the stream goes on."""
    other = SessionMiddleware(write, sessionmaker(engine), commit=on_success)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)

        def body() -> Iterator[bytes]:
            for _ in range(3):
                yield str(all_words(environ[KEY])).encode()
                current_scope().release()
                yield b";"

        return body()

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), commit=on_unsafe_success))
    for path in ("/a", "/b"):
        exchange.step()
        exchange.step()
        assert is_clean(engine)
        request(other, path=path)
    exchange.read().close()

    assert exchange.body == b"[];['/a'];['/a', '/b'];"
    assert_the_next_is_right(engine, "/a", "/b")


# gevent

UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from gevent.pywsgi import WSGIServer
from sqlalchemy import create_engine, literal, select, text
from sqlalchemy.orm import sessionmaker
from tests.client import asked
from tests.helpers import answer, request
from wsgi_session import RequestScopedSession, SessionMiddleware, on_unsafe_success

url, sleep = sys.argv[1:]
engine = create_engine(url, pool_size=20, max_overflow=0)
Session = RequestScopedSession(sessionmaker(engine))
running, most, wrong, ended = set(), 0, [], []


def app(environ, start_response):
    name = environ["PATH_INFO"]
    if name == "/killed":
        with gevent.Timeout(0.1):
            Session.scalar(text(sleep.format(5)))
    answer(start_response)
    return body(name, Session(), environ)


def body(name, session, environ):
    global most
    for _ in range(3):
        running.add(name)
        most = max(most, len(running))
        Session.scalar(text(sleep.format(0.05)))
        if Session.scalar(select(literal(name))) != name or Session() is not session is environ["sqlalchemy.session"]:
            wrong.append(name)
        yield name.encode()
    running.discard(name)


def get(path):
    return asked(server.server_port, path)


application = SessionMiddleware(app, Session, commit=on_unsafe_success)
application.on_request_end(ended.append)
server = WSGIServer(("127.0.0.1", 0), application, log=None, error_log=None)
server.start()
paths = [f"/{number}" for number in range(15)]

# Requests that interleave have their own sessions, and their own answers from the database.
for greenlet, path in [(gevent.spawn(get, path), path) for path in paths]:
    assert greenlet.get().body == 3 * path.encode(), (path, greenlet.value)
assert wrong == [], wrong
assert most > 10, most

# A greenlet that is killed, or timed out, in the middle of a statement leaves no connection behind that speaks of it.
answers = [gevent.spawn(get, "/killed") for _ in range(5)]
for greenlet in answers:
    assert greenlet.get().status == 500, greenlet.value


killed = [gevent.spawn(request, application, path="/slow") for _ in range(5)]
gevent.sleep(0.1)
assert len(ended) == 20, len(ended)
gevent.killall(killed)
assert len(ended) == 25, len(ended)
running.clear()
assert engine.pool.checkedout() == 0
for greenlet, path in [(gevent.spawn(get, path), path) for path in paths]:
    assert greenlet.get().body == 3 * path.encode(), (path, greenlet.value)
assert wrong == [], wrong
server.stop()
assert engine.pool.checkedout() == 0
assert len(ended) == 40, len(ended)
print("well")
"""


@on_every_server
def test_greenlets(driver: str, engine: Engine) -> None:
    """Requests that gevent interleaves share nothing, and one that is killed in mid-statement poisons no connection."""
    sleep = {"postgresql": "SELECT pg_sleep({})", "mariadb": "SELECT SLEEP({})"}[database_of(driver)]

    run = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT, engine.url.render_as_string(hide_password=False), sleep],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (run.stdout, run.returncode) == ("well\n", 0), run.stderr


@with_every_driver
def test_an_engine_that_has_not_connected_yet(engine_by: Callable[..., Engine], driver: str) -> None:
    """A middleware that is made before the first connection of its engine serves, as in the quick start."""
    made = engine_by(driver)
    engine = create_engine(made.url)

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ["sqlalchemy.session"], "first")
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, engine, commit=on_unsafe_success), "POST")
    engine.dispose()

    assert words(made)[-1] == "first"
