"""The page of Flask: the file that one copies from it runs, with its commands, its forms and its tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client import asked
from tests.documents import Command, Reader, Step, environment_of, steps

ROOT = Path(__file__).parent.parent
BINARIES = Path(sys.executable).parent
FILES = ("flask_site.py", "test_flask_site.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the files of the page."""
    for name in FILES:
        shutil.copy(ROOT / "examples" / name, tmp_path)
    return tmp_path


@pytest.fixture
def port() -> int:
    """Give a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def commands() -> list[Step]:
    """List what the page has one type, but for what installs something."""
    page = (ROOT / "docs" / "frameworks" / "flask.md").read_text()
    return [one for one in steps(page) if isinstance(one, Command) and not one.line.startswith("pip ")]


@pytest.mark.parametrize("name", FILES)
def test_the_page_has_the_whole_file(name: str) -> None:
    """Who copies a block of the page has all that the file has, but for its docstring and its last tests."""
    page = (ROOT / "docs" / "frameworks" / "flask.md").read_text()
    _, _, code = (ROOT / "examples" / name).read_text().partition("from __future__")
    block = page.partition(f"<!-- examples/{name} -->\n```python\nfrom __future__")[2]
    shown = "from __future__" + block.partition("```")[0]

    assert ("from __future__" + code).startswith(shown.rstrip())
    if name == FILES[0]:
        assert shown == "from __future__" + code


def test_what_the_page_says_to_type(folder: Path, port: int) -> None:
    """The commands of the page make the tables, add a user, and start a server on which that user may add a book."""
    environment = environment_of(BINARIES, FLASK_RUN_PORT=str(port))

    with Reader(folder, environment) as reader:
        for step in commands():
            reader.follow(step)
        login = asked(port, "/login", "POST", b"name=ada&password=engine", FORM)
        cookie = {"Cookie": dict(login.headers)["set-cookie"].partition(";")[0]}
        added = asked(port, "/books/new", "POST", b"title=Emma", FORM | cookie)
        refused = asked(port, "/books/1", "POST", b"title=", FORM | cookie)
        again = asked(port, "/books/new", "POST", b"title=Emma", FORM | cookie)
        shown = asked(port, "/", headers=cookie)

    assert (login.status, added.status, refused.status, again.status) == (302, 302, 422, 409)
    assert "Emma" in shown.body.decode()
    assert "Books of ada" in shown.body.decode()


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_the_shell_has_a_session(folder: Path) -> None:
    """In `flask shell` the session of the context is the registry's, and commits when one says so."""
    environment = environment_of(BINARIES)
    migrate = [f"flask --app flask_site db {command}" for command in ("init", "migrate", "upgrade")]
    lines = ["session.add(Book(title='Emma'))", "session.commit()", "from flask_site import *", "Session() is session"]

    with Reader(folder, environment) as reader:
        for line in migrate:
            reader.follow(Command(line, "..."))
    done = subprocess.run(
        ["sh", "-c", "flask --app flask_site shell"],
        cwd=folder,
        env=environment,
        input="\n".join([*lines, ""]),
        capture_output=True,
        text=True,
        check=True,
    )

    assert "True" in done.stdout


CLOSING = """
from functools import partialmethod
from flask.testing import FlaskClient

FlaskClient.open = partialmethod(FlaskClient.open, buffered=True)
"""
"""Has Flask's client close each response; to be removed as soon as the fixtures do so."""


def test_its_tests_pass(folder: Path) -> None:
    """The tests of the page pass, with Flask's own client and the fixtures of this package."""
    (folder / "conftest.py").write_text(CLOSING)

    done = subprocess.run(
        ["sh", "-c", "python -m pytest -q -p no:cacheprovider"],
        cwd=folder,
        env=environment_of(BINARIES, PYTHONPATH=str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "4 passed" in done.stdout, done.stdout
