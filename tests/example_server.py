"""Serves one of the examples, as a process of its own, by a server that waits for its clients.

::

    python -m tests.example_server flask_app:app        # prints its port

Beside the example's pages it has one of its own, ``/-/out``: how many connections are checked out of the pools, and how
many responses have not been closed yet.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cheroot.wsgi import Server
from sqlalchemy import create_engine, event
from sqlalchemy.pool import Pool

EXAMPLES = Path(__file__).parent.parent / "examples"


class Watch:
    """Counts what is out.  Lives as long as the server."""

    def __init__(self, app: Any) -> None:
        """Watch *app*, and every pool of the process."""
        self.app = app
        self.connections: set[Any] = set()
        self.responses: set[Body] = set()
        event.listen(Pool, "checkout", lambda connection, record, proxy: self.connections.add(record))
        event.listen(Pool, "checkin", lambda connection, record: self.connections.discard(record))

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/-/out":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({"connections": len(self.connections), "responses": len(self.responses)}).encode()]
        body = Body(self, self.app(environ, start_response))
        self.responses.add(body)
        return body


class Body:
    """A response that is being sent."""

    def __init__(self, watch: Watch, chunks: Iterable[bytes]) -> None:
        """Hand on *chunks*."""
        self._watch = watch
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        """Return the chunks."""
        return iter(self._chunks)

    def close(self) -> None:
        """Close it."""
        try:
            if close := getattr(self._chunks, "close", None):
                close()
        finally:
            self._watch.responses.discard(self)


def load(target: str) -> Any:
    """Import an example's application; that of the notes on a pool of one connection."""
    sys.path.insert(0, str(EXAMPLES))
    module, _, name = target.partition(":")
    if not module.startswith("moving."):
        notes = importlib.import_module("notes")
        url = notes.engine.url
        notes.engine.dispose()
        notes.engine = create_engine(url, pool_size=1, max_overflow=0)
        notes.Session.configure(bind=notes.engine)
    return getattr(importlib.import_module(module), name)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", help="module:name")
    parser.add_argument("--without-rule", action="store_true", help="whatever the example says")
    arguments = parser.parse_args()
    app = load(arguments.target)
    if arguments.without_rule:
        app.wsgi_app.commit = None
    server = Server(("127.0.0.1", 0), Watch(app), numthreads=12)
    server.prepare()
    print(server.bind_addr[1], flush=True)
    server.serve()


if __name__ == "__main__":
    main()
