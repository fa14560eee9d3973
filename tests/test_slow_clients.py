"""What slow clients do to everybody else, on a real server: the benchmark of that name, in small and by counting."""

from __future__ import annotations

import pytest

from benchmarks.slow_clients import ORDINARY, SLOW, Load, ordinary, served, slow_clients


@pytest.mark.parametrize(
    "setup", ["lists", "stream", "flask", "flask_by_default", "flask_chunks", "generator_after_a_select", "django"]
)
def test_slow_clients_hold_no_connection(setup: str) -> None:
    """Thirty clients read slowly, beside a pool of five, and no other request meets a pool timeout."""
    load = Load(size=2 * 1024 * 1024, rate=64 * 1024, pool_timeout=5)

    with served(setup, load) as port, slow_clients(port, load) as (statuses, nearly):
        others = ordinary(port, lambda made: made < 10)
        are_all_reading = not nearly.is_set()

    assert statuses == [200] * SLOW
    assert (others.answered, others.timeouts) == (10 * ORDINARY, 0)
    assert are_all_reading


@pytest.mark.parametrize("setup", ["thread_local", "flask_until_close"])
def test_what_keeps_its_connection_until_it_is_read(setup: str) -> None:
    """Five clients are enough to shut everybody else out: the documented recipe, and ``until_close`` around Flask."""
    load = Load(size=2 * 1024 * 1024, rate=64 * 1024, pool_timeout=0.3)

    with served(setup, load) as port, slow_clients(port, load) as (statuses, nearly):
        others = ordinary(port, lambda made: made < 2)
        are_all_reading = not nearly.is_set()

    assert sorted(statuses) == [200] * 5 + [503] * (SLOW - 5)
    assert (others.answered, others.timeouts) == (0, 2 * ORDINARY)
    assert are_all_reading
