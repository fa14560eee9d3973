"""The examples, each in a process of its own, on a real server whose pool has one connection."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

ROOT = Path(__file__).parent.parent

REFUSALS = {
    "bottle_app:application": 500,
    "cherrypy_app:application": 500,
    "django_app:application": 500,
    "falcon_app:application": 409,
    "flask_app:app": 500,
    "pyramid_app:application": 409,
    "webob_app:application": 500,
    "werkzeug_app:application": 500,
    "wsgi_app:application": 500,
}
"""The examples, each with the status of its answer when the database refuses a note: an error page, or the server's."""

MEGABYTES = 12
"""The size of what a slow client asks for: more than the buffers between it and the server hold."""


class Example:
    """A server that runs, and its database.  Lives as long as its process.

    ``most`` is how many connections were out at once, when it was last asked for.
    """

    def __init__(self, process: subprocess.Popen[str], url: URL) -> None:
        """Wait until it listens."""
        assert process.stdout is not None
        self.port = int(process.stdout.readline() or pytest.fail("The server did not start; see its errors above."))
        self.url = url
        self.most = 0

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, bytes]:
        """Make a request; return the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, content and json.dumps(content), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def add(self, *texts: str) -> int:
        """Add notes, in one request; return the status."""
        return self.ask("POST", "/notes", {"notes": texts})[0]

    def show(self) -> list[str]:
        """Ask for the notes."""
        status, body = self.ask("GET", "/notes")
        assert status == 200
        notes: list[str] = json.loads(body)["notes"]
        return notes

    def out(self) -> dict[str, int]:
        """Ask for the number of connections and of responses that are out."""
        out: dict[str, int] = json.loads(self.ask("GET", "/-/out")[1])
        self.most = out.pop("most")
        return out

    def is_at_rest(self) -> bool:
        """Say whether nothing is out; a server may close a response a moment after its client has read it."""
        deadline = time.monotonic() + 10
        while self.out() != {"connections": 0, "responses": 0}:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    @contextmanager
    def asked_slowly(self, path: str) -> Iterator[http.client.HTTPResponse]:
        """Ask for a page, and read only its head and the first of its bytes before the block."""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", self.port))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            with http.client.HTTPResponse(connection) as response:
                response.begin()
                assert response.read(1)
                yield response

    def stored(self) -> list[str]:
        """Read what has been committed."""
        with self._database() as connection:
            return list(connection.scalars(text("SELECT text FROM note ORDER BY id")))

    def store(self, *texts: str) -> None:
        """Replace what is there."""
        with self._database() as connection:
            connection.execute(text("DELETE FROM note"))
            for one in texts:
                connection.execute(text("INSERT INTO note (text) VALUES (:text)"), {"text": one})

    @contextmanager
    def _database(self) -> Iterator[Connection]:
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            yield connection


@contextmanager
def started(folder: Path, *targets: str, options: tuple[str, ...] = ()) -> Iterator[dict[str, Example]]:
    """Run a server for each of *targets*, all started at once."""
    with ExitStack() as stack:
        running = {}
        for target in targets:
            url = URL.create("sqlite", database=str(folder / f"{target.partition(':')[0]}.db"))
            command = [sys.executable, "-m", "tests.example_server", target, *options]
            environ = os.environ | {"DATABASE_URL": url.update_query_dict({"plugin": "pool_of_one"}).render_as_string()}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ)
            stack.enter_context(process)
            stack.callback(process.terminate)
            running[target] = (process, url)
        yield {target: Example(*running[target]) for target in targets}


@pytest.fixture(scope="module")
def all_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Example]]:
    """Run all examples."""
    with started(tmp_path_factory.mktemp("examples"), *REFUSALS) as examples:
        yield examples


@pytest.fixture(params=REFUSALS, ids=lambda target: target.partition(":")[0])
def target(request: Any) -> str:
    """Name an example."""
    name: str = request.param
    return name


@pytest.fixture
def example(all_started: dict[str, Example], target: str) -> Example:
    """Return a running example that has one note."""
    all_started[target].store("milk")
    return all_started[target]


def test_a_write_lasts(example: Example) -> None:
    """What a request has added, and has told its client so, is in the database."""
    status = example.add("bread", "salt")

    assert status == 201
    assert example.stored() == example.show() == ["milk", "bread", "salt"]
    assert example.is_at_rest()


def test_an_error_page_leaves_nothing(example: Example) -> None:
    """What was added before the view raised its 400 is not there, and the next request is right."""
    status = example.add("bread", "")

    assert status == 400
    assert example.stored() == ["milk"]
    assert example.add("salt") == 201
    assert example.stored() == ["milk", "salt"]
    assert example.is_at_rest()


def test_an_exception_leaves_nothing(example: Example, target: str) -> None:
    """What was added before the database refused is not there, and the next request is right."""
    status = example.add("bread", "milk")

    assert status == REFUSALS[target]
    assert example.stored() == ["milk"]
    assert example.add("salt") == 201
    assert example.stored() == ["milk", "salt"]
    assert example.is_at_rest()


def large_notes() -> list[str]:
    """Make many notes that are long."""
    return [f"{number} {'x' * 99_990}" for number in range(10 * MEGABYTES)]


def test_a_stream(example: Example) -> None:
    """A body is produced as its client reads it, by its session, and what it holds is given back at its end."""
    example.store(*large_notes())

    with example.asked_slowly("/notes/export") as response:
        meanwhile = example.out()
        rest = response.read().decode()

    assert meanwhile == {"connections": 1, "responses": 1}
    assert response.getheader("Content-Length") is None
    assert ("0" + rest).splitlines() == large_notes()
    assert example.is_at_rest()


def test_a_stream_whose_client_leaves(example: Example) -> None:
    """What a stream holds is given back when its client has gone half-way."""
    example.store(*large_notes())

    with example.asked_slowly("/notes/export"):
        meanwhile = example.out()

    assert meanwhile == {"connections": 1, "responses": 1}
    assert example.is_at_rest()


def test_a_slow_client_holds_no_connection(example: Example) -> None:
    """While a client reads an ordinary page, its request has no connection, and others have the only one there is."""
    example.store(*large_notes())

    with example.asked_slowly("/notes") as response:
        meanwhile = example.out()
        other = example.add("bread")
        rest = response.read()

    assert meanwhile == {"connections": 0, "responses": 1}
    assert other == 201
    assert json.loads(b"{" + rest) == {"notes": large_notes()}
    assert example.is_at_rest()


def test_a_slow_client_without_a_rule(tmp_path: Path) -> None:
    """Without a rule the same view of Flask's does hold its connection until the client has read."""
    with started(tmp_path, "flask_app:app", options=("--without-rule",)) as examples:
        example = examples["flask_app:app"]
        example.store(*large_notes())

        with example.asked_slowly("/notes"):
            meanwhile = example.out()

        assert meanwhile == {"connections": 1, "responses": 1}
        assert example.is_at_rest()


def test_two_hundred_requests_on_a_pool_of_one(example: Example, target: str) -> None:
    """Requests of all kinds, eight at a time, get on with one connection, and leave it in the pool."""
    kinds: list[Callable[[int], int]] = [
        lambda number: example.ask("GET", "/notes")[0],
        lambda number: example.ask("GET", "/notes/export")[0],
        lambda number: example.ask("GET", "/nowhere")[0],
        lambda number: example.add(f"note {number}"),
        lambda number: example.add(f"bad {number}", ""),
        lambda number: example.add(f"bad {number}", "milk"),
    ]

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda number: kinds[number % 6](number), range(200)))

    wanted = Counter({200: 34 + 34, 404: 33, 201: 33, 400: 33})
    wanted[REFUSALS[target]] += 33
    assert statuses == wanted
    assert set(example.stored()) == {"milk", *(f"note {number}" for number in range(3, 200, 6))}
    assert example.is_at_rest()
    assert example.most == 1
