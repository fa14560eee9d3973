"""The probe: what measures one subject, in an environment of its own, and prints what it found as JSON.

    python -m benchmarks.probe SUBJECT QUESTION [DATABASE]

The questions are the functions in `QUESTIONS`.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from .client import EXPECTED, Client
from .meters import Calls, compare
from .subjects import SUBJECTS, Subject
from .wire import wired
from .words import Options, count_words, in_memory, on_server
from .work import CHUNKS

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

TIMES = {"untouched": 400, "stream": 400, "select": 150, "insert": 150}
"""How many requests are counted to each view."""

TRIPS = 10

OPEN = (10, 100, 1_000, 10_000)
THREADS = (1, 4, 16, 64)


def costs(subject: Subject) -> dict[str, Any]:
    """Say what a request to each view costs, without the subject and with it."""

    def asking(build: Callable[[Options], WSGIApplication]) -> Calls:
        app = build(in_memory())
        return {view: _asking(app, view) for view in EXPECTED}

    return _compared(subject, asking, TIMES)


def memory(subject: Subject) -> float:
    """Say how many bytes the subject adds to each of 1,000 responses that are open at the same time."""
    return _bytes_open(subject.build(in_memory())) - _bytes_open(subject.without(in_memory()))


def open_responses(subject: Subject) -> dict[str, Any]:
    """Say what a streamed response costs, when so many of them are open and step in turn on one thread."""

    def interleaving(build: Callable[[Options], WSGIApplication]) -> Calls:
        client = Client(build(in_memory()), "stream")
        _interleave(client, 10)
        return {str(count): partial(_interleave, client) for count in OPEN}

    return _compared(subject, interleaving, {str(count): count for count in OPEN})


def threads(subject: Subject) -> dict[str, Any]:
    """Say what an untouched request costs, when so many threads make them and hold a response open, too."""

    def on_threads(build: Callable[[Options], WSGIApplication]) -> Calls:
        app = build(in_memory())
        return {str(count): partial(_on_threads, app, count) for count in THREADS}

    return _compared(subject, on_threads, {str(count): 20 * max(THREADS) for count in THREADS})


def round_trips(subject: Subject, url: str) -> dict[str, list[int]]:
    """Say how often a request to each view waits for the database at *url*, without the subject and with it.

    Raises:
        RuntimeError: If what was inserted is not in the database.
    """
    found: dict[str, list[int]] = {view: [] for view in EXPECTED}
    with wired(make_url(url)) as (wire, wired_url):
        options = on_server(wired_url.render_as_string(hide_password=False))
        for build in (subject.without, subject.build):
            app = build(options)
            for view, counts in found.items():
                client = Client(app, view)
                before = wire.round_trips
                client.ask(TRIPS)
                counts.append((wire.round_trips - before) // TRIPS)
            if (rows := count_words(url)) != 1 + 1 + TRIPS:
                raise RuntimeError(f"{subject.title} has not committed: there are {rows} rows.")
    return found


QUESTIONS: dict[str, Callable[..., Any]] = {
    question.__name__: question for question in (costs, memory, open_responses, threads, round_trips)
}


def _compared(
    subject: Subject, calls: Callable[[Callable[[Options], WSGIApplication]], Calls], times: dict[str, int]
) -> dict[str, Any]:
    found = compare(partial(calls, subject.without), partial(calls, subject.build), times)
    return {name: asdict(cost) for name, cost in found.items()}


def _asking(app: WSGIApplication, view: str) -> Callable[[int], None]:
    client = Client(app, view)
    client.ask(200)
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


def _bytes_open(app: WSGIApplication, count: int = 1_000) -> float:
    client = Client(app, "stream")
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


def main(name: str, question: str, *arguments: str) -> None:
    """Answer *question* about the subject *name*."""
    answer = QUESTIONS[question](SUBJECTS[name], *arguments)
    versions = {distribution.name: distribution.version for distribution in distributions()}
    print(json.dumps({"versions": versions, "answer": answer}))


if __name__ == "__main__":
    main(*sys.argv[1:])
