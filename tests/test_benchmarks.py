"""The benchmarks: what they measure is real, and the guard can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from benchmarks import costs, guard
from benchmarks.client import EXPECTED, Client
from benchmarks.environments import ROOT
from benchmarks.figures import Figures
from benchmarks.meters import Cost, compare
from benchmarks.report import report
from benchmarks.subjects import SUBJECTS, Subject
from benchmarks.words import count_words

INSTALLED = {
    "wsgi_session",
    "wsgi_session_rule",
    "recipe",
    "wsgi_session_flask",
    "flask_sqlalchemy",
    "wsgi_session_pyramid",
    "pyramid_tm",
    "wsgi_session_falcon",
    "wsgi_session_bottle",
}
"""The subjects whose requirements the tests have, too; the others are measured in environments of their own."""


def probe(name: str, question: str, *arguments: str) -> Any:
    """Return the probe's answer, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.probe", name, question, *arguments]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    return json.loads(said)["answer"]


@pytest.mark.parametrize("name", sorted(INSTALLED))
@pytest.mark.parametrize("side", ["without", "build"])
def test_the_measured_views_do_what_they_say(name: str, side: str, tmp_path: Path) -> None:
    """Every view of a subject and of its hand-written counterpart answers, and what was inserted is committed."""
    url = f"sqlite:///{tmp_path}/words.db"
    app = getattr(SUBJECTS[name], side)({"url": url})

    for view in EXPECTED:
        Client(app, view).ask(2)

    assert count_words(url) == 1 + 3


def test_a_view_that_answers_otherwise_is_not_measured() -> None:
    """An answer that is not the view's stops the benchmark."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("500 Internal Server Error", [])
        return []

    with pytest.raises(RuntimeError, match="500"):
        Client(app, "untouched")


@pytest.mark.system("postgresql")
@pytest.mark.parametrize("name", ["wsgi_session", "wsgi_session_rule", "recipe"])
def test_round_trips(name: str, postgresql_url: URL) -> None:
    """No round trip for a request that needs no session, three for a read, three for a write, as by hand."""
    found = probe(name, "round_trips", postgresql_url.render_as_string(hide_password=False))

    assert found == {"untouched": [0, 0], "stream": [0, 0], "select": [3, 3], "insert": [3, 3]}


def test_memory_of_an_open_response() -> None:
    """A response that is open and has not touched its session holds no more than 600 bytes."""
    assert 0 < probe("wsgi_session", "memory") < 600


def test_cpu_time_is_compared_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without valgrind, two calls are timed in turn, so that a machine that becomes slower does so for both."""
    clock, slowness = [0.0], [1.0]
    monkeypatch.setattr("time.process_time_ns", lambda: clock[0])

    def taking(nanoseconds: int) -> Any:
        def call(times: int) -> None:
            slowness[0] *= 1.01
            clock[0] += nanoseconds * times * slowness[0]

        return call

    found = compare(lambda: {"call": taking(1_000)}, lambda: {"call": taking(2_000)}, {"call": 20})["call"]

    assert found.unit == "ns"
    assert found.ratio == pytest.approx(2 * 1.01)


def test_the_guard_says_both_numbers() -> None:
    """A case over its limit fails with what was found and what the limit is; one that is within it does not."""
    found = {
        "untouched": Cost(1_000, 1_000 * guard.LIMITS["instructions"]["untouched"], "instructions"),
        "SELECT": Cost(800_000, 1_600_000, "instructions"),
    }

    [verdict] = guard.verdicts(found)

    assert verdict.startswith(f"SELECT: x2.000 is more than x{guard.LIMITS['instructions']['SELECT']:.3f} ")


def test_a_missed_goal_is_shown_as_missed() -> None:
    """The report says of each goal whether it has been met."""
    found = {name: _figures(SUBJECTS[name], added=9_000) for name in ("wsgi_session", "wsgi_session_rule")}

    lines = report(found, "# Figures").splitlines()

    assert "| a request that does not touch its session | +8,000 | +9,000 | **missed** |" in lines
    assert "| the same, with a commit rule | +11,000 | +9,000 | met |" in lines


def test_the_document_is_of_every_subject() -> None:
    """`docs/costs.md` has a row for each subject."""
    text = costs.DOCUMENT.read_text()

    for subject in SUBJECTS.values():
        assert f"\n| {subject.title} | " in text


def _figures(subject: Subject, added: float) -> Figures:
    cost = Cost(1_000, 1_000 + added, "instructions")
    growth = {"10": cost, "10000": cost}
    return Figures(
        subject,
        dict.fromkeys(EXPECTED, cost),
        memory=300,
        versions={"SQLAlchemy": "2.1.0"},
        open_responses=growth,
        threads=growth,
    )
