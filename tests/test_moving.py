"""The pages about moving here: what is shown before and after answers the same requests in the same way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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

STORED = {"flask_sqlalchemy": ["bread", "salt"], "pyramid_tm": ["milk", "bread", "salt"]}
"""The notes that they leave."""

TARGETS = {
    page: [f"{page}_before:{name}", f"{page}_after:{name}"]
    for page, name in {"flask_sqlalchemy": "app", "pyramid_tm": "application"}.items()
}
"""What each page shows, before and after."""


@pytest.fixture(scope="module")
def all_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Example]]:
    """Run what is shown."""
    targets = [target for pair in TARGETS.values() for target in pair]
    with started(tmp_path_factory.mktemp("moving"), *targets) as examples:
        yield examples


@pytest.mark.parametrize("page", REQUESTS)
def test_the_same_requests_have_the_same_outcome(page: str, all_started: dict[str, Example]) -> None:
    """Before and after give the same answers, and leave the same notes and nothing that is out."""
    answers, stored = [], []

    for example in (all_started[target] for target in TARGETS[page]):
        example.store()
        answers.append([example.ask(method, path, {"notes": notes}) for method, path, notes, _ in REQUESTS[page]])
        stored.append(example.stored())
        assert example.is_at_rest()

    assert [status for status, _ in answers[0]] == [status for *_, status in REQUESTS[page]]
    assert answers[0] == answers[1]
    assert stored == [STORED[page]] * 2


@pytest.mark.parametrize("target", TARGETS["flask_sqlalchemy"])
def test_the_command_of_flask(target: str, all_started: dict[str, Example]) -> None:
    """Outside of requests, `flask clear` removes the notes."""
    example = all_started[target]
    example.store("milk")

    run(example, "-m", "flask", "--app", target, "clear")

    assert example.stored() == []


SCRIPT = """
from sqlalchemy.exc import IntegrityError
from {module} import import_notes

import_notes(["bread", "salt"])
try:
    import_notes(["eggs", "milk"])
except IntegrityError:
    print("refused")
"""


@pytest.mark.parametrize("target", TARGETS["pyramid_tm"])
def test_the_script_of_pyramid(target: str, all_started: dict[str, Example]) -> None:
    """Outside of requests, the notes of a script are added, all of them or none."""
    example = all_started[target]
    example.store("milk")

    said = run(example, "-c", SCRIPT.format(module=target.partition(":")[0]))

    assert said == "refused\n"
    assert example.stored() == ["milk", "bread", "salt"]


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
