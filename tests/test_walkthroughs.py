"""The README and the tutorial: each step runs, and prints what is shown."""

from __future__ import annotations

import re
import runpy
import socket
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.documents import Command, File, Reader, Step, environment_of, steps
from tests.helpers import request

ROOT = Path(__file__).parent.parent
BINARIES = Path(sys.executable).parent


@pytest.fixture
def port() -> str:
    """Give a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def steps_of(name: str) -> list[Step]:
    """List the steps of a page, but for those that install something or need the whole project."""
    page = (ROOT / name).read_text()
    return [one for one in steps(page) if not (isinstance(one, Command) and one.line.startswith(("pip ", "make ")))]


@pytest.mark.parametrize("name", ["README.md", "docs/alembic.md", "docs/tutorial.md"])
def test_each_step_prints_what_is_shown(name: str, port: str, tmp_path: Path) -> None:
    """Who follows a page from an empty folder sees what it says, to its end."""
    with Reader(tmp_path, environment_of(BINARIES, PORT=port, FLASK_RUN_PORT=port)) as reader:
        for step in steps_of(name):
            reader.follow(step)


def test_the_application_of_the_readme_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick start is an application that answers."""
    monkeypatch.chdir(tmp_path)
    app_file = next(step for step in steps_of("README.md") if isinstance(step, File))
    (tmp_path / app_file.name).write_text(app_file.text)
    app = runpy.run_path(app_file.name)

    exchange = request(app["app"])
    app["engine"].dispose()

    assert (exchange.status, exchange.body) == ("200 OK", b"hello")


ASK = """
import webtest

import app

client = webtest.TestApp(getattr(app, "application", None) or app.app)
print(client.get("/books").text)
print(client.post("/books", {"title": "Emma"}).status_int)
print(client.get("/books").text)
"""


@pytest.mark.parametrize("framework", ["Flask", "Django", "Pyramid", "Falcon", "Bottle", "No framework"])
def test_each_tab_of_the_front_page_commits(framework: str, tmp_path: Path) -> None:
    """Whichever tab is copied, with the module that all of them import, what it adds is there in the next request."""
    page = (ROOT / "docs" / "index.md").read_text()
    tabs = dict(re.findall(r"^:+\{tab-item\} (.+?)\n(.*?)^:::::$", page, re.MULTILINE | re.DOTALL))
    files = [one for one in steps(page) if isinstance(one, File) and one.name == "db.py"]
    files += [one for one in steps(tabs[framework]) if isinstance(one, File)]

    with Reader(tmp_path, environment_of(BINARIES)) as reader:
        for step in [*files, File("ask.py", ASK), Command("python ask.py", "...\n201\n...Emma...\n")]:
            reader.follow(step)

    assert [file.name for file in files] == ["db.py", "app.py"]


def test_what_the_tutorial_builds_answers_a_browser(port: str, tmp_path: Path) -> None:
    """The last step of the tutorial is a server, and it serves the books."""
    *before, server = steps_of("docs/tutorial.md")
    files = [step for step in before if isinstance(step, File)]

    with Reader(tmp_path, environment_of(BINARIES, PORT=port)) as reader:
        for step in [*files, Command("python fill.py", "True\n"), server]:
            reader.follow(step)
        with urlopen(f"http://127.0.0.1:{port}/export") as answer:
            assert answer.read() == b"Invisible Cities\nMiddlemarch\n"


def test_what_the_ini_file_says_commits_a_post(port: str, tmp_path: Path) -> None:
    """Who follows the page of PasteDeploy has a server that keeps what is sent to it."""
    url = f"http://127.0.0.1:{port}"

    with Reader(tmp_path, environment_of(BINARIES, PORT=port)) as reader:
        for step in steps_of("docs/paste.md"):
            reader.follow(step)
        with urlopen(url, data=b"bread") as answer:
            assert answer.status == 200
        with urlopen(url) as answer:
            assert answer.read() == b"bread"
