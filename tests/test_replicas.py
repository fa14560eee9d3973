"""Reads on replicas: a client that has written reads nothing older, and everything else goes where it can."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.cookies import SimpleCookie
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from benchmarks.wire import RoundTrips, wired
from tests import mariadb, replication
from tests.drivers import POSTGRESQL
from tests.helpers import Base, Exchange, Word, add_words, answer, in_child, request
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    on_unsafe_success,
    session_scope,
    until_close,
)
from wsgi_session._session.engines import is_read_only
from wsgi_session.replicas import Replicas
from wsgi_session.replicas._replicas import all_gauges
from wsgi_session.replicas._server import Replica
from wsgi_session.replicas._track import Track

KEY = "sqlalchemy.session"
SECRET = "of these tests alone"

Cluster = tuple[replication.Member, list[replication.Member]]
MakeEngine = Callable[..., Engine]

pytestmark = pytest.mark.system("postgresql-server")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Run a primary with two standbys."""
    with replication.postgresql(2) as (primary, standbys):
        Base.metadata.create_all(create_engine(primary.url, poolclass=NullPool))
        yield primary, standbys


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Return a function that makes engines with small pools."""
    with ExitStack() as stack:

        def make(server: Any, driver: str = "postgresql+psycopg", **options: Any) -> Engine:
            url = getattr(server, "url", server).set(drivername=driver)
            engine = create_engine(url, pool_size=2, max_overflow=0, pool_timeout=1, **options)
            stack.callback(engine.dispose)
            return engine

        yield make


@pytest.fixture
def driver() -> str:
    """Return psycopg, where a test names no other."""
    return "postgresql+psycopg"


@pytest.fixture
def engines(cluster: Cluster, make_engine: MakeEngine, driver: str) -> list[Engine]:
    """Return engines on a new table of the primary, and on its standbys, which have it."""
    primary, standbys = cluster
    engines = [make_engine(server, driver) for server in (primary, *standbys)]
    with engines[0].begin() as connection:
        connection.execute(Word.__table__.delete())  # type: ignore[attr-defined]
    replication.catch_up(engines)
    return engines


class Browser:
    """A client that keeps its cookies.  Lives as long as the test."""

    def __init__(self, app: Any) -> None:
        """Visit *app*."""
        self.app = app
        self.cookies: dict[str, str] = {}
        self.seen: list[Exchange] = []

    def __call__(self, method: str, path: str = "/", **environ: Any) -> Exchange:
        """Make a request, and keep the cookies of the answer."""
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        exchange = request(self.app, method, path, HTTP_COOKIE=header, **environ)
        for name, value in exchange.headers:
            if name == "Set-Cookie":
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(value).items()}
        self.seen.append(exchange)
        return exchange


def words(environ: Any, start_response: Any) -> Any:
    """Add a word where the method is POST or the path says so, and answer with their number and the server's port."""
    session = environ[KEY]
    if environ["REQUEST_METHOD"] == "POST" or environ["PATH_INFO"] == "/writes":
        add_words(session, "new")
        session.flush()
    number = session.scalar(select(func.count(Word.id)))
    answer(start_response)
    return [f"{number} at {session.get_bind().url.port}".encode()]


def wrapped(app: Any, replicas: Replicas, engine: Engine, *, by_method: bool = False, **options: Any) -> Any:
    """Wrap *app* as the documentation says; or so that its reads go to replicas by their method alone."""
    bind = (lambda environ: replicas(_without_position(environ, replicas))) if by_method else replicas
    inner = SessionMiddleware(app, engine, commit=on_unsafe_success, bind=bind, **options)
    return RetryMiddleware(replicas.middleware(inner, SECRET), wait=0, is_retryable=replicas.is_retryable)


def _without_position(environ: Any, replicas: Replicas) -> Any:
    fresh = dict(environ)
    [key] = [name for name in environ if name.startswith("wsgi_session.replicas.")]
    fresh[key] = type(environ[key])("", {})
    return fresh


def port_of(exchange: Exchange) -> int:
    """Return the port of the server that a request has read from."""
    return int(exchange.body.split()[-1])


def number_of(exchange: Exchange) -> int:
    """Return the number of words that a request has seen."""
    return int(exchange.body.split()[0])


def ports(engines: list[Engine]) -> list[int | None]:
    """Return the ports of engines."""
    return [engine.url.port for engine in engines]


# Where a request goes


def test_by_the_method_alone_a_read_is_stale(cluster: Cluster, engines: list[Engine]) -> None:
    """A client that writes, and is sent to a replica for its next read, does not see what it has written."""
    browser = Browser(wrapped(words, Replicas(engines[0], engines[1:]), engines[0], by_method=True))

    with replication.paused(*cluster[1]):
        browser("POST")
        assert number_of(browser("GET")) == 0


@pytest.mark.parametrize("driver", POSTGRESQL)
def test_a_client_reads_what_it_has_written(cluster: Cluster, engines: list[Engine]) -> None:
    """With its position, no read of a client is older than its writes, however late the replicas are."""
    replicas = Replicas(engines[0], engines[1:])
    browser = Browser(wrapped(words, replicas, engines[0]))

    with replication.paused(cluster[1][0]):
        for number in range(1, 31):
            assert browser("POST").status == "200 OK"
            assert number_of(browser("GET")) == number
    with replication.paused(*cluster[1]):
        browser("POST")
        read = browser("GET")

    assert number_of(read) == 31
    assert port_of(read) == engines[0].url.port
    replication.catch_up(engines)
    assert port_of(browser("GET")) in ports(engines[1:])


def test_where_each_request_goes(cluster: Cluster, engines: list[Engine]) -> None:
    """A safe method reads from a replica, and whatever may write from the primary."""
    replicas = Replicas(engines[0], engines[1:])
    app = wrapped(words, replicas, engines[0])

    for method in ("GET", "OPTIONS", "QUERY"):
        assert port_of(Browser(app)(method)) in ports(engines[1:])
    for method in ("POST", "PUT", "DELETE", "ANY"):
        assert port_of(Browser(app)(method)) == engines[0].url.port


def test_a_read_waits_for_a_replica(cluster: Cluster, engines: list[Engine]) -> None:
    """With ``wait=``, a read waits for a replica to catch up, and goes to the primary after that."""
    replicas = Replicas(engines[0], engines[1:2], wait=20)
    browser = Browser(wrapped(words, replicas, engines[0]))

    for number in range(1, 6):
        browser("POST")
        read = browser("GET")
        assert (number_of(read), port_of(read)) == (number, engines[1].url.port)


def test_a_read_that_waits_in_vain(cluster: Cluster, engines: list[Engine]) -> None:
    """It asks again until the time is over, and sees what it waits for if that comes in time."""
    replicas = Replicas(engines[0], engines[1:2], wait=20)
    browser = Browser(wrapped(words, replicas, engines[0]))

    with replication.paused(cluster[1][0]):
        browser("POST")
        resuming = Thread(target=_resume_when_asked_again, args=(replicas, cluster[1][0]))
        resuming.start()
        read = browser("GET")
        resuming.join()

    assert (number_of(read), port_of(read)) == (1, engines[1].url.port)
    assert replicas.gauges().servers[1].polls > 1


def _resume_when_asked_again(replicas: Replicas, standby: replication.Member) -> None:
    while replicas.gauges().servers[1].polls < 2:
        time.sleep(0.01)
    standby.resume()


def test_one_thread_asks_a_replica_for_all(engines: list[Engine]) -> None:
    """Who has waited for another's question takes its answer."""
    replica = Replica(engines[1], Track())
    answers: list[bool] = []
    asking = Thread(target=lambda: answers.append(replica.reaches({"": 1})))

    with replica._lock:
        asking.start()
        time.sleep(0.05)
        replica._polls += 1  # as the thread that has the lock does
    asking.join()

    assert answers == [False]
    assert replica.gauges().polls == 1


def test_a_replica_that_is_lost_while_it_is_asked(engines: list[Engine]) -> None:
    """What it has answered before is not known of what comes after it."""
    replica = Replicas(engines[0], engines[1:2])._replicas[0]

    @event.listens_for(engines[1], "after_cursor_execute", once=True)
    def is_lost(*_of_the_poll: object) -> None:
        replica.put_aside("for this test")

    assert not replica.reaches({"": 1})
    assert not replica.is_known_to_reach({"": 1})
    replica._up_again = 0  # as after two seconds
    assert replica.reaches({"": 1})


def test_no_replica(engines: list[Engine]) -> None:
    """Without replicas everything goes to the primary."""
    browser = Browser(wrapped(words, Replicas(engines[0], []), engines[0]))

    browser("POST")

    assert port_of(browser("GET")) == engines[0].url.port


def test_without_its_middleware_reads_go_to_the_primary(
    engines: list[Engine], caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody knows what a client has written, it reads from the primary; that is said once."""
    app = SessionMiddleware(words, engines[0], bind=Replicas(engines[0], engines[1:]))

    assert [port_of(request(app)) for _ in range(3)] == [engines[0].url.port] * 3
    assert caplog.text.count("has not passed 'replicas.middleware(...)'") == 1


def test_a_block_in_a_request_is_on_the_primary(engines: list[Engine]) -> None:
    """What the request has committed on the primary is seen by its own reads."""
    replicas = Replicas(engines[0], engines[1:])
    Session = RequestScopedSession(sessionmaker(engines[0]))

    def app(environ: Any, start_response: Any) -> Any:
        with SQLAlchemySession(engines[0]) as session:
            add_words(session, "by hand")
            session.commit()
        return words(environ, start_response)

    exchange = Browser(wrapped(app, replicas, Session))("GET")  # type: ignore[arg-type]

    assert replicas.gauges().to_primary["it has committed before"] == 1
    assert (number_of(exchange), port_of(exchange)) == (1, engines[0].url.port)
    assert "Set-Cookie" in dict(exchange.headers)


# The token


def test_a_position_is_sent_where_something_was_written(engines: list[Engine]) -> None:
    """The cookie is for this site's requests alone, and for a minute; a response to a read has none."""
    app = wrapped(words, Replicas(engines[0], engines[1:]), engines[0])

    cookie = dict(Browser(app)("POST").headers)["Set-Cookie"]
    secure = dict(Browser(app)("POST", **{"wsgi.url_scheme": "https"}).headers)["Set-Cookie"]

    assert cookie.startswith("database_position=")
    assert cookie.endswith("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")
    assert secure.endswith("; SameSite=Lax; Secure")
    assert "Set-Cookie" not in dict(Browser(app)("GET").headers)


def test_a_post_that_writes_nothing_sends_none(engines: list[Engine]) -> None:
    """A commit of nothing has no position, and is no round trip more."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].scalar(select(func.count(Word.id)))
        answer(start_response)
        return [b""]

    exchange = Browser(wrapped(app, Replicas(engines[0], engines[1:]), engines[0]))("POST")

    assert "Set-Cookie" not in dict(exchange.headers)


@pytest.mark.parametrize("cookie", ["database_position=x; a@b=1", "database_position=x; other=1", "other=1"])
def test_cookies_of_others(cookie: str, engines: list[Engine]) -> None:
    """What else is in the header is nobody's business, also if it is no cookie."""
    app = wrapped(words, Replicas(engines[0], engines[1:]), engines[0])

    assert port_of(request(app, HTTP_COOKIE=cookie)) in ports(engines[1:])


@pytest.mark.parametrize("other", ['theme={"dark": 1}', "a@b=1", "é=ü", "lonely", "", 'x="a b', "database_position="])
def test_cookies_of_others_hide_no_position(other: str, cluster: Cluster, engines: list[Engine]) -> None:
    """What other cookies are made of, a position beside them counts, wherever it is."""
    app = wrapped(words, Replicas(engines[0], engines[1:]), engines[0])
    browser = Browser(app)

    with replication.paused(*cluster[1]):
        browser("POST")
        [(name, token)] = browser.cookies.items()
        for header in (f"{other}; {name}={token}", f"{name}={token}; {other}", f"{name}={token};{other};x=y"):
            assert number_of(request(app, HTTP_COOKIE=header)) == 1


def test_of_several_positions_the_furthest_counts(cluster: Cluster, engines: list[Engine]) -> None:
    """A client that brings an older position, too, in another cookie of that name or in the header, is not set back."""
    replicas = Replicas(engines[0], engines[1:])
    inner = SessionMiddleware(words, engines[0], commit=on_unsafe_success, bind=replicas)
    app = replicas.middleware(inner, SECRET, header="X-Position")
    older = dict(request(app, "POST").headers)["X-Position"]
    replication.catch_up(engines)
    assert port_of(request(app, HTTP_X_POSITION=older)) in ports(engines[1:])

    with replication.paused(*cluster[1]):
        newer = dict(request(app, "POST").headers)["X-Position"]
        names = [f"database_position={token}" for token in (newer, older)]
        for cookies in (names, names[::-1]):
            assert number_of(request(app, HTTP_COOKIE="; ".join(cookies))) == 2
        for brought, in_header in ((newer, older), (older, newer)):
            cookie = f"database_position={brought}"
            assert number_of(request(app, HTTP_COOKIE=cookie, HTTP_X_POSITION=in_header)) == 2


@pytest.mark.parametrize("twophase", [False, True])
def test_a_commit_outside_of_requests(twophase: bool, engines: list[Engine]) -> None:
    """A job commits on the primary as ever."""
    Replicas(engines[0], engines[1:])

    with session_scope(RequestScopedSession(sessionmaker(engines[0], twophase=twophase))) as session:
        add_words(session, "by a job")

    with engines[0].connect() as connection:
        assert connection.scalar(select(func.count(Word.id))) == 1


@pytest.mark.parametrize("driver", POSTGRESQL)
def test_a_commit_in_two_phases(cluster: Cluster, engines: list[Engine]) -> None:
    """A commit in two phases has a position, too."""
    replicas = Replicas(engines[0], engines[1:])
    factory = sessionmaker(engines[0], twophase=True)
    inner = SessionMiddleware(words, factory, commit=on_unsafe_success, bind=replicas)
    browser = Browser(replicas.middleware(inner, SECRET))

    with replication.paused(*cluster[1]):
        browser("POST")
        assert number_of(browser("GET")) == 1


@pytest.mark.parametrize("driver", POSTGRESQL[:2])
def test_a_position_that_is_refused(cluster: Cluster, engines: list[Engine], caplog: pytest.LogCaptureFixture) -> None:
    """What is committed is so, though the user may not ask for the position: the client reads from the primary."""
    for statement in (
        "DROP ROLE IF EXISTS modest",
        "CREATE ROLE modest LOGIN",
        "GRANT ALL ON word, letter, word_id_seq TO modest",
        "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC",
    ):
        replication.execute(cluster[0], statement)
    modest = create_engine(engines[0].url.set(username="modest"), pool_size=1)
    try:
        browser = Browser(wrapped(words, Replicas(modest, engines[1:]), modest))
        for number in (1, 2):
            assert browser("POST").status == "200 OK"
            read = browser("GET")
            assert (number_of(read), port_of(read)) == (number, modest.url.port)
    finally:
        modest.dispose()
        replication.execute(cluster[0], "GRANT EXECUTE ON FUNCTION pg_current_wal_insert_lsn() TO PUBLIC")
        replication.execute(cluster[0], "DROP OWNED BY modest")

    assert "The position after a COMMIT could not be found out" in caplog.text


def test_a_header_for_clients_without_cookies(cluster: Cluster, engines: list[Engine]) -> None:
    """A header of one's choice carries the position, too, in both directions."""
    replicas = Replicas(engines[0], engines[1:])
    inner = SessionMiddleware(words, engines[0], commit=on_unsafe_success, bind=replicas)
    app = replicas.middleware(inner, SECRET, header="X-Position")

    with replication.paused(*cluster[1]):
        position = dict(request(app, "POST").headers)["X-Position"]
        assert number_of(request(app, HTTP_X_POSITION=position)) == 1
        assert number_of(request(app, HTTP_X_POSITION=position[:-1] + "x")) == 0


def test_an_old_position_is_none(cluster: Cluster, engines: list[Engine]) -> None:
    """After its time, a position says nothing any more; nor does it before another secret."""
    replicas = Replicas(engines[0], engines[1:])
    inner = SessionMiddleware(words, engines[0], commit=on_unsafe_success, bind=replicas)
    browser = Browser(replicas.middleware(inner, SECRET, max_age=1))

    with replication.paused(*cluster[1]):
        browser("POST")
        assert port_of(browser("GET")) == engines[0].url.port
        browser.app = replicas.middleware(inner, SECRET + "!")
        assert port_of(browser("GET")) != engines[0].url.port
        browser.app = replicas.middleware(inner, SECRET, max_age=1)
        time.sleep(2.1)
        assert port_of(browser("GET")) != engines[0].url.port


@given(shown=st.text(max_size=600) | st.binary(max_size=600).map(lambda sent: sent.decode("latin-1")))
def test_whatever_a_client_sends(shown: str) -> None:
    """What is no token of ours is no position, and no error."""
    primary = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    positions: list[Any] = []
    replicas = Replicas(primary, [])

    def app(environ: Any, start_response: Any) -> Any:
        positions.extend(value.brought for name, value in environ.items() if name.startswith("wsgi_session.replicas."))
        answer(start_response)
        return [b""]

    carrying = replicas.middleware(app, SECRET, header="X-Position")
    request(carrying, HTTP_COOKIE=f"database_position={shown}", HTTP_X_POSITION=shown)

    assert positions == [{}]


def test_the_later_position_is_kept(cluster: Cluster, engines: list[Engine]) -> None:
    """A write through a server that is behind what the client has seen does not set it back."""
    replicas = Replicas(engines[0], engines[1:])
    app = wrapped(words, replicas, engines[0])
    first, second = Browser(app), Browser(app)
    first("POST")
    second("POST")
    first.cookies = dict(second.cookies)
    first("POST")

    assert first.cookies != second.cookies


def test_a_commit_after_the_headers(engines: list[Engine], caplog: pytest.LogCaptureFixture) -> None:
    """What is committed when the headers are gone cannot be told to the client; the log says so."""
    replicas = Replicas(engines[0], engines[1:])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        yield b"1"
        add_words(environ[KEY], "late")
        environ[KEY].commit()
        yield b"2"

    inner = SessionMiddleware(app, engines[0], commit=until_close, bind=replicas)
    exchange = request(replicas.middleware(inner, SECRET), "POST")

    assert "Set-Cookie" not in dict(exchange.headers)
    assert "has committed after its headers were sent" in caplog.text


def test_a_view_that_commits_after_start_response(engines: list[Engine]) -> None:
    """A view that commits before it returns has told its client, also if it has called start_response before."""
    replicas = Replicas(engines[0], engines[1:])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        add_words(environ[KEY], "in time")
        environ[KEY].commit()
        return [b""]

    inner = SessionMiddleware(app, engines[0], bind=replicas)

    assert "Set-Cookie" in dict(request(replicas.middleware(inner, SECRET), "POST").headers)


def test_several_of_one_primary(cluster: Cluster, engines: list[Engine]) -> None:
    """Each has its replicas and its clients, and none takes the positions of another."""
    each = [Replicas(engines[0], engines[number:]) for number in (1, 2)]
    browsers = [Browser(wrapped(words, replicas, engines[0])) for replicas in each]

    with replication.paused(*cluster[1]):
        for number, browser in enumerate(browsers, 1):
            browser("POST")
            assert number_of(browser("GET")) == number
    with session_scope(RequestScopedSession(sessionmaker(engines[0]))) as session:
        add_words(session, "by a job")


# What it costs


@pytest.mark.parametrize(("driver", "more"), [("postgresql+psycopg", 0), ("postgresql+psycopg2", 1)])
def test_round_trips(cluster: Cluster, make_engine: MakeEngine, driver: str, more: int) -> None:
    """The position of a COMMIT costs no round trip with psycopg, and one with other drivers; a read asks nothing."""
    primary, standbys = cluster
    trips = RoundTrips()
    with ExitStack() as stack:
        wires = [
            stack.enter_context(wired(("127.0.0.1", server.url.port or 0), trips.new_listener))
            for server in (primary, *standbys[:1])
        ]
        engines = [
            make_engine(server.url.set(port=wire), driver)
            for server, wire in zip((primary, *standbys), wires, strict=False)
        ]
        browser = Browser(wrapped(writing_once, Replicas(engines[0], engines[1:], wait=20), engines[0]))

        def counted(method: str) -> int:
            before = trips.count
            browser(method)
            return trips.count - before

        for _ in range(3):  # the dialects and the connections are ready then
            browser("POST")
            browser("GET")
        assert counted("POST") == 3 + more
        browser("GET")  # which asks the replica, once
        assert [counted("GET") for _ in range(3)] == [3] * 3
        for engine in engines:
            engine.dispose()


def writing_once(environ: Any, start_response: Any) -> Any:
    """Send one statement."""
    if environ["REQUEST_METHOD"] == "POST":
        environ[KEY].execute(text("INSERT INTO word (text) VALUES ('new')"))
    else:
        environ[KEY].execute(text("SELECT 1"))
    answer(start_response)
    return [b""]


def test_an_untouched_request_asks_nothing(engines: list[Engine]) -> None:
    """A request that does not use its session opens no connection."""
    replicas = Replicas(engines[0], engines[1:])

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return [b""]

    Browser(wrapped(app, replicas, engines[0]))("GET")

    assert [gauges.requests for gauges in replicas.gauges().servers] == [0, 0, 0]


def test_gauges(engines: list[Engine]) -> None:
    """Who asks sees what went where, by host and port."""
    replicas = Replicas(engines[0], engines[1:2])
    browser = Browser(wrapped(words, replicas, engines[0]))
    browser("POST")
    replication.catch_up(engines)
    browser("GET")

    primary, replica = replicas.gauges().servers

    assert primary.server == f"postgresql:postgres at 127.0.0.1:{engines[0].url.port}"
    assert (primary.requests, replica.requests, replica.polls, replica.is_up) == (1, 1, 1, True)
    assert replicas.gauges() in all_gauges()


def test_gauges_of_the_primary(cluster: Cluster, engines: list[Engine]) -> None:
    """Each request of the primary has its reason."""
    replicas = Replicas(engines[0], engines[1:])
    app = wrapped(words, replicas, engines[0])
    reasons: list[dict[str, int]] = []

    def has_gone(browser: Browser, method: str = "GET", path: str = "/") -> None:
        before = replicas.gauges().to_primary
        browser(method, path)
        after = replicas.gauges().to_primary
        reasons.append({reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]})

    with replication.paused(*cluster[1]):
        browser = Browser(app)
        has_gone(browser, "POST")
        has_gone(browser)
        has_gone(Browser(app))
        has_gone(Browser(app), path="/writes")
        for replica in replicas._replicas:
            replica.put_aside("for this test")
        has_gone(browser)
        has_gone(Browser(SessionMiddleware(words, engines[0], bind=replicas)))

    assert reasons == [
        {"its method may write": 1},
        {"no replica has come so far": 1},
        {},
        {"it is another attempt": 1},
        {"no replica is up": 1},
        {"it has not passed the middleware": 1},
    ]
    assert replicas.gauges().servers[0].requests == 5


def test_gauges_of_waits(cluster: Cluster, engines: list[Engine]) -> None:
    """It is counted who waits, and for how long; and said how late a replica was."""
    replicas = Replicas(engines[0], engines[1:2], wait=1)  # so long a busy machine may take for the first question
    browser = Browser(wrapped(words, replicas, engines[0]))
    assert replicas.gauges().servers[1].behind is None

    with replication.paused(*cluster[1]):
        browser("POST")
        browser("GET")
    gauges = replicas.gauges()
    replication.catch_up(engines)
    browser("GET")

    assert gauges.waits == 1
    assert 0.01 < gauges.waited < 10
    assert gauges.servers[1].behind is not None
    assert 0.03 < gauges.servers[1].behind < 10
    assert replicas.gauges().servers[1].behind == 0


def test_a_child_takes_no_lock_from_its_parent(engines: list[Engine]) -> None:
    """A process that was forked while a replica was asked asks it, too."""
    replica = Replicas(engines[0], engines[1:2])._replicas[0]

    with replica._lock:
        in_child(lambda: replica.reaches({"": sys.maxsize}))


# What is repeated on the primary

at_each_level = pytest.mark.parametrize("level", ["READ COMMITTED", "AUTOCOMMIT"])


@pytest.fixture
def level() -> str:
    """Return the usual level, where a test names no other."""
    return "READ COMMITTED"


@at_each_level
@pytest.mark.parametrize("driver", POSTGRESQL)
def test_a_write_in_a_get(cluster: Cluster, make_engine: MakeEngine, driver: str, level: str) -> None:
    """What a replica refuses to write is written by the primary, in the second attempt; and its client knows it."""
    primary = make_engine(cluster[0], driver)
    standby = make_engine(cluster[1][0], driver, isolation_level=level)
    replicas = Replicas(primary, [standby])

    exchange = Browser(wrapped(committing, replicas, primary))("GET", "/writes")

    assert port_of(exchange) == primary.url.port
    assert "Set-Cookie" in dict(exchange.headers)


def committing(environ: Any, start_response: Any) -> Any:
    """Do as `words`, and commit in the view."""
    result = words(environ, start_response)
    environ[KEY].commit()
    return result


def test_a_commit_on_a_replica_is_none(engines: list[Engine]) -> None:
    """A standby commits nothing, so what comes after a COMMIT there may be done again."""
    replicas = Replicas(engines[0], engines[1:])
    attempts: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        attempts.append(environ["retry.attempt"])
        environ[KEY].execute(select(1))
        environ[KEY].commit()
        if not environ["retry.attempt"]:
            raise Again
        answer(start_response)
        return [b""]

    inner = replicas.middleware(SessionMiddleware(app, engines[0], bind=replicas), SECRET)
    request(RetryMiddleware(inner, wait=0, is_retryable=bool))

    assert attempts == [0, 1]


class Again(Exception):  # noqa: N818
    """Asks for another attempt."""


def test_a_closed_connection_says_nothing(engines: list[Engine]) -> None:
    """Whether its server can write is not known."""
    connection = engines[1].connect()
    assert is_read_only(connection)
    connection.close()

    assert not is_read_only(connection)


@at_each_level
def test_a_read_that_meets_what_is_replayed(cluster: Cluster, make_engine: MakeEngine, level: str) -> None:
    """A read that the standby cancels, to replay what it conflicts with, is answered by the primary."""
    primary = make_engine(cluster[0])
    standby = make_engine(cluster[1][0], isolation_level=level)
    replication.execute(cluster[0], "CREATE TABLE IF NOT EXISTS passing (n int)")
    replication.catch_up([primary, standby])
    attempts: list[int] = []

    def app(environ: Any, start_response: Any) -> Any:
        attempts.append(environ["retry.attempt"])
        if environ["retry.attempt"]:
            environ[KEY].execute(select(1))
        else:
            Thread(target=_drop_when_read, args=cluster).start()
            environ[KEY].execute(text("SELECT count(*), pg_sleep(20) FROM passing"))
            raise AssertionError("It was not cancelled.")
        answer(start_response)
        return [b""]

    Browser(wrapped(app, Replicas(primary, [standby]), primary))("GET")

    assert attempts == [0, 1]


def _drop_when_read(primary: replication.Member, standbys: list[replication.Member]) -> None:
    """Drop the table as soon as the first standby is reading it."""
    reading = "SELECT 1 FROM pg_locks WHERE relation = 'passing'::regclass"
    while not replication.execute(standbys[0], reading):
        time.sleep(0.02)
    replication.execute(primary, "DROP TABLE passing")


@at_each_level
def test_a_replica_that_is_lost(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture, level: str) -> None:
    """A read whose replica is killed, and those that come to it afterwards, are answered by the primary."""
    with replication.postgresql(1) as (primary_server, [server]):
        primary = make_engine(primary_server)
        standby = make_engine(server, isolation_level=level)
        Base.metadata.create_all(primary)
        replication.catch_up([primary, standby])
        replicas = Replicas(primary, [standby])
        app = wrapped(words, replicas, primary)

        assert port_of(Browser(app)("GET")) == standby.url.port
        server.crash()
        assert [port_of(Browser(app)("GET")) for _ in range(5)] == [primary.url.port] * 5
        assert not replicas.gauges().servers[1].is_up
        assert caplog.text.count("is put aside") == 1
        server.start()
        time.sleep(2.1)

        assert port_of(Browser(app)("GET")) == standby.url.port


def test_a_replica_that_comes_back_behind_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """A replica that has crashed replays again what it had replayed; until then, what was known of it says nothing.

    Nor does it to a request that had chosen it before, and has waited for a connection since.
    """
    with replication.postgresql(1) as (primary_server, [server]), ExitStack() as stack:
        primary, *standbys = [
            create_engine(primary_server.url),
            *(
                create_engine(server.url, **options)
                for options in ({}, {"pool_pre_ping": True}, {"poolclass": NullPool})
            ),
        ]
        for engine in (primary, *standbys):
            stack.callback(engine.dispose)
        Base.metadata.create_all(primary)
        every = [Replicas(primary, [standby], wait=20) for standby in standbys]
        browsers = [Browser(wrapped(words, replicas, primary)) for replicas in every]
        for number, browser in enumerate(browsers, 1):
            browser("POST")
            read = browser("GET")
            assert (number_of(read), port_of(read)) == (number, server.url.port)
        server.crash()
        server.options["recovery_min_apply_delay"] = "1h"  # so that it does not go on in the meantime
        server.start()

        for number, (browser, replicas) in enumerate(zip(browsers, every, strict=True), 1):
            replicas._wait = 0.0
            assert [number_of(browser("GET")) >= number for _ in range(3)] == [True] * 3
        [replica] = every[-1]._replicas
        replica.put_aside("because another request has met the crash")
        with pytest.raises(DBAPIError, match="is behind where it was"):
            standbys[-1].connect()
        replica._before = 0.0, replica._before[1]  # as after a minute
        standbys[-1].connect().close()

    assert caplog.text.count("is put aside") == len(every)


def test_a_replica_that_is_not_there(engines: list[Engine], caplog: pytest.LogCaptureFixture) -> None:
    """A replica that cannot be asked is put aside, which is said once until it answers."""
    nowhere = create_engine(engines[1].url.set(port=1))
    replicas = Replicas(engines[0], [nowhere])
    browser = Browser(wrapped(words, replicas, engines[0]))
    browser("POST")

    for _ in range(2):
        assert port_of(browser("GET")) == engines[0].url.port
        replicas._replicas[0]._up_again = 0  # as after two seconds

    assert caplog.text.count("is put aside: OperationalError") == 1
    assert replicas.gauges().servers[1].failures == 2


def test_a_standby_that_was_promoted(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    """A standby that is one no more is asked for nothing, as soon as it is seen."""
    with replication.postgresql(1) as (primary_server, [server]):
        primary, standby = make_engine(primary_server), make_engine(server)
        Base.metadata.create_all(primary)
        replication.catch_up([primary, standby])
        replicas = Replicas(primary, [standby])
        browser = Browser(wrapped(words, replicas, primary))
        server.promote()
        browser("POST")

        assert port_of(browser("GET")) == primary.url.port
        assert "it is no replica (any more)" in caplog.text


def test_a_write_to_a_standby_that_was_promoted(make_engine: MakeEngine) -> None:
    """It writes nothing, though it could now, on connections that it had before: that would be lost, or unseen."""
    with replication.postgresql(1) as (primary_server, [server]):
        primary = make_engine(primary_server)
        drivers = [str(one.values[0]) for one in POSTGRESQL]
        standbys = [
            make_engine(server, driver, isolation_level=level)
            for driver, level in itertools.product(drivers, ("READ COMMITTED", "AUTOCOMMIT"))
        ]
        Base.metadata.create_all(primary)
        replication.catch_up([primary, *standbys])
        apps = [wrapped(committing, Replicas(primary, [standby]), primary) for standby in standbys]
        assert [port_of(Browser(app)("GET")) for app in apps] == [server.url.port] * len(apps)
        server.promote()

        exchanges = [Browser(app)("GET", "/writes") for app in apps]

        assert [port_of(exchange) for exchange in exchanges] == [primary.url.port] * len(apps)
        assert [number_of(exchange) for exchange in exchanges] == list(range(1, len(apps) + 1))
        assert all("Set-Cookie" in dict(exchange.headers) for exchange in exchanges)


@pytest.mark.parametrize("driver", POSTGRESQL[:2])  # pg8000 takes one host
def test_a_switchover(make_engine: MakeEngine, driver: str) -> None:
    """Where the primary only reads from now on, its whole pool is renewed, and what it has refused is repeated."""
    with replication.postgresql(1) as (old, [new]):
        hosts = [f"127.0.0.1:{server.url.port}" for server in (old, new)]
        query = {"host": hosts, "target_session_attrs": "read-write"}
        engine = make_engine(old.url.set(host=None, port=None, query=query), driver)
        Base.metadata.create_all(engine)
        app = wrapped(at_which_port, Replicas(engine, []), engine)
        assert [Browser(app)("POST").body for _ in range(2)] == [str(old.url.port).encode()] * 2
        replication.execute(old, "ALTER SYSTEM SET default_transaction_read_only = on")
        replication.execute(old, "SELECT pg_reload_conf()")
        new.promote()

        after = [Browser(app)("POST") for _ in range(5)]

        assert [exchange.status for exchange in after] == ["200 OK"] * 5
        assert after[-1].body == str(new.url.port).encode()


def at_which_port(environ: Any, start_response: Any) -> Any:
    """Add a word, and answer with the port of the server."""
    add_words(environ[KEY], "new")
    port = environ[KEY].scalar(text("SELECT inet_server_port()"))
    answer(start_response)
    return [str(port).encode()]


@pytest.mark.parametrize("driver", POSTGRESQL)
def test_a_transaction_that_was_to_read(engines: list[Engine]) -> None:
    """A write in a transaction that the application has made read-only is its own mistake: the pool stays."""
    before = backend(engines[0])

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SET TRANSACTION READ ONLY"))
        with pytest.raises(DBAPIError):
            environ[KEY].execute(text("INSERT INTO word (text) VALUES ('new')"))
        environ[KEY].rollback()
        answer(start_response)
        return [b""]

    Browser(wrapped(app, Replicas(engines[0], []), engines[0]))("POST")

    assert backend(engines[0]) == before


def backend(engine: Engine) -> int:
    """Return which connection of the server's the pool hands out."""
    asked = "SELECT pg_backend_pid()" if engine.dialect.name == "postgresql" else "SELECT CONNECTION_ID()"
    with engine.connect() as connection:
        return int(connection.scalar(text(asked)))


# MariaDB


@pytest.mark.system("mariadb-server")
def test_mariadb(make_engine: MakeEngine) -> None:
    """MariaDB's replicas are followed by their GTIDs; a write that one refuses is written by the primary."""
    with replication.mariadb() as servers:
        urls = [server.url.set(database="test", username="app") for server in servers]
        primary, replica = (make_engine(url, "mariadb+pymysql") for url in urls)
        Base.metadata.create_all(primary)
        replicas = Replicas(primary, [replica], wait=20)
        browser = Browser(wrapped(words, replicas, primary))
        browser("POST")
        read = browser("GET")
        assert (number_of(read), port_of(read)) == (1, replica.url.port)

        replication.execute(servers[1], "STOP SLAVE SQL_THREAD")
        late = Browser(wrapped(words, Replicas(primary, [replica]), primary))
        late("POST")
        assert (number_of(late("GET")), port_of(late("GET"))) == (2, primary.url.port)
        replication.execute(servers[1], "START SLAVE SQL_THREAD")

        refused = Browser(wrapped(words, Replicas(primary, [replica]), primary))("GET", "/writes")
        assert (number_of(refused), port_of(refused)) == (3, primary.url.port)
        replication.execute(servers[1], "SET GLOBAL read_only = 0")  # as where it is promoted
        refused = Browser(wrapped(words, Replicas(primary, [replica]), primary))("GET", "/writes")
        assert (number_of(refused), port_of(refused)) == (3, primary.url.port)
        replication.execute(servers[0], "SET GLOBAL read_only = 1")
        before = backend(primary)
        with pytest.raises(DBAPIError):
            browser("POST")
        assert backend(primary) != before


@pytest.mark.system("mariadb-server")
def test_an_option_of_mariadb_that_refuses_something_else(make_engine: MakeEngine) -> None:
    """The same code where the server writes: the pool stays."""
    with mariadb.server(secure_file_priv="/tmp") as server:
        engine = make_engine(server.url, "mariadb+pymysql")
        Replicas(engine, [])
        before = backend(engine)
        with engine.connect() as connection:
            for statement, code in (("SELECT 1 INTO OUTFILE '/var/nowhere'", "1290"), ("SELECT no_such_thing", "1054")):
                with pytest.raises(DBAPIError, match=code):
                    connection.execute(text(statement))

        assert backend(engine) == before


# What is refused


def _of_unknown_driver(engine: Engine) -> Engine:
    engine.dialect.driver = "unheard"
    return engine


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda engine: Replicas(_of_unknown_driver(engine), []), "it is not known what the driver 'unheard' does"),
        (lambda engine: Replicas("postgresql://db1", []), "Replicas takes engines, not 'postgresql://db1'"),  # type: ignore[arg-type]
        (lambda engine: Replicas(engine, [], wait=-1), "wait=-1 has to be"),
        (lambda engine: Replicas(engine, [engine.execution_options(a=1)]), "shop.* is the primary, too"),
        (lambda engine: Replicas(create_engine("sqlite:///of_all"), []), "sqlite:///of_all.* are not known"),
        (lambda engine: Replicas(engine, [create_engine("sqlite:///of_one")]), "sqlite:///of_one.* are not known"),
        (lambda engine: Replicas(engine, []).middleware(words, "short"), "secret has to have 16 bytes"),
        (lambda engine: Replicas(engine, []).middleware(words, 7), "secret has to be a string or bytes"),
        (lambda engine: Replicas(engine, []).middleware(words, SECRET, max_age=0), "max_age=0 has to be"),
        (lambda engine: Replicas(engine, []).middleware(None, SECRET), "wraps a WSGI application"),
    ],
)
def test_what_is_refused(make: Any, said: str) -> None:
    """What could not work is an error where it is made."""
    with pytest.raises((TypeError, ValueError), match=said):
        make(create_engine("postgresql+psycopg://db1/shop"))
