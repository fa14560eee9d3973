"""Servers are killed, delayed, promoted and switched over beneath clients: no read is stale, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import IS_LONG
from .chaos import STRIKES, Server, run, served

SECONDS = 40 if IS_LONG else 20
SEEDS = range(1, 11) if IS_LONG else [1]

pytestmark = pytest.mark.system("postgresql-server")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the application over a cluster of four."""
    with served(tmp_path_factory.mktemp("chaos") / "log") as server:
        yield server


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed: int, server: Server) -> None:
    """No read is stale for who brings a token, whatever is done to the servers, and to the tokens.

    What was answered with success is there once, with both halves; what was refused is not. Every other answer is a 503
    or a 504.
    """
    report = run(server, seed, SECONDS)

    assert not report.faults, report
    assert set(report.strikes) == {strike.__name__ for strike in STRIKES}
    assert set(report.statuses) <= {200, 503, 504}
    assert report.statuses[200] > report.statuses.total() * 0.8
    assert min(report.kinds.values()) > 0
    assert len(report.ports) == 4
