"""An example that runs: a server in a process of its own, what can be asked of it, and its database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.pool import NullPool

from .client import Client, asked

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT / "examples", ROOT / "examples" / "moving"]


def environment(url: URL, **more: object) -> dict[str, str]:
    """Return the environment of a process that finds the examples and uses the database at *url*.

    It is not measured: other tests reach the whole package, and examples that wait for a measure are slow.
    """
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    own = {"DATABASE_URL": url.render_as_string(), "PYTHONPATH": os.pathsep.join(map(str, [*FOLDERS, ROOT]))}
    return unmeasured | own | {name: str(value) for name, value in more.items()}


class Example:
    """A server that runs, and its database.  Lives as long as its process."""

    def __init__(self, process: subprocess.Popen[str], url: URL) -> None:
        """Wait until it listens."""
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.url = url

    def ask(self, method: str, path: str, content: Any = None) -> tuple[int, bytes]:
        """Make a request; return the status and the body."""
        body = json.dumps(content).encode() if content else b""
        answer = asked(self.port, path, method, body, {"Content-Type": "application/json"})
        return answer.status, answer.body

    def add(self, *texts: str) -> int:
        """Add notes, in one request; return the status."""
        return self.ask("POST", "/notes", {"notes": texts})[0]

    def show(self) -> list[str]:
        """Ask for the notes."""
        status, body = self.ask("GET", "/notes")
        assert status == 200
        notes: list[str] = json.loads(body)["notes"]
        return notes

    def seen(self) -> dict[str, Any]:
        """Ask for what the watch around the example has seen."""
        seen: dict[str, Any] = json.loads(self.ask("GET", "/-/seen")[1])
        return seen

    def is_at_rest(self) -> bool:
        """Say whether nothing is out; a server may close a response a moment after its client has read it."""
        deadline = time.monotonic() + 10
        while self.seen()["out"] != {"connections": 0, "responses": 0}:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    @contextmanager
    def asked_slowly(self, path: str) -> Iterator[Client]:
        """Ask for a page, and wait until the answer has begun, but read nothing of it before the block."""
        with Client(self.port, timeout=30, receive_buffer=4096) as client:
            client.send(path, headers={"Connection": "close"})
            assert client.peek(30)
            yield client

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
            environ = environment(url.update_query_dict({"plugin": "pool_of_one"}))
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ)
            stack.enter_context(process)
            stack.callback(process.terminate)
            running[target] = (process, url)
        yield {target: Example(*running[target]) for target in targets}
