"""The pages about moving here: what is shown before and after answers the same requests in the same way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.examples import Example, environment, started

REQUESTS: dict[str, list[tuple[str, str, Any, int]]] = {
    "flask_sqlalchemy": [
        ("GET", "/notes", None, 200),
        ("POST", "/notes", ["milk", "bread"], 201),
        ("POST", "/notes", ["eggs", ""], 400),
        ("POST", "/notes", ["eggs", "milk"], 500),
        ("POST", "/notes", ["salt"], 201),
        ("DELETE", "/notes/1", None, 204),
        ("DELETE", "/notes/1", None, 404),
        ("GET", "/notes/export", None, 200),
        ("GET", "/notes", None, 200),
    ],
    "pyramid_tm": [
        ("GET", "/notes", None, 200),
        ("POST", "/notes", ["cake"], 201),
        ("DELETE", "/notes", None, 200),
        ("POST", "/notes", ["milk", "bread"], 201),
        ("POST", "/notes?try=1", ["eggs"], 201),
        ("POST", "/notes", ["eggs", ""], 400),
        ("POST", "/notes", ["eggs", "milk"], 409),
        ("POST", "/notes", ["salt"], 201),
        ("GET", "/notes/export", None, 200),
        ("GET", "/notes", None, 200),
    ],
}
"""The requests of each page: method, path, notes, and the status of the answer."""

APPLICATIONS = {"flask_sqlalchemy": "app", "pyramid_tm": "application"}

STORED = {"flask_sqlalchemy": ["bread", "salt"], "pyramid_tm": ["milk", "bread", "salt"]}


@pytest.mark.parametrize("page", REQUESTS)
def test_the_same_requests_have_the_same_outcome(page: str, tmp_path: Path) -> None:
    """Before and after give the same answers, and leave the same notes and nothing that is out."""
    targets = [f"{page}_{when}:{APPLICATIONS[page]}" for when in ("before", "after")]
    answers, stored = [], []

    with started(tmp_path, *targets) as examples:
        for example in examples.values():
            answers.append([example.ask(method, path, {"notes": notes}) for method, path, notes, _ in REQUESTS[page]])
            stored.append(example.stored())
            assert example.is_at_rest()

    assert [status for status, _ in answers[0]] == [status for *_, status in REQUESTS[page]]
    assert answers[0] == answers[1]
    assert stored == [STORED[page]] * 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_command_of_flask(when: str, tmp_path: Path) -> None:
    """Outside of requests, `flask clear` removes the notes."""
    target = f"flask_sqlalchemy_{when}:app"

    with started(tmp_path, target) as examples:
        examples[target].store("milk")
        run(examples[target], "-m", "flask", "--app", f"flask_sqlalchemy_{when}", "clear")

        assert examples[target].stored() == []


SCRIPT = """
from sqlalchemy.exc import IntegrityError
from pyramid_tm_{when} import import_notes

import_notes(["bread", "salt"])
try:
    import_notes(["eggs", "milk"])
except IntegrityError:
    print("refused")
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_script_of_pyramid(when: str, tmp_path: Path) -> None:
    """Outside of requests, the notes of a script are added, all of them or none."""
    target = f"pyramid_tm_{when}:application"

    with started(tmp_path, target) as examples:
        examples[target].store("milk")
        said = run(examples[target], "-c", SCRIPT.format(when=when))

        assert said == "refused\n"
        assert examples[target].stored() == ["milk", "bread", "salt"]


def run(example: Example, *command: str) -> str:
    """Run Python beside an example, and return what it has printed."""
    return subprocess.run(
        [sys.executable, *command],
        env=environment(example.url),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    ).stdout
