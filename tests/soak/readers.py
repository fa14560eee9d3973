"""Clients that write, and then read at once what they have written."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

CLIENTS = 8


@dataclass(slots=True)
class Tally:
    """What the clients have seen, all together."""

    ports: Counter[int] = field(default_factory=Counter)
    """How many reads each server has answered, by its port."""

    statuses: Counter[int] = field(default_factory=Counter)
    stale: int = 0
    """Reads that have not seen what their client had written before."""

    last: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What each process has said last, by its id."""

    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def reads(self) -> int:
        """How many reads there were."""
        return sum(self.ports.values())

    @property
    def polls(self) -> int:
        """How often replicas were asked for their positions."""
        return sum(said["polls"] for said in self.last.values())

    def share_of(self, ports: set[int]) -> float:
        """Return the share of the reads that these servers have answered."""
        return sum(self.ports[port] for port in ports) / self.reads

    def add(self, said: dict[str, Any], written: int | None) -> None:
        """Note the answer to a read, which should have *written* marks, or to a write."""
        with self.lock:
            if said["polls"] >= self.last.get(said["pid"], said)["polls"]:
                self.last[said["pid"]] = said
            if written is not None:
                self.ports[said["port"]] += 1
                self.stale += said["found"] < written


def read_what_was_written(
    port: int, reads: int, *, reads_each: int, with_token: bool, pause: float = 0.0, first_client: int = 0
) -> Tally:
    """Have clients write, and read *reads_each* times after each write, until there were so many *reads*.

    Args:
        port: Of the server.
        reads: How many in all.
        reads_each: How many after each write.
        with_token: Whether they bring what they were given; otherwise they are sent by their method alone.
        pause: The seconds between a write and the reads, as a browser has them that is sent on to another page.
        first_client: The number of the first client, of which nothing has been written yet.
    """
    tally = Tally()
    rounds = max(1, reads // (CLIENTS * reads_each))

    def client(number: int) -> None:
        cookie: dict[str, str] = {}
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            for written in range(1, rounds + 1):
                response, said = _ask(connection, "POST", f"/?client={number}&number={written}", cookie)
                assert response.status == 200, response.status
                if with_token:
                    cookie = {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}
                tally.add(said, None)
                time.sleep(pause)
                for _ in range(reads_each):
                    response, said = _ask(connection, "GET", f"/?client={number}", cookie)
                    assert response.status == 200, response.status
                    tally.add(said, 2 * written)

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(client, range(first_client, first_client + CLIENTS)))
    return tally


def _ask(connection: HTTPConnection, method: str, path: str, headers: dict[str, str]) -> tuple[Any, dict[str, Any]]:
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    said: dict[str, Any] = json.loads(response.read())
    return response, said
