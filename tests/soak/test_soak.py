"""The soak, in small: `make soak` makes a million requests, and these some thousand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gunicorn import ROOT

from . import killed, mixed


def test_requests_of_every_kind(tmp_path: Path) -> None:
    """What they wrote is there, once; no connection is out after any, and no session is kept."""
    report = mixed.run(tmp_path, requests=1500, seed=7)

    assert report.is_right, report
    assert {work.__name__ for work in mixed.WORKS} == set(report.kinds)
    assert len(report.blocks) == len(report.resident) == 10


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("out", "a connection"),
        ("missing", "a write"),
        ("unwanted", "a write that was not to be"),
        ("kept", "a session"),
    ],
)
def test_a_soak_can_fail(name: str, fault: str) -> None:
    """Each fault is one: a connection that is out, a write that is lost or was not to be, a session that is kept."""
    report = mixed.Report(10)

    assert report.is_right
    setattr(report, name, 1)
    assert not report.is_right, fault


@pytest.mark.parametrize(("blocks", "resident", "is_flat"), [(9, 4000, True), (200, 0, False), (0, 5000, False)])
def test_memory_that_grows(blocks: int, resident: int, is_flat: bool) -> None:
    """Memory is flat if no request leaves anything behind."""
    report = mixed.Report(1000, blocks=[1000, 1000 + blocks], resident=[50_000, 50_000 + resident])

    assert report.is_flat == is_flat


@pytest.mark.system("postgresql-server")
def test_connections_that_are_ended(tmp_path: Path) -> None:
    """What was answered with success is there, whole and once; of everything else there is no trace."""
    report = killed.run(600, seed=7, log=tmp_path / "log")

    assert report.is_right, report
    assert report.kills > 0
    assert set(report.counts) <= {"201", "409", "503", "500 raised", "500 lost", "500 unknown"}, report
    assert min(report.counts[said] for said in ("201", "409", "500 raised", "500 lost")) > 0


@pytest.mark.system("postgresql-server")
def test_the_program() -> None:
    """It prints a report of each part."""
    command = [sys.executable, "-m", "tests.soak", "--mixed", "200", "--killed", "50"]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert ran.stdout.startswith("mixed: 200 requests in")
    assert "killed: 50 requests in" in ran.stdout
    assert ran.stderr == ""
