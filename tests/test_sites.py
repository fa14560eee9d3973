"""The pages with one file to copy: it runs, with its commands, its forms and its tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.client import asked
from tests.documents import Command, File, Reader, Step, environment_of, steps

ROOT = Path(__file__).parent.parent
BINARIES = Path(sys.executable).parent
FRAMEWORKS = ["flask", "django", "pyramid"]
PAGES = {f"{prefix}{name}_site.py": name for name in FRAMEWORKS for prefix in ("", "test_")}
"""The files that are copied, each with its page."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the files of the pages."""
    for name in PAGES:
        shutil.copy(ROOT / "examples" / name, tmp_path)
    return tmp_path


@pytest.fixture
def port() -> int:
    """Give a port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def text_of(framework: str) -> str:
    """Return the text of a page."""
    return (ROOT / "docs" / "frameworks" / f"{framework}.md").read_text()


def commands(framework: str) -> list[Step]:
    """List what the page has one type, but for what installs something."""
    page = text_of(framework)
    return [one for one in steps(page) if isinstance(one, Command) and not one.line.startswith("pip ")]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_has_the_whole_file(name: str) -> None:
    """Who copies a block of the page has all that the file has, but for its docstring and the last tests of Flask's."""
    code = (ROOT / "examples" / name).read_text().partition("from __future__")[2]
    shown = (
        text_of(PAGES[name]).partition(f"<!-- examples/{name} -->\n```python\nfrom __future__")[2].partition("```")[0]
    )

    assert shown
    assert code.startswith(shown.rstrip()) if name == "test_flask_site.py" else code == shown


def test_what_the_page_of_flask_says_to_type(folder: Path, port: int) -> None:
    """The commands of the page make the tables, add a user, and start a server on which that user may add a book."""
    environment = environment_of(BINARIES, FLASK_RUN_PORT=str(port))

    with Reader(folder, environment) as reader:
        for step in commands("flask"):
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
    lines = [
        "from flask_site import *",
        "Base.metadata.create_all(session.get_bind())",
        "session.add(Book(title='Emma'))",
        "session.commit()",
        "Session() is session",
    ]

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


def test_what_the_page_of_django_says_to_type(folder: Path, port: int) -> None:
    """The commands of the page make Django's tables and start a server: books are SQLAlchemy's, the admin Django's."""
    server = Command(
        f"python django_site.py runserver --noreload {port}", "...Quit the server with CONTROL-C.\n...", stays=True
    )

    with Reader(folder, environment_of(BINARIES, PYTHONUNBUFFERED="1")) as reader:
        for step in [*commands("django"), server]:
            reader.follow(step)
        form = asked(port, "/books/new")
        token = form.body.decode().partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
        cookie = {"Cookie": dict(form.headers)["set-cookie"].partition(";")[0]}
        added = asked(port, "/books/new", "POST", f"title=Emma&csrfmiddlewaretoken={token}".encode(), FORM | cookie)
        refused = asked(port, "/books/1", "POST", f"title=&csrfmiddlewaretoken={token}".encode(), FORM | cookie)
        pages = {path: asked(port, path) for path in ("/", "/count", "/export", "/admin/login/")}

    assert (added.status, refused.status) == (302, 422)
    assert {answer.status for answer in pages.values()} == {200}
    assert "Emma" in pages["/"].body.decode()
    assert (pages["/count"].body, pages["/export"].body) == (b"1", b"Emma\n")


@pytest.mark.parametrize(
    "line", ["waitress-serve --listen 127.0.0.1:8000 --call pyramid_site:main", "PYTHONPATH=. pserve site.ini"]
)
def test_what_the_page_of_pyramid_says_to_type(line: str, folder: Path, port: int) -> None:
    """By its factory or by its `.ini` file, the application keeps a book, and refuses a form and a title."""
    page = text_of("pyramid")
    assert line in page
    files = [step for step in steps(page.replace("127.0.0.1:8000", f"127.0.0.1:{port}")) if isinstance(step, File)]
    server = Command(line.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), "...", stays=True)

    with Reader(folder, environment_of(BINARIES, PYTHONUNBUFFERED="1")) as reader:
        for step in [*files, Command("python pyramid_site.py Evelina", "..."), server]:
            reader.follow(step)
        wait_for(port)
        answers = [asked(port, path, "POST", body, FORM).status for path, body in POSTS]
        shown_books = asked(port, "/").body

    assert answers == [303, 422, 409, 404]
    assert shown_books == b'["Emma", "Evelina"]'


POSTS = [
    ("/books/new", b"title=Emma"),
    ("/books/1", b"title="),
    ("/books/new", b"title=Emma"),
    ("/books/7", b"title=a"),
]


def wait_for(port: int) -> None:
    """Wait until a server listens."""
    for _ in range(1200):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    pytest.fail("The server does not listen.")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_its_tests_pass(framework: str, folder: Path) -> None:
    """The tests of the page pass, with the fixtures of this package and, in Flask, with its own client."""
    done = subprocess.run(
        ["sh", "-c", f"python -m pytest -q -p no:cacheprovider test_{framework}_site.py"],
        cwd=folder,
        env=environment_of(BINARIES, PYTHONPATH=str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "4 passed" in done.stdout, done.stdout
