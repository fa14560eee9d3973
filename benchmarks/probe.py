"""The probe: what measures one side of one subject, in an environment of its own.

    python -m benchmarks.probe QUESTION SUBJECT SIDE [DATABASE]

The questions are the functions in `QUESTIONS`: some answer a meter, some are printed as JSON. A side is ``without`` or
``beside``.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from .client import EXPECTED, Client
from .meters import answer
from .subjects import SUBJECTS, Build
from .wire import RoundTrips, wired
from .words import ROWS, count_words, in_memory, on_server
from .work import CHUNKS

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

TIMES = {"untouched": 100, "stream": 40, "select": 10, "rows": 4, "insert": 10}
"""How many requests to each view are measured at a time."""

TRIPS = 10

OPEN = (10, 100, 1_000, 10_000)
THREADS = (1, 4, 16, 64)


def costs(build: Build) -> None:
    """Answer what a request to each view costs."""
    app = build(in_memory())
    answer({view: _asking(app, view) for view in TIMES}, TIMES)


def open_responses(build: Build) -> None:
    """Answer what a streamed response costs, when so many of them are open and step in turn on one thread."""
    client = Client(build(in_memory()), "stream")
    _interleave(client, 10)
    interleave = partial(_interleave, client)
    answer({str(count): interleave for count in OPEN}, {str(count): count for count in OPEN})


def threads(build: Build) -> None:
    """Answer what an untouched request costs, when so many threads make them and hold a response open, too."""
    app = build(in_memory())
    calls = {str(count): partial(_on_threads, app, count) for count in THREADS}
    answer(calls, dict.fromkeys(calls, 20 * max(THREADS)))


def memory(build: Build, count: int = 1_000) -> float:
    """Say how many bytes each of *count* responses takes that are open at the same time."""
    client = Client(build(in_memory()), "stream")
    client.ask(10)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    responses = [client.opened() for _ in range(count)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for response in responses:
        response.close()
    return (after - before) / count


def round_trips(build: Build, url: str) -> dict[str, int]:
    """Say how often a request to each view waits for the database at *url*.

    Raises:
        RuntimeError: If what was inserted is not in the database.
    """
    found = {}
    server, trips = make_url(url), RoundTrips()
    with wired((server.host or "127.0.0.1", server.port or 5432), trips.new_listener) as port:
        app = build(on_server(server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)))
        for view in EXPECTED:
            client = Client(app, view)
            before = trips.count
            client.ask(TRIPS)
            found[view] = (trips.count - before) // TRIPS
        if (rows := count_words(url)) != ROWS + 1 + TRIPS:
            raise RuntimeError(f"What was inserted has not been committed: there are {rows} rows.")
    return found


QUESTIONS: dict[str, Callable[..., Any]] = {
    question.__name__: question for question in (costs, open_responses, threads, memory, round_trips)
}


def _asking(app: WSGIApplication, view: str) -> Callable[[int], None]:
    client = Client(app, view)
    client.ask(100)
    return client.ask


def _interleave(client: Client, count: int) -> None:
    responses = [client.opened() for _ in range(count)]
    for _ in range(CHUNKS):
        for response in responses:
            response.step()
    for response in responses:
        response.close()


def _on_threads(app: WSGIApplication, count: int, times: int) -> None:
    stream, untouched = Client(app, "stream"), Client(app, "untouched")
    all_open = threading.Barrier(count)

    def run() -> None:
        response = stream.opened()
        all_open.wait()
        untouched.ask(times // count)
        all_open.wait()
        response.close()

    running = [threading.Thread(target=run) for _ in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def main(question: str, name: str, side: str, *arguments: str) -> None:
    """Answer *question* about a side of the subject *name*."""
    found = QUESTIONS[question](getattr(SUBJECTS[name], side), *arguments)
    if found is not None:
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
