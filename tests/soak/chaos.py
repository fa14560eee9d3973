"""Clients that write and read, while servers are killed, delayed, promoted and switched over beneath them."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, create_engine, select
from sqlalchemy.pool import NullPool

from benchmarks import gunicorn
from tests import replication

from . import replicated
from .replicated import Mark

CLIENTS = 8
MAX_AGE = 4
"""The seconds for which a token is good."""


class Server(NamedTuple):
    """A server that clients ask, and those behind it."""

    port: int
    cluster: Cluster


class Cluster:
    """Three servers, of which one is the primary, and a fourth that follows.  Lives as long as the block.

    Each is also named as a replica. The fourth is none that writes can come to, for it is promoted past the others.
    """

    def __init__(self, primary: replication.Member, standbys: list[replication.Member]) -> None:
        """Know who is what."""
        self.primary = primary
        *self.standbys, self.stray = standbys

    @property
    def address(self) -> URL:
        """The address of whichever is the primary."""
        hosts = [f"127.0.0.1:{server.url.port}" for server in (self.primary, *self.standbys)]
        return self.primary.url.set(host=None, port=None, query={"host": hosts, "target_session_attrs": "read-write"})

    def followers(self) -> list[replication.Member]:
        """Return all that follow the primary."""
        return [*self.standbys, self.stray]

    def switch_over(self, chance: random.Random) -> None:
        """Have another server be the primary."""
        old, new = self.primary, chance.choice(self.standbys)
        wait_until(lambda: is_followed_by(old, 3))
        others = [server for server in self.followers() if server is not new]
        replication.switch_over(old, new, others)
        self.primary, self.standbys = new, [server for server in (old, *self.standbys) if server is not new]
        self.stray.primary = new


def is_followed_by(primary: replication.Member, standbys: int) -> bool:
    """Say whether so many standbys stream from a server."""
    counted = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    return bool(replication.execute(primary, counted) == standbys)


def wait_until(is_so: Callable[[], bool], patience: float = 30) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


@contextmanager
def served(output: Path, workers: int = 2) -> Iterator[Server]:
    """Serve the application over a cluster, for as long as the block lasts; its log is *output*."""
    with replication.postgresql(3, wal_keep_size="256MB") as (primary, standbys), output.open("wb") as log:
        replicated.Base.metadata.create_all(create_engine(primary.url, poolclass=NullPool))
        cluster = Cluster(primary, standbys)
        replicas = [server.url for server in (primary, *standbys)]
        variables = replicated.environment(cluster.address, replicas, wait=0.01, max_age=MAX_AGE)
        target = "tests.soak.replicated:application()"
        with gunicorn.served(target, workers=workers, threads=replicated.THREADS, output=log, **variables) as port:
            yield Server(port, cluster)


# What strikes


def kill_replica(cluster: Cluster, chance: random.Random) -> None:
    """Kill a replica, and start it again, so late that it has to show where it is."""
    standby = chance.choice(cluster.followers())
    standby.crash()
    time.sleep(chance.uniform(0, 0.5))
    standby.start()


def pause_replica(cluster: Cluster, chance: random.Random) -> None:
    """Have a replica stand still for a while."""
    standby = chance.choice(cluster.followers())
    standby.pause()
    time.sleep(chance.uniform(0.2, 1))
    standby.resume()


def delay_replica(cluster: Cluster, chance: random.Random) -> None:
    """Have a replica be late, from now on."""
    chance.choice(cluster.followers()).delay(f"{chance.choice([0, 50, 300, 1000])}ms")


def kill_backends(cluster: Cluster, chance: random.Random) -> None:
    """End connections to the primary and to a replica, many times."""
    for _ in range(10):
        for server in (cluster.primary, chance.choice(cluster.followers())):
            replication.execute(
                server,
                "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type ="
                " 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 3) AS chosen",
            )
        time.sleep(0.03)


def promote_stray(cluster: Cluster, chance: random.Random) -> None:
    """Promote a replica that nobody writes to, and make it a replica anew after a while."""
    cluster.stray.promote()
    time.sleep(chance.uniform(0, 0.5))
    cluster.stray.primary = cluster.primary
    cluster.stray.rebuild()


def switch_over(cluster: Cluster, chance: random.Random) -> None:
    """Have another server be the primary."""
    for standby in cluster.followers():
        standby.delay("0")
    cluster.switch_over(chance)


STRIKES = (kill_replica, pause_replica, delay_replica, kill_backends, promote_stray, switch_over)


# Who asks


class Token(NamedTuple):
    """A token, and what its bearer is to see."""

    cookie: str
    client: int
    written: int
    """How many writes of that client had been answered with success."""

    until: float
    """When it is too old."""


@dataclass(slots=True)
class Report:
    """What came of it."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    """How many answers of 200 each kind of request had."""

    ports: Counter[int] = field(default_factory=Counter)
    strikes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """What must not be."""

    tokens: dict[int, list[Token]] = field(default_factory=dict)
    done: dict[int, set[int]] = field(default_factory=dict)
    """The numbers that were answered with success, by client; then those that may have been done."""

    doubtful: dict[int, set[int]] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say it in a few lines."""
        return (
            f"statuses {dict(self.statuses)}, in doubt {sum(map(len, self.doubtful.values()))}\n"
            f"answered {dict(self.kinds)}\nread from {dict(self.ports)}\nstruck {dict(self.strikes)}\n"
            + "\n".join(self.faults[:20])
        )


class Client:
    """Asks, one request after the other.  Lives as long as the chaos."""

    def __init__(self, number: int, port: int, report: Report, chance: random.Random) -> None:
        """Be the client of this *number*."""
        self._chance = chance
        self._number = number
        self._port = port
        self._report = report
        self._written = 0
        report.tokens[number], report.done[number], report.doubtful[number] = [], set(), set()

    def run(self, is_over: threading.Event) -> None:
        """Ask until it is over."""
        kinds = ["write", "write", "write in a GET", "read", "read", "read", "read", "replay", "of another"]
        kinds += ["forged", "expired", "without"]
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            while not is_over.is_set():
                kind = self._chance.choice(kinds)
                try:
                    self._ask(connection, kind)
                except Exception as error:
                    self._report.faults.append(f"{kind}: {error!r}")
                    connection.close()

    def _ask(self, connection: HTTPConnection, kind: str) -> None:
        if kind.startswith("write"):
            self._write(connection, kind)
            return
        token = self._token(kind)
        client = self._number if token is None else token.client
        at_most = self._written if client == self._number else None
        response, said = _asked(connection, "GET", f"/?client={client}", token)
        self._report.statuses[response.status] += 1
        if response.status == 200:
            self._report.kinds[kind] += 1
            self._report.ports[said["port"]] += 1
            self._judge(kind, token, said["found"], at_most)
        elif response.status not in (503, 504):
            self._report.faults.append(f"{kind}: {response.status}")

    def _judge(self, kind: str, token: Token | None, found: int, at_most: int | None) -> None:
        if found % 2:
            self._report.faults.append(f"{kind}: half of a write")
        if at_most is not None and found > 2 * at_most:
            self._report.faults.append(f"{kind}: {found} marks of {at_most} writes")
        if token is not None and time.time() < token.until and found < 2 * token.written:
            self._report.faults.append(f"{kind}: stale, {found} marks of {token.written} writes")

    def _token(self, kind: str) -> Token | None:
        """Return what is brought: a token that is not good any more is to be seen by nobody."""
        own = self._report.tokens[self._number]
        if not own or kind == "without":
            return None
        if kind == "read":
            return own[-1]
        if kind == "forged":
            at = self._chance.randrange(len("database_position="), len(own[-1].cookie))
            other = "x" if own[-1].cookie[at] != "x" else "y"
            return own[-1]._replace(cookie=f"{own[-1].cookie[:at]}{other}{own[-1].cookie[at + 1 :]}", until=0)
        if kind == "of another":
            others = [tokens[-1] for tokens in self._report.tokens.values() if tokens]
            return self._chance.choice(others)
        of_age = [token for token in own[-200:] if (time.time() > token.until) == (kind == "expired")]
        return self._chance.choice(of_age) if of_age else None

    def _write(self, connection: HTTPConnection, kind: str) -> None:
        self._written += 1
        number, own = self._written, self._report.tokens[self._number]
        self._report.doubtful[self._number].add(number)
        path = f"/?client={self._number}&number={number}"
        method, path = ("POST", path) if kind == "write" else ("GET", f"{path}&writes=1")
        asked = time.time()
        response, _ = _asked(connection, method, path, own[-1] if own else None)
        self._report.statuses[response.status] += 1
        if response.status == 200:
            self._report.kinds[kind] += 1
            self._report.done[self._number].add(number)
            self._report.doubtful[self._number].discard(number)
            cookie = response.headers.get("Set-Cookie", "").partition(";")[0]
            if not cookie:
                self._report.faults.append(f"{kind}: no token")
                return
            written = len(self._report.done[self._number])
            own.append(Token(cookie, self._number, written, asked + MAX_AGE - 1))
        elif response.status not in (503, 504):
            self._report.faults.append(f"{kind}: {response.status}")
        elif response.headers.get("X-Outcome") != "unknown":
            self._report.doubtful[self._number].discard(number)


def _asked(connection: HTTPConnection, method: str, path: str, token: Token | None) -> tuple[Any, dict[str, Any]]:
    connection.request(method, path, headers={} if token is None else {"Cookie": token.cookie})
    response = connection.getresponse()
    body = response.read()
    return response, json.loads(body) if response.status == 200 else {}


def run(server: Server, seed: int, seconds: float) -> Report:
    """Let clients ask for so many *seconds*, and strike beneath them; then look at what is stored."""
    report, is_over, chance = Report(), threading.Event(), random.Random(seed)
    clients = [
        Client(seed * 100 + number, server.port, report, random.Random(chance.random())) for number in range(CLIENTS)
    ]
    threads = [threading.Thread(target=client.run, args=(is_over,)) for client in clients]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            for strike in chance.sample(STRIKES, len(STRIKES)):
                time.sleep(chance.uniform(0.2, 0.6))
                report.strikes[strike.__name__] += 1
                strike(server.cluster, chance)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    _compare(server.cluster.primary, report)
    return report


def _compare(primary: replication.Member, report: Report) -> None:
    """Compare what was answered with what is there."""
    with create_engine(primary.url, poolclass=NullPool).connect() as connection:
        rows = connection.execute(select(Mark.client, Mark.number, Mark.half)).all()
    stored = Counter((client, number, half) for client, number, half in rows)
    for client, done in report.done.items():
        for number in done:
            if [stored[client, number, half] for half in (0, 1)] != [1, 1]:
                report.faults.append(
                    f"client {client}, write {number}: {[stored[client, number, half] for half in (0, 1)]}"
                )
    for (client, number, half), count in stored.items():
        if client not in report.done or number in report.done[client]:
            continue
        if number not in report.doubtful[client]:
            report.faults.append(f"client {client}, write {number}: was not to be")
        elif count != 1 or stored[client, number, 1 - half] != 1:
            report.faults.append(f"client {client}, write {number}: a half, or twice")
