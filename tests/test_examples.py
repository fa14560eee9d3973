"""The examples, each in a process of its own, on a real server whose pool has one connection."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.examples import Example, started

REFUSALS = {
    "bottle_app:application": 500,
    "cherrypy_app:application": 500,
    "django_app:application": 500,
    "falcon_app:application": 409,
    "flask_app:app": 500,
    "pyramid_app:application": 409,
    "webob_app:application": 500,
    "werkzeug_app:application": 500,
    "wsgi_app:application": 500,
}
"""The examples, each with the status of its answer when the database refuses a note."""

ANSWERED_BY_THE_SERVER = {"webob_app:application", "werkzeug_app:application", "wsgi_app:application"}
"""Where that answer is the server's; the others make an error page of the exception."""

MEGABYTES = 8
"""The size of what a slow client asks for: more than the buffers between it and the server hold."""


@pytest.fixture(scope="module")
def all_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Example]]:
    """Run all examples."""
    with started(tmp_path_factory.mktemp("examples"), *REFUSALS) as examples:
        yield examples


@pytest.fixture(params=REFUSALS, ids=lambda target: target.partition(":")[0])
def target(request: Any) -> str:
    """Name an example."""
    name: str = request.param
    return name


@pytest.fixture
def example(all_started: dict[str, Example], target: str) -> Example:
    """Return a running example that has one note."""
    all_started[target].store("milk")
    return all_started[target]


def test_a_write_lasts(example: Example) -> None:
    """What a request has added, and has told its client so, is in the database."""
    status = example.add("bread", "salt")

    assert status == 201
    assert example.stored() == example.show() == ["milk", "bread", "salt"]
    assert example.is_at_rest()


def test_an_error_page_leaves_nothing(example: Example) -> None:
    """What was added before the view raised its 400 is not there, and the next request is right."""
    status = example.add("bread", "")

    assert status == 400
    assert example.stored() == ["milk"]
    assert example.add("salt") == 201
    assert example.stored() == ["milk", "salt"]
    assert example.is_at_rest()


def test_an_exception_leaves_nothing(example: Example, target: str) -> None:
    """What was added before the database refused is not there, and the next request is right."""
    raised = example.seen()["raised"]

    status = example.add("bread", "milk")

    assert status == REFUSALS[target]
    assert example.seen()["raised"] - raised == (target in ANSWERED_BY_THE_SERVER)
    assert example.stored() == ["milk"]
    assert example.add("salt") == 201
    assert example.stored() == ["milk", "salt"]
    assert example.is_at_rest()


def large_notes() -> list[str]:
    """Make many notes that are long."""
    return [f"{number} {'x' * 99_990}" for number in range(10 * MEGABYTES)]


def test_a_stream(example: Example) -> None:
    """A body is produced as its client reads it, by its session, and what it holds is given back at its end."""
    example.store(*large_notes())

    with example.asked_slowly("/notes/export") as client:
        meanwhile = example.seen()["out"]
        answer = client.answer()

    assert meanwhile == {"connections": 1, "responses": 1}
    assert (answer.is_whole, answer.header("content-length")) == (True, "")
    assert answer.body.decode().splitlines() == large_notes()
    assert example.is_at_rest()


def test_a_stream_whose_client_leaves(example: Example) -> None:
    """What a stream holds is given back when its client has gone half-way."""
    example.store(*large_notes())

    with example.asked_slowly("/notes/export"):
        meanwhile = example.seen()["out"]

    assert meanwhile == {"connections": 1, "responses": 1}
    assert example.is_at_rest()


def test_a_slow_client_holds_no_connection(example: Example) -> None:
    """While a client reads an ordinary page, its request has no connection, and others have the only one there is."""
    example.store(*large_notes())

    with example.asked_slowly("/notes") as client:
        meanwhile = example.seen()["out"]
        other = example.add("bread")
        answer = client.answer()

    assert meanwhile == {"connections": 0, "responses": 1}
    assert other == 201
    assert json.loads(answer.body) == {"notes": large_notes()}
    assert example.is_at_rest()


def test_a_slow_client_without_a_rule(tmp_path: Path) -> None:
    """Without a rule the same view of Flask's does hold its connection until the client has read."""
    with started(tmp_path, "flask_app:app", options=("--without-rule",)) as examples:
        example = examples["flask_app:app"]
        example.store(*large_notes())

        with example.asked_slowly("/notes"):
            meanwhile = example.seen()["out"]

        assert meanwhile == {"connections": 1, "responses": 1}
        assert example.is_at_rest()


def test_two_hundred_requests_on_a_pool_of_one(example: Example, target: str) -> None:
    """Requests of all kinds, eight at a time, get on with one connection, and leave it in the pool."""
    kinds: list[Callable[[int], int]] = [
        lambda number: example.ask("GET", "/notes")[0],
        lambda number: example.ask("GET", "/notes/export")[0],
        lambda number: example.ask("GET", "/nowhere")[0],
        lambda number: example.add(f"note {number}"),
        lambda number: example.add(f"bad {number}", ""),
        lambda number: example.add(f"bad {number}", "milk"),
    ]

    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda number: kinds[number % 6](number), range(200)))

    wanted = Counter({200: 34 + 34, 404: 33, 201: 33, 400: 33})
    wanted[REFUSALS[target]] += 33
    assert statuses == wanted
    assert set(example.stored()) == {"milk", *(f"note {number}" for number in range(3, 200, 6))}
    assert example.is_at_rest()
    assert example.seen()["most"] == 1
