"""Serves one of the examples, as a process of its own, by a server that waits for its clients.

::

    python -m tests.example_server flask_app:app        # prints its port

Beside the example's pages it has one of its own, ``/-/seen``, which says what a `Watch` around the example has seen.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from cheroot.wsgi import Server
from sqlalchemy import URL, CreateEnginePlugin, event
from sqlalchemy.dialects import plugins
from sqlalchemy.pool import Pool

from wsgi_session import SessionMiddleware, until_close


class Watch:
    """Counts what goes out and comes in.  Lives as long as the server.

    What is ``out`` is connections checked out of the pools, and responses that have not been closed yet; ``most`` is
    how many connections have been out at once, ``raised`` how many requests have ended in an exception for the server.
    """

    def __init__(self, app: Any) -> None:
        """Watch *app*, and every pool of the process."""
        self.app = app
        self.connections: set[Any] = set()
        self.most = 0
        self.raised = 0
        self.responses: set[Body] = set()
        event.listen(Pool, "checkout", self._on_checkout)
        event.listen(Pool, "checkin", lambda connection, record: self.connections.discard(record))

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/-/seen":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._seen()).encode()]
        try:
            body = Body(self, self.app(environ, start_response))
        except Exception:
            self.raised += 1
            raise
        self.responses.add(body)
        return body

    def _seen(self) -> dict[str, Any]:
        out = {"connections": len(self.connections), "responses": len(self.responses)}
        return {"out": out, "most": self.most, "raised": self.raised}

    def _on_checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        self.connections.add(record)
        self.most = max(self.most, len(self.connections))


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


class PoolOfOne(CreateEnginePlugin):
    """Makes the pool of an engine small, if its address ends with ``?plugin=pool_of_one``."""

    def update_url(self, url: URL) -> URL:
        """Take the plugin out of the address."""
        return url.difference_update_query(["plugin"])

    def handle_pool_kwargs(self, pool_cls: type[Pool], pool_args: dict[str, Any]) -> None:
        """Have the pool hold one connection."""
        pool_args.update(pool_size=1, max_overflow=0)


def load(target: str) -> Any:
    """Import an example's application; parentheses after its name have a factory make it."""
    plugins.register("pool_of_one", __name__, PoolOfOne.__name__)
    module, _, name = target.partition(":")
    found = getattr(importlib.import_module(module), name.removesuffix("()"))
    return found() if name.endswith("()") else found


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", help="module:name, or module:name() for a factory")
    parser.add_argument("--without-rule", action="store_true", help="whatever the example says")
    arguments = parser.parse_args()
    app = load(arguments.target)
    if arguments.without_rule:
        middleware = app.wsgi_app
        app.wsgi_app = SessionMiddleware(middleware.app, middleware.registry, commit=until_close)
    server = Server(("127.0.0.1", 0), Watch(app), numthreads=12, timeout=60)
    server.prepare()
    print(server.bind_addr[1], flush=True)
    server.serve()


if __name__ == "__main__":
    main()
