"""Reads over a real server, with two workers, and two standbys: none is stale for a client that brings its position."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from benchmarks import gunicorn
from tests import replication

from . import IS_LONG, replicated
from .readers import CLIENTS, read_what_was_written

READS = 1_000_000 if IS_LONG else 10_000
"""With a position, while the replicas are late."""

pytestmark = pytest.mark.system("postgresql-server")

first_clients = count(0, CLIENTS)
"""The numbers of clients that have not written yet."""


class Place(NamedTuple):
    """A server, and what is behind it."""

    port: int
    standbys: list[replication.Member]
    ports: set[int]
    """Those of the standbys."""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Serve the application with two workers, over a primary and two standbys."""
    with replication.postgresql(2) as (primary, standbys):
        replicated.Base.metadata.create_all(create_engine(primary.url, poolclass=NullPool))
        replication.catch_up([primary, *standbys])
        variables = replicated.environment(primary.url, [standby.url for standby in standbys], wait=0.01)
        target = "tests.soak.replicated:application()"
        with gunicorn.served(target, workers=2, threads=replicated.THREADS, **variables) as port:
            yield Place(port, standbys, {standby.url.port or 0 for standby in standbys})


@contextmanager
def late(standbys: list[replication.Member]) -> Iterator[None]:
    """Have the first standby 200 ms late, and the second stand still and go on, every 0.7 seconds."""
    first, second = standbys
    is_over = threading.Event()

    def stop_and_go() -> None:
        while not is_over.is_set():
            second.pause()
            is_over.wait(0.7)
            second.resume()
            is_over.wait(0.7)

    first.delay("200ms")
    moving = threading.Thread(target=stop_and_go)
    moving.start()
    try:
        yield
    finally:
        is_over.set()
        moving.join()
        first.delay("0")


def test_by_the_method_alone_all_reads_of_late_replicas_are_stale(place: Place) -> None:
    """Who brings no position does not see what he has written, for as long as the replicas have not got it."""
    with replication.paused(*place.standbys):
        tally = read_what_was_written(place.port, 320, reads_each=4, with_token=False, first_client=next(first_clients))

    assert tally.stale == tally.reads == 320
    assert tally.share_of(place.ports) == 1


def test_by_position_none_is_stale(place: Place) -> None:
    """Who brings his position sees what he has written, however late the replicas are."""
    with late(place.standbys):
        tally = read_what_was_written(
            place.port, READS, reads_each=10, with_token=True, first_client=next(first_clients)
        )

    assert tally.reads >= READS * 0.99
    assert tally.stale == 0
    assert 0.1 < tally.share_of(place.ports) < 1  # some are read there, and some could not be


def test_without_lag_replicas_answer(place: Place) -> None:
    """Where replicas are on time, they answer nearly all reads, and most reads ask nobody for a position."""
    before = read_what_was_written(place.port, 80, reads_each=10, with_token=True, first_client=next(first_clients))
    tally = read_what_was_written(
        place.port, 3000, reads_each=10, with_token=True, pause=0.03, first_client=next(first_clients)
    )

    assert tally.stale == 0
    assert tally.share_of(place.ports) >= 0.99
    assert tally.polls - before.polls <= 0.3 * tally.reads
