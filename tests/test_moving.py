"""The pages about moving here: what is shown before and after answers the same requests in the same way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples import ROOT, Example, environment, started

REQUESTS: dict[str, list[tuple[str, str, Any, int]]] = {
    "flask_sqlalchemy": [
        ("GET", "/notes", None, 200),
        ("POST", "/notes", {"notes": ["milk", "bread of rye"]}, 201),
        ("POST", "/notes", {"notes": ["eggs", ""]}, 400),
        ("POST", "/notes", {"notes": ["eggs", "milk"]}, 409),
        ("POST", "/notes", {"notes": ["salt", "tea"]}, 201),
        ("GET", "/notes?page=2&per_page=3", None, 200),
        ("GET", "/notes?page=3&per_page=3", None, 404),
        ("GET", "/notes?page=0", None, 404),
        ("GET", "/notes/2", None, 200),
        ("GET", "/notes/tagged/rye", None, 200),
        ("GET", "/notes/tagged/oats", None, 404),
        ("PUT", "/notes/4", {"text": "coffee"}, 200),
        ("PUT", "/notes/4", {"text": "salt"}, 409),
        ("PUT", "/notes/9", {"text": "salt"}, 404),
        ("DELETE", "/notes/1", None, 204),
        ("DELETE", "/notes/1", None, 404),
        ("GET", "/notes/export", None, 200),
        ("GET", "/notes", None, 200),
    ],
    "pyramid_tm": [
        ("GET", "/notes", None, 200),
        ("POST", "/notes", {"notes": ["cake"]}, 201),
        ("DELETE", "/notes", None, 200),
        ("POST", "/notes", {"notes": ["milk", "bread"]}, 201),
        ("POST", "/notes?try=1", {"notes": ["eggs"]}, 201),
        ("POST", "/notes", {"notes": ["eggs", ""]}, 400),
        ("POST", "/notes", {"notes": ["eggs", "milk"]}, 409),
        ("POST", "/notes", {"notes": ["salt"]}, 201),
        ("GET", "/notes/export", None, 200),
        ("GET", "/notes", None, 200),
    ],
}
"""The requests of each page: method, path, content, and the status of the answer."""

STORED = {"flask_sqlalchemy": ["bread of rye", "salt", "coffee"], "pyramid_tm": ["milk", "bread", "salt"]}
"""The notes that they leave."""

TARGETS = {
    page: [f"{page}_before:{name}", f"{page}_after:{name}"]
    for page, name in {"flask_sqlalchemy": "create_app()", "pyramid_tm": "application"}.items()
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
        answers.append([example.ask(method, path, content) for method, path, content, _ in REQUESTS[page]])
        stored.append(example.stored())
        assert example.is_at_rest()

    assert [status for status, _ in answers[0]] == [status for *_, status in REQUESTS[page]]
    assert answers[0] == answers[1]
    assert stored == [STORED[page]] * 2


@pytest.mark.parametrize("target", TARGETS["flask_sqlalchemy"])
def test_the_command_of_flask(target: str, all_started: dict[str, Example]) -> None:
    """Outside of requests, `flask notes` adds notes and removes them."""
    example = all_started[target]
    example.store("milk")
    flask = ("-m", "flask", "--app", target, "notes")

    run(example, *flask, "insert", "bread", "salt")
    assert example.stored() == ["milk", "bread", "salt"]

    run(example, *flask, "clear")
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


MOVING = ROOT / "examples" / "moving"
ADD = """
from flask_sqlalchemy_before import create_app

answer = create_app().test_client().post("/notes", json={"notes": ["milk", "bread"]})
print(answer.status_code)
"""
SHOW = """
from flask_sqlalchemy_after import create_app

print(*create_app().test_client().get("/notes").get_json()["notes"])
"""


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of a user's own, in which the application before the move has stored two notes."""
    folder = tmp_path_factory.mktemp("user")
    for path in MOVING.glob("flask_*.py"):
        shutil.copy(path, folder)
    assert run_in(folder, "-c", ADD) == "201\n"
    return folder


@pytest.fixture
def folder(lived_in: Path, tmp_path: Path) -> Path:
    """Copy it, for one test."""
    return Path(shutil.copytree(lived_in, tmp_path / "user"))


def test_the_notes_are_there_after_the_move(folder: Path) -> None:
    """Who has said nothing of a folder has a file below `instance/`, and reads the same file after the move."""
    said = run_in(folder, "-c", SHOW)

    assert said == "milk bread\n"
    assert [path.relative_to(folder) for path in folder.rglob("*.db")] == [Path("instance/notes.db")]


def test_the_first_start_makes_the_folder(folder: Path) -> None:
    """The application after the move starts where nothing is below it yet."""
    shutil.rmtree(folder / "instance")

    assert run_in(folder, "-c", SHOW) == "\n"
    assert (folder / "instance" / "notes.db").exists()


def test_migrations_find_the_tables_as_they_were(folder: Path) -> None:
    """Flask-Migrate takes the engine and the metadata, and has no more to migrate than the table that is new."""
    flask = ("-m", "flask", "--app", "flask_extensions", "db")

    run_in(folder, *flask, "init")
    run_in(folder, *flask, "migrate", "--message", "users")
    run_in(folder, *flask, "upgrade")
    run_in(folder, *flask, "check")  # fails if the tables are not as the models say

    (migration,) = (folder / "migrations" / "versions").glob("*.py")
    assert re.findall(r"op\.(\w+)\('(\w+)'", migration.read_text()) == [
        ("create_table", "user"),
        ("drop_table", "user"),
    ]


EXTENSIONS = """
from sqlalchemy import select
from flask_extensions import Base, Note, Session, User, app, engine
from wsgi_session import session_scope

Base.metadata.create_all(engine)
with session_scope(Session):
    Session.add(User(name="ada"))
client = app.test_client()


def show(method, path, **kw):
    with client.open(path, method=method, **kw) as answer:
        print(method, path, answer.status_code, answer.get_json(silent=True) or answer.headers.get("Location", ""))


{requests}
with session_scope(Session):
    print(*Session.scalars(select(Note.text).order_by(Note.id)))
"""

LOGIN = ['show("GET", "/me")', 'show("POST", "/login/bob")', 'show("POST", "/login/ada")', 'show("GET", "/me")']

ADMIN = [
    'show("GET", "/admin/note/")',
    'show("POST", "/admin/note/new/", data={"text": "salt"})',
    'show("POST", "/admin/note/new/", data={"text": "salt"})',
    'show("POST", "/admin/note/edit/?id=1", data={"text": "oil"})',
    'show("POST", "/admin/note/delete/", data={"id": "2"})',
]

SCHEMA = [
    'show("PUT", "/api/notes/1", json={"text": "oats"})',
    'show("PUT", "/api/notes/7", json={"text": "oats"})',
]


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        pytest.param(
            LOGIN, "GET /me 401\nPOST /login/bob 404\nPOST /login/ada 204\nGET /me 200\nmilk bread\n", id="login"
        ),
        pytest.param(
            ADMIN,
            "GET /admin/note/ 200\n"
            "POST /admin/note/new/ 302 /admin/note/\n"
            "POST /admin/note/new/ 200\n"  # there is one already; it has rolled back
            "POST /admin/note/edit/?id=1 302 /admin/note/\n"
            "POST /admin/note/delete/ 302 /admin/note/\n"
            "oil salt\n",
            id="admin",
        ),
        pytest.param(
            SCHEMA,
            "PUT /api/notes/1 200 {'id': 1, 'text': 'oats'}\nPUT /api/notes/7 404\noats bread\n",
            id="schema",
        ),
    ],
)
def test_extensions_take_the_registry(requests: list[str], wanted: str, folder: Path) -> None:
    """Flask-Login, Flask-Admin and marshmallow-sqlalchemy work on the session of the request."""
    said = run_in(folder, "-c", EXTENSIONS.format(requests="\n".join(requests)))

    assert [line.rstrip() for line in said.splitlines()] == wanted.splitlines()


@pytest.mark.parametrize("when", ["before", "after"])
def test_tests_in_an_application_context(when: str, tmp_path: Path) -> None:
    """Tests that run in an application context go on, with one fixture changed."""
    for path in MOVING.glob("*.py"):
        shutil.copy(path, tmp_path)

    said = run_in(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_notes_{when}.py")

    assert "2 passed" in said


def run_in(folder: Path, *command: str) -> str:
    """Run Python in a folder of a user's own, whose environment names no database, and return what it has printed."""
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=unmeasured | {"PYTHONPATH": os.pathsep.join(map(str, [folder, ROOT]))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
