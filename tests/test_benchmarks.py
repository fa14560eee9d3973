"""The benchmarks: what they measure is real, and the guard can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from benchmarks import costs, cpu_time, guard, instructions, meters
from benchmarks.client import EXPECTED, Client
from benchmarks.cost import Cost
from benchmarks.environments import ROOT
from benchmarks.figures import LAYOUTS, Figures
from benchmarks.meters import SIDES, compare
from benchmarks.report import FLOORS, JUDGED, report
from benchmarks.subjects import SUBJECTS, Subject
from benchmarks.words import ROWS, count_words

INSTALLED = {
    "wsgi_session",
    "wsgi_session_rule",
    "floor",
    "floor_rule",
    "recipe",
    "wsgi_session_flask",
    "flask_sqlalchemy",
    "wsgi_session_pyramid",
    "pyramid_tm",
    "wsgi_session_falcon",
    "wsgi_session_bottle",
}
"""The subjects whose requirements the tests have, too; the others are measured in environments of their own.

Django is not among them: a process has one Django, and the tests of the package have other settings.
"""


def probe(question: str, name: str, side: str, *arguments: str) -> Any:
    """Return the probe's answer, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.probe", question, name, side, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)


@pytest.mark.parametrize("name", sorted(INSTALLED))
@pytest.mark.parametrize("side", SIDES)
def test_the_measured_views_do_what_they_say(name: str, side: str, tmp_path: Path) -> None:
    """Every view of a subject and of its hand-written counterpart answers, and what was inserted is committed."""
    url = f"sqlite:///{tmp_path}/words.db"
    app = getattr(SUBJECTS[name], side)({"url": url})

    for view in EXPECTED:
        Client(app, view).ask(2)

    assert count_words(url) == ROWS + 3


@pytest.mark.parametrize("side", SIDES)
def test_the_measured_views_of_django(side: str, tmp_path: Path) -> None:
    """They do what they say, too, in a process of their own."""
    url = f"sqlite:///{tmp_path}/words.db"
    program = f"""
from benchmarks.client import EXPECTED, Client
from benchmarks.subjects import SUBJECTS

app = SUBJECTS["wsgi_session_django"].{side}({{"url": {url!r}}})
for view in EXPECTED:
    Client(app, view).ask(2)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)

    assert count_words(url) == ROWS + 3


def test_a_view_that_answers_otherwise_is_not_measured() -> None:
    """An answer that is not the view's stops the benchmark."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("500 Internal Server Error", [])
        return []

    with pytest.raises(RuntimeError, match="500"):
        Client(app, "untouched")


@pytest.mark.system("postgresql")
@pytest.mark.parametrize(
    ("name", "side"),
    [("wsgi_session", "without"), ("wsgi_session", "beside"), ("wsgi_session_rule", "beside"), ("recipe", "beside")],
)
def test_round_trips(name: str, side: str, postgresql_url: URL) -> None:
    """No round trip for a request that needs no session, three for a read, three for a write, as by hand."""
    found = probe("round_trips", name, side, postgresql_url.render_as_string(hide_password=False))

    assert found == {"untouched": 0, "stream": 0, "select": 3, "rows": 3, "insert": 3}


def test_memory_of_an_open_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that is open and has not touched its session holds no more than 600 bytes; a tracer's not counted."""
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)
    without, beside = (probe("memory", "wsgi_session", side) for side in SIDES)

    assert 0 < beside - without < 600


def test_both_sides_are_measured_apart() -> None:
    """Each side has a process of its own in each layout."""
    given: list[Any] = []

    class Meter:
        UNIT = "ns"

        def compare(self, commands: Any) -> dict[str, dict[str, float]]:
            given.append(commands)
            return {"without": {"select": 2 * len(given) - 1}, "beside": {"select": 2 * len(given)}}

        def description(self) -> str:
            return ""

    found = compare(Path("python"), ["module"], layouts=3, meter=Meter())

    start = ["python", "-m", "benchmarks.layout"]
    assert given == [{side: [*start, layout, "module", side] for side in SIDES} for layout in "012"]
    assert found == {"select": Cost((1, 3, 5), (2, 4, 6), "ns")}


def test_layouts_differ(tmp_path: Path) -> None:
    """In each layout objects lie elsewhere, and in the same one nearly all lie where they have lain."""
    (tmp_path / "places.py").write_text("import wave\nprint([id(bytes(size)) % 4096 for size in range(10, 500, 50)])")
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(tmp_path)}

    def places(layout: int) -> list[int]:
        command = [sys.executable, "-B", "-m", "benchmarks.layout", str(layout), "places"]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment).stdout
        return json.loads(said)  # type: ignore[no-any-return]

    def moved(one: list[int], other: list[int]) -> int:
        return sum(first != second for first, second in zip(one, other, strict=True))

    found = [places(layout) for layout in range(LAYOUTS)]

    assert moved(places(0), found[0]) <= 2  # without callgrind the system has a say, too
    assert min(moved(one, other) for one, other in combinations(found, 2)) >= 5


@pytest.mark.system("valgrind")
def test_only_what_is_measured_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the start of a program is in its figures, nor what it has done before."""
    found = instructions.compare({"one": _adding(tmp_path, monkeypatch)})["one"]

    assert found["sum"] > 100_000
    assert found["two sums"] == pytest.approx(2 * found["sum"], rel=0.01)


def test_cpu_time_of_programs_that_are_asked_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes twice as long is found to do so, in one program and between two, whatever the machine does besides."""
    command = _adding(tmp_path, monkeypatch)
    found = cpu_time.compare({"once": command, "again": command, "twice": [*command, "2"]})

    assert found["once"]["two sums"] == pytest.approx(2 * found["once"]["sum"], rel=0.5)
    assert found["again"]["sum"] == pytest.approx(found["once"]["sum"], rel=0.5)
    assert found["twice"]["sum"] > 1.3 * found["once"]["sum"]


def test_a_program_that_fails_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that names the program."""
    with pytest.raises(RuntimeError, match=r"nonsense.* has failed"):
        cpu_time.compare({"one": [*_adding(tmp_path, monkeypatch), "nonsense"]})


def _adding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write a program that can be measured, and return its command."""
    (folder / "counted.py").write_text(COUNTED)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return [sys.executable, "-m", "benchmarks.layout", "1", "counted"]


COUNTED = """
import sys
from benchmarks.meters import answer

FACTOR = int(sys.argv[1]) if sys.argv[1:] else 1

def add(times):
    for _ in range(FACTOR * times):
        sum(range(10_000))

add(10)
answer({"sum": add, "two sums": lambda times: add(2 * times)}, {"sum": 10, "two sums": 10})
"""


def test_without_valgrind_the_guard_goes_by_cpu_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limits are others then."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert meters.guarding() is cpu_time
    assert guard.LIMITS[cpu_time.UNIT].keys() == guard.LIMITS[instructions.UNIT].keys() == guard.CASES.keys()


def test_the_error_of_a_ratio() -> None:
    """How far the ratio of a cost can be trusted is known from how much it differs between layouts."""
    cost = Cost((100, 100, 100, 100), (110, 114, 110, 114), "instructions")

    assert (cost.added, cost.ratio) == (12, pytest.approx(1.12))
    assert cost.error == pytest.approx(0.0145, abs=0.0001)
    assert Cost((100,), (110,), "instructions").error is None


def test_the_guard_says_both_numbers() -> None:
    """A case over its limit fails with what was found and what the limit is; one that is within it does not."""
    found = {
        "untouched": Cost((1_000,), (1_000 * guard.LIMITS["instructions"]["untouched"],), "instructions"),
        "SELECT": Cost((800_000,), (1_600_000,), "instructions"),
    }

    [verdict] = guard.verdicts(found)

    assert verdict.startswith("SELECT: x2.000 (800,000 instructions have become 1,600,000) is more than x1.")


def test_a_missed_goal_is_shown_as_missed() -> None:
    """The report says of each goal whether it has been met."""
    lines = report(_found(added=2_900), "# Figures").splitlines()

    assert "| a request that does not touch its session | +2.0 µs | +0.9 µs | +2.9 µs | **missed** |" in lines
    assert "| the same, with a commit rule | +3.0 µs | +0.9 µs | +2.9 µs | met |" in lines


def test_a_ratio_is_shown_with_its_error() -> None:
    """The report says how far each ratio among the goals can be trusted, also that of a peer which is the goal."""
    lines = report(_found(added=9_000), "# Figures").splitlines()

    assert "| one SELECT by primary key | x1.010 | x8.000 ±0.125 | x10.000 ±0.125 | **missed** |" in lines
    said = "in Flask, under the rule, SELECT: Flask-SQLAlchemy's"
    assert f"| {said} | x10.000 ±0.125 |  | x10.000 ±0.125 | met |" in lines
    assert "| bytes for each open untouched response | 600 |  | 300 | met |" in lines


def test_the_document_is_of_every_subject() -> None:
    """`docs/costs.md` has a row for each subject that somebody could use."""
    text = costs.DOCUMENT.read_text()

    for subject in (subject for name, subject in SUBJECTS.items() if name not in FLOORS):
        assert f"\n| {subject.title} | " in text


def _found(added: float) -> dict[str, Figures]:
    found = {name: _figures(SUBJECTS[name], added) for name in JUDGED}
    return found | {name: _figures(SUBJECTS[name], added - 2_000) for name in FLOORS}


def _figures(subject: Subject, added: float) -> Figures:
    cost = Cost((1_000, 1_000), (900 + added, 1_100 + added), "ns")
    growth = {"10": cost, "10000": cost}
    return Figures(
        subject,
        dict.fromkeys(EXPECTED, cost),
        memory=300,
        versions={"SQLAlchemy": "2.1.0"},
        open_responses=growth,
        threads=growth,
    )
