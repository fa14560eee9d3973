"""Processes that fork after the engine was used, are stopped and are killed; databases that go away and come back."""

from __future__ import annotations

import json
import os
import secrets
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from tests import postgresql
from tests.client import Answer, Client
from tests.helpers import Base, miss

from .process import Process, running, wait_until
from .recipes import Server, gunicorn, twisted, uwsgi

APPLICATION = "tests.servers.on_postgresql:application"
UWSGI = pytest.mark.system("uwsgi")
HOOKS = "--config=python:tests.servers.gunicorn_hooks"

pytestmark = pytest.mark.system("postgresql")


class Database:
    """The database of a test, seen from outside of the server's processes.  Lives as long as the test."""

    def __init__(self, url: URL) -> None:
        """Speak to the database without a pool; the server's connections are known by a name of their own."""
        self.name = f"served_{secrets.token_hex(4)}"
        self.engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self.url = url.update_query_dict({"application_name": self.name})

    def backends(self) -> dict[int, tuple[Any, ...]]:
        """Return what each of the server's connections has done last, and when."""
        statement = text(
            "SELECT pid, state, query, query_start, state_change FROM pg_stat_activity WHERE application_name = :name"
        )
        with self.engine.connect() as connection:
            return {row.pid: tuple(row) for row in connection.execute(statement, {"name": self.name})}

    def kill(self, *backends: int) -> None:
        """End connections, as an administrator does."""
        with self.engine.connect() as connection:
            for backend in backends:
                connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})

    @contextmanager
    def served_by(self, server: Server) -> Iterator[Process]:
        """Run *server* on this database for as long as the block lasts."""
        with tempfile.TemporaryDirectory(prefix="wsgi_session_servers_") as folder:
            variables = {"SERVED_DATABASE": self.url.render_as_string(hide_password=False)}
            with running(server, Path(folder, "served"), **variables) as process:
                yield process


@pytest.fixture
def database(postgresql_engine: Engine) -> Iterator[Database]:
    """Return the database, with empty tables."""
    database = Database(postgresql_engine.url)
    yield database
    database.kill(*database.backends())


def ask(process: Process, path: str) -> Answer:
    """Make a request."""
    with Client(process.port) as client:
        client.send(path)
        return client.answer()


def report(process: Process) -> dict[str, Any]:
    """Make a request that must be right, and return what it has found."""
    answer = ask(process, "/report?report")
    assert answer.status == 200, process.output()
    found: dict[str, Any] = json.loads(answer.body)
    return found


def event(process: Process, name: str, step: str) -> dict[str, Any]:
    """Wait for a step, and return it."""
    assert process.has_step(name, step), process.output()
    return next(event for event in process.log(name) if event["step"] == step)


@contextmanager
def asked(process: Process, path: str, name: str) -> Iterator[Client]:
    """Send a request that waits at its gate, which is opened at the end of the block."""
    with Client(process.port) as client:
        client.send(f"{path}?{name}")
        event(process, name, "waits")
        yield client
        open_gate(process, name)


def open_gate(process: Process, name: str) -> None:
    """Let a request that waits go on."""
    (process.folder / name).touch()


def assert_next_is_right(process: Process, database: Database, *gone: int) -> None:
    """Assert that the next request is right: no row left, the one connection in the pool, and none of those *gone*."""
    found = report(process)
    assert (found["rows"], found["out before"]) == (0, 0)
    assert found["backend"] not in gone
    assert found["backend"] in database.backends()


PRELOADING = [
    pytest.param(
        Server("gunicorn, preload", gunicorn(APPLICATION, "--preload", "--workers=2", HOOKS)), id="gunicorn --preload"
    ),
    pytest.param(Server("uWSGI", uwsgi(APPLICATION, "--processes=2")), id="uWSGI", marks=UWSGI),
]


@pytest.mark.parametrize("server", PRELOADING)
def test_children_have_connections_of_their_own(server: Server, database: Database) -> None:
    """Workers that were forked after the engine was used never speak on the connection of their parent."""
    with database.served_by(server) as process:
        parent = event(process, "process", "imported")["backend"]
        before = database.backends()[parent]

        with asked(process, "/wait", "one"):
            one = event(process, "one", "call")
            other = report(process)

        assert one["pid"] != other["pid"]
        assert len({parent, one["backend"], other["backend"]}) == 3
        assert database.backends()[parent] == before


@pytest.mark.parametrize("server", PRELOADING)
def test_a_child_that_is_forked_later(server: Server, database: Database) -> None:
    """A worker that takes the place of a killed one has a connection of its own, too."""
    with database.served_by(server) as process:
        parent = event(process, "process", "imported")["backend"]
        with asked(process, "/wait", "one"):
            one = event(process, "one", "call")
            other = report(process)
            os.kill(one["pid"], signal.SIGKILL)

        with asked(process, "/wait", "two"), asked(process, "/wait", "three"):
            pids = {event(process, name, "call")["pid"] for name in ("two", "three")}
            backends = {event(process, name, "call")["backend"] for name in ("two", "three")}

            assert other["pid"] in pids
            assert one["pid"] not in pids
            assert backends <= database.backends().keys() - {parent, one["backend"]}


def test_the_parents_connection_goes_on(database: Database) -> None:
    """After its children have used and closed theirs, the parent's connection is still its own, and works."""
    with database.served_by(
        Server("gunicorn, preload", gunicorn(APPLICATION, "--preload", "--workers=1", HOOKS))
    ) as process:
        imported = event(process, "process", "imported")
        child = report(process)

        os.kill(child["pid"], signal.SIGTERM)

        used_again = event(process, "process", "a child has ended")
        assert (used_again["pid"], used_again["backend"]) == (process.popen.pid, imported["backend"])
        assert report(process)["backend"] not in (imported["backend"], child["backend"])


def test_a_timeout_in_the_middle_of_a_statement(database: Database) -> None:
    """Gunicorn's ``--timeout`` raises SystemExit out of a statement: its connection is thrown away, its scope ended."""
    with database.served_by(Server("gunicorn, sync", gunicorn(APPLICATION, "--timeout=1"))) as process:
        answer = ask(process, "/sleep?slept")

        slept = event(process, "slept", "call")
        assert answer.status != 200
        if "SystemExit" not in process.output():
            miss("a gunicorn that raises SystemExit at a timeout")
        assert event(process, "slept", "end")
        assert event(process, "pool", "invalidated")["backend"] == slept["backend"]
        assert_next_is_right(process, database, slept["backend"])
        assert report(process)["pid"] != slept["pid"]


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(Server("gunicorn", gunicorn(APPLICATION, "--graceful-timeout=1")), id="gunicorn"),
        pytest.param(
            Server("uWSGI", uwsgi(APPLICATION, "--die-on-term", stop=False)), id="uWSGI --die-on-term", marks=UWSGI
        ),
    ],
)
def test_sigterm_in_mid_stream(server: Server, database: Database) -> None:
    """A process that is stopped in mid-stream leaves no connection, no transaction and no row behind."""
    with database.served_by(server) as process, asked(process, "/stream", "streamed") as client:
        process.stop()

        assert process.has_ended(10)
        client.answer()

    assert wait_until(lambda: not database.backends(), 5)
    with database.served_by(server) as process:
        assert_next_is_right(process, database)


SERVERS = [
    pytest.param(Server("gunicorn", gunicorn(APPLICATION, "--worker-class=gthread", "--threads=4")), id="gunicorn"),
    pytest.param(Server("uWSGI", uwsgi(APPLICATION, "--threads=4")), id="uWSGI", marks=UWSGI),
    pytest.param(Server("Twisted", twisted(APPLICATION)), id="Twisted"),
]


@pytest.mark.parametrize("server", SERVERS)
def test_a_killed_backend(server: Server, database: Database) -> None:
    """Whenever the database ends a connection, the request that used it fails, and the next one is right."""
    with database.served_by(server) as process:
        killed = []
        for path in ("/wait", "/stream"):
            with asked(process, path, path[1:]) as client:
                killed.append(event(process, path[1:], "call")["backend"])
                database.kill(killed[-1])
                open_gate(process, path[1:])
                answer = client.answer()
            assert answer.status != 200 or answer.body == str(killed[-1]).encode() + b" "
            assert_next_is_right(process, database, *killed)

        killed.append(report(process)["backend"])
        database.kill(killed[-1])
        assert_next_is_right(process, database, *killed)


@pytest.mark.parametrize("server", SERVERS[:1])
def test_a_restarted_database(server: Server) -> None:
    """When the database server is restarted under a stream, that stream fails, and the next request is right."""
    with postgresql.server() as database_server:
        database = Database(database_server.url)
        Base.metadata.create_all(database.engine)
        with database.served_by(server) as process:
            with asked(process, "/stream", "streamed") as client:
                lost = event(process, "streamed", "call")["backend"]
                database_server.crash()
                database_server.start()
                open_gate(process, "streamed")
                answer = client.answer()

            assert not answer.is_whole
            assert answer.body == str(lost).encode() + b" "
            assert_next_is_right(process, database)
