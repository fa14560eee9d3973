"""What thirty slow clients do to everybody else.

Thirty clients read 8 MB at 1 MB/s each, from a handler that did one SELECT, by a server with a thread for each and a
pool of five connections. Meanwhile four ordinary clients make small requests that need the database, too. If a response
keeps its connection while it is being read, five slow clients are all it takes: nobody else gets one, and what they see
is the pool's ``TimeoutError``, here as a 503.

    python -m benchmarks.slow_clients           # every setup, in about a quarter of an hour
    python -m benchmarks.slow_clients django    # one beside the same by hand, by its name in benchmarks/setups.py

The setups are measured in turn, and again and again, for the machine is not the same in each of those minutes. What the
columns say, of all rounds together:

- *slow clients served*: the others met a pool timeout;
- *alone*: ordinary requests answered in a second, before the slow clients came;
- *beside*: the same, while they were reading; *ratio*, this by that;
- *of by hand*: that ratio, by the one of a session that is opened and closed in the view, with its standard error;
- *pool timeouts*: those of ordinary requests, while they were reading.

The database is the PostgreSQL that the tests take, else SQLite. The server is gunicorn with its *gthread* worker, in a
process of its own. The buffers of its sockets are small, so that it is the client that reads slowly, and not the kernel
for it.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests import machine, postgresql

from . import gunicorn, setups
from .cost import Cost

BUFFER = 64 * 1024
SLOW, ORDINARY = 30, 4
"""How many clients there are."""

ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a server."""

    size: int
    """Of the body that the slow clients read, in bytes."""

    rate: int
    """At which each reads it, in bytes a second."""

    pool_timeout: float
    """How long a request waits for a connection, in seconds."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What ordinary clients got."""

    answered: int
    timeouts: int
    seconds: float

    @property
    def throughput(self) -> float:
        """Answered requests a second."""
        return self.answered / self.seconds


class Round(NamedTuple):
    """What one setup did, once."""

    served: int
    """How many slow clients were."""

    alone: Tally
    beside: Tally
    """What the ordinary ones got, before and meanwhile."""

    @property
    def ratio(self) -> float:
        """Throughput beside slow clients, by what it was alone."""
        return self.beside.throughput / self.alone.throughput


def measure(setup: str, load: Load, alone: float = 4.0) -> Round:
    """Let ordinary clients work for *alone* seconds, then beside slow ones until one of these is nearly through."""
    with served(setup, load) as port:
        ordinary(port, lasting(1))  # until every thread of the server has begun
        before = ordinary(port, lasting(alone))
        with slow_clients(port, load) as (statuses, nearly):
            beside = ordinary(port, lambda made: not nearly.is_set())
    return Round(statuses.count(200), before, beside)


def lasting(seconds: float) -> Callable[[int], bool]:
    """Return what says that an ordinary client goes on, until *seconds* have passed."""
    end = time.monotonic() + seconds
    return lambda made: time.monotonic() < end


def ordinary(port: int, goes_on: Callable[[int], bool]) -> Tally:
    """Make small requests, one after the other by each client.

    Args:
        port: Of the server.
        goes_on: Is asked, with the number of requests a client has made, whether it makes another.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(ORDINARY) as clients:
        statuses = [
            status for made in clients.map(_requests, [port] * ORDINARY, [goes_on] * ORDINARY) for status in made
        ]
    assert set(statuses) <= {200, 503}, statuses
    return Tally(statuses.count(200), statuses.count(503), time.monotonic() - began)


def _requests(port: int, goes_on: Callable[[int], bool]) -> list[int]:
    statuses: list[int] = []
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    while goes_on(len(statuses)):
        connection.request("GET", "/small")
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    return statuses


@contextmanager
def slow_clients(port: int, load: Load) -> Iterator[tuple[list[int], threading.Event]]:
    """Have clients read slowly for as long as the block lasts.

    Yields:
        The statuses that they were answered with, and what is set when one of them has read three quarters.
    """
    leave, nearly = threading.Event(), threading.Event()
    with ThreadPoolExecutor(SLOW) as clients:
        answers: list[Future[int]] = [Future() for _ in range(SLOW)]
        reading = [clients.submit(_read_slowly, port, load, answer, nearly, leave) for answer in answers]
        try:
            yield [answer.result(60) for answer in answers], nearly
        finally:
            leave.set()
    for client in reading:
        client.result()


def _read_slowly(port: int, load: Load, answer: Future[int], nearly: threading.Event, leave: threading.Event) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /big HTTP/1.0\r\n\r\n")
        answer.set_result(int(connection.recv(4096).split()[1]))
        began, received = time.monotonic(), 0
        while not leave.wait(max(0, began + received / load.rate - time.monotonic())):
            chunk = connection.recv(BUFFER // 2)
            if not chunk:
                return
            received += len(chunk)
            if received > load.size * 3 / 4:
                nearly.set()


@contextmanager
def database() -> Iterator[str]:
    """Yield the URL of a database of PostgreSQL's, if the tests have one, else of SQLite's."""
    if machine.SYSTEM["postgresql"]():
        with postgresql.database() as url:
            yield url.render_as_string(hide_password=False)
    else:
        with TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/app.db"


@contextmanager
def served(setup: str, load: Load) -> Iterator[int]:
    """Serve *setup* for as long as the block lasts, and yield the port."""
    with database() as url:
        arguments = (setup, url, load.pool_timeout, {"/big": load.size, "/small": 10})
        target = f"benchmarks.setups:application{arguments!r}"
        with gunicorn.served(target, threads=SLOW + ORDINARY + 2, buffer=BUFFER) as port:
            yield port


def main(names: list[str]) -> None:
    """Measure the setups in turn, and print a line for each."""
    load = Load(size=8 * 1024 * 1024, rate=1024 * 1024, pool_timeout=1.0)
    setup_names = list(dict.fromkeys(["by_hand", *(names or setups.SETUPS)]))
    found: dict[str, list[Round]] = {name: [] for name in setup_names}
    for _ in range(ROUNDS):
        for name in random.sample(setup_names, len(setup_names)):
            found[name].append(measure(name, load))
    print(f"On {'PostgreSQL' if machine.SYSTEM['postgresql']() else 'SQLite'}, {ROUNDS} rounds:")
    print(
        f"{'setup':26} {'slow clients served':>20} {'alone':>9} {'beside':>9} {'ratio':>7} {'of by hand':>15}", end=""
    )
    print(f" {'pool timeouts':>14}")
    by_hand = tuple(each.ratio for each in found["by_hand"])
    for name, rounds in found.items():
        ratios = tuple(each.ratio for each in rounds)
        alone = median(each.alone.throughput for each in rounds)
        beside = median(each.beside.throughput for each in rounds)
        compared = Cost(by_hand, ratios, "of its own throughput")
        served_slowly = f"{sum(each.served for each in rounds)} of {SLOW * ROUNDS}"
        timeouts = sum(each.beside.timeouts for each in rounds)
        print(f"{name:26} {served_slowly:>20} {alone:7.0f}/s {beside:7.0f}/s {median(ratios):7.2f}", end="")
        print(f" {compared.ratio:8.3f} ±{compared.error:.3f} {timeouts:>14}")


if __name__ == "__main__":
    main(sys.argv[1:])
