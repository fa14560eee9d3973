"""The demo: a reading list that a reader learns the library from."""

from __future__ import annotations

import io
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import pytest
import webtest
from bs4 import BeautifulSoup
from sqlalchemy import Engine, create_engine, select

import demo
from tests.client import asked

DEMO = Path(demo.__file__)
SAMPLES = ["Middlemarch", "Invisible Cities", "The Dispossessed"]

Client: TypeAlias = "webtest.TestApp"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Make an engine whose connections have all to be given back."""
    engine = create_engine(f"sqlite:///{tmp_path / 'books.db'}", connect_args={"timeout": 0.1})
    yield engine
    assert engine.pool.checkedout() == 0, "a request has kept its connection"
    engine.dispose()


@pytest.fixture
def application(engine: Engine) -> WSGIApplication:
    """Make the application, on a new database."""
    return demo.make_application(engine)


@pytest.fixture
def client(application: WSGIApplication) -> Client:
    """Make a client that checks each answer against PEP 3333."""
    return webtest.TestApp(application)


def titles(engine: Engine) -> list[str]:
    """Return the titles in the database."""
    with engine.connect() as connection:
        return list(connection.scalars(select(demo.Book.title).order_by(demo.Book.id)))


def text_of(response: webtest.TestResponse) -> str:
    """Return what is to be read on a page."""
    return " ".join(BeautifulSoup(response.text, "html.parser").main.get_text(" ").split())


def last_of(response: webtest.TestResponse) -> list[str]:
    """List what the page says of the last request: a line for each of its attempts."""
    return [item.get_text(" ", strip=True) for item in response.html.select(".last li")]


def assert_failure(response: webtest.TestResponse, status: int, *words: str) -> None:
    """Assert that a page says what went wrong, and shows the list that is as it was."""
    alarm = response.html.find(role="alert").get_text(" ", strip=True)
    assert response.status_int == status
    assert alarm.endswith("Nothing of it was saved.")
    assert all(word in alarm for word in words)
    assert response.html.find("h2", string="The list")


# The list


def test_new_database_has_samples(client: Client, engine: Engine) -> None:
    """A new database has a few books, so that the first page is not empty."""
    page = client.get("/")

    assert titles(engine) == SAMPLES
    assert [title.text for title in page.html.select("li .title strong")] == SAMPLES[::-1]


def test_samples_come_once(engine: Engine) -> None:
    """A database that has the table, even an empty one, gets no samples."""
    client = webtest.TestApp(demo.make_application(engine))
    for number in (1, 2, 3):
        client.post("/delete", {"id": number}, status=303)

    page = webtest.TestApp(demo.make_application(engine)).get("/")

    assert titles(engine) == []
    assert "No books yet" in text_of(page)


def test_book_is_read_and_deleted(client: Client, engine: Engine) -> None:
    """The buttons of a book note that it was read on, and delete it."""
    client.post("/read", {"id": 2}, status=303)
    page = client.post("/read", {"id": 2}, status=303).follow()
    assert "Invisible Cities read up to page 20" in text_of(page)

    client.post("/delete", {"id": 2}, status=303)
    assert titles(engine) == [SAMPLES[0], SAMPLES[2]]


def test_text_is_escaped(client: Client) -> None:
    """What visitors type is text, in the pages and in the names of their buttons."""
    client.post("/", {"title": '<script>alert("x")</script>'}, status=303)

    page = client.get("/")

    assert "<script" not in page
    assert "<script" not in client.get("/read-slowly")
    assert page.html.find("button", attrs={"aria-label": 'Delete <script>alert("x")</script>'})


def test_head_is_get_without_a_body(client: Client) -> None:
    """A HEAD request is answered like a GET, without a body."""
    response = client.head("/")

    assert response.content_type == "text/html"
    assert response.body == b""


# What the library does


def test_first_page_says_what_the_library_does(client: Client) -> None:
    """Who opens the demo reads what the library does, and has four experiments to see it."""
    page = client.get("/")

    assert "wsgi_session gives each request its own SQLAlchemy session." in text_of(page)
    assert [form.find("button").text for form in page.html.select("article form")] == [
        "Add book",
        "Fail after an INSERT",
        "Read slowly",
        "Read on in two tabs",
    ]
    assert last_of(page) == ["There was none yet. Press a button."]


@pytest.mark.parametrize("view", [demo.add_book, demo.fail, demo.read_slowly, demo.read_on_in_two_tabs])
def test_source_that_is_shown_is_the_source(client: Client, view: demo.View) -> None:
    """Beside each experiment is what runs when its button is pressed, in a few short lines."""
    articles = client.get("/").html.select("article")
    article = next(one for one in articles if one.p.text == view.__doc__)

    first, *lines = article.pre.text.splitlines()

    assert first.startswith(f"def {view.__name__}(")
    assert all(f"\n{line}\n" in DEMO.read_text() for line in lines)
    assert 2 <= len(lines) <= 5
    assert max(map(len, lines)) < 70


def test_it_commits(client: Client, engine: Engine) -> None:
    """A book that is added is committed, before the browser is sent back to the list, which says so."""
    page = client.post("/", {"title": "  Emma \n "}, status=303).follow()

    assert titles(engine) == [*SAMPLES, "Emma"]
    assert re.fullmatch(
        r"POST / → INSERT → COMMIT before the first byte → 303 committed: POST 303, on_unsafe_success\."
        r" The connection was held for \d+\.\d ms of\s+\d+\.\d ms\. Request 1 in the inspector",
        *last_of(page),
    )


def test_it_fails_and_nothing_is_kept(client: Client, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """A view that fails after an INSERT leaves the books as they were, and the page says so."""
    page = client.post("/fail", status=500)

    assert_failure(page, 500, "RuntimeError")
    assert last_of(page)[0].startswith("POST /fail → INSERT → ROLLBACK → an exception rolled back: RuntimeError in ")
    assert titles(engine) == SAMPLES
    assert "POST '/fail' failed" in caplog.text


def test_a_slow_reader_holds_no_connection(client: Client) -> None:
    """The lines that are read slowly say that no connection is in use; the list says how long one was."""
    page = client.get("/read-slowly")

    assert [line.text for line in page.html.select("p")[:-1]] == [
        f"{title} (0 connections in use)" for title in SAMPLES
    ]
    text = last_of(client.get("/"))[0]
    assert text.startswith("GET /read-slowly → SELECT → 200 not committed: GET is safe.")
    held, whole = map(float, re.findall(r"([\d.]+) ms", text))
    assert held < whole / 2


def test_two_tabs_in_conflict(client: Client) -> None:
    """A request whose row another tab has changed is repeated, and what both have written is kept."""
    page = client.post("/conflict", status=303).follow()

    first, second = last_of(page)
    assert first.startswith("POST /conflict → SELECT → UPDATE → ROLLBACK → an exception")
    assert second.startswith("POST /conflict → SELECT → UPDATE → COMMIT before the first byte → 303")
    assert "repeated once: StaleDataError" in second
    assert "Middlemarch read up to page 20" in text_of(page)


def test_requests_lead_to_the_inspector(engine: Engine) -> None:
    """The inspector shows what the first page sums up, to a visitor of this computer alone."""
    client = webtest.TestApp(demo.make_application(engine), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    page = client.post("/", {"title": "Emma"}).follow()

    inspected = page.click("in the inspector")

    assert "INSERT INTO books" in inspected
    client.get("/-/inspector/", extra_environ={"REMOTE_ADDR": "192.0.2.1"}, status=404)


# Failures


@pytest.mark.parametrize("title", ["", " \t ", "e" * 201])
def test_title_is_refused(client: Client, engine: Engine, title: str) -> None:
    """A title that is missing or too long is not added."""
    assert_failure(client.post("/", {"title": title}, status=400), 400, "1 to 200 letters, please.")
    assert titles(engine) == SAMPLES


def test_title_may_be_long(client: Client, engine: Engine) -> None:
    """A title of 200 characters is not too long."""
    client.post("/", {"title": "é" * 200}, status=303)

    assert titles(engine)[-1] == "é" * 200


@pytest.mark.parametrize("request_line", ["GET /nowhere", "PUT /", "GET /fail", "OPTIONS /read-slowly"])
def test_unknown_page(client: Client, request_line: str) -> None:
    """A path or a method that there is not is answered with the reason, and the list."""
    method, path = request_line.split()

    assert_failure(client.request(path, method=method, status=404), 404, f"Nothing answers {request_line}.")


@pytest.mark.parametrize("path", ["/read", "/delete"])
@pytest.mark.parametrize("form", [{}, {"id": "7"}, {"id": "x"}, {"id": "9" * 30}, {"id": "\0"}])
def test_unknown_book(client: Client, path: str, form: dict[str, str]) -> None:
    """A book that there is not is answered with the reason, and the list."""
    assert_failure(client.post(path, form, status=404), 404, "There is no such book.")


def test_conflict_without_books(client: Client) -> None:
    """Where there is no book to read on in, the experiment says so."""
    for number in (1, 2, 3):
        client.post("/delete", {"id": number}, status=303)

    assert_failure(client.post("/conflict", status=404), 404, "There is no such book.")


@pytest.mark.parametrize(
    ("path", "body", "content_length"),
    [
        ("/", b"title=%FF", None),
        ("/", b"title=\xff", None),
        ("/\xff", b"", None),
        ("/", b"title=Emma", "ten"),
        ("/", b"title=Emma", "-10"),
        ("/", b"title=Emma", "99"),
        ("/", b"title=Emma", "99999999999999"),
    ],
)
def test_unreadable_request(
    application: WSGIApplication, engine: Engine, path: str, body: bytes, content_length: str | None
) -> None:
    """A request that is not UTF-8, or not as long as it says, is refused."""
    environ: dict[str, object] = {
        "PATH_INFO": path,
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": content_length or str(len(body)),
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "wsgi.input": io.BytesIO(body),
    }

    status, text = call(application, environ)

    assert status == "400 Bad Request"
    assert "Nothing of it was saved" in text
    assert titles(engine) == SAMPLES


def call(application: WSGIApplication, environ: dict[str, object]) -> tuple[str, str]:
    """Make a request that no client would make."""
    answer = []
    setup_testing_defaults(environ)

    body = application(environ, lambda status, headers, exc_info=None: answer.append(status))
    try:
        return answer[0], b"".join(body).decode()
    finally:
        if close := getattr(body, "close", None):
            close()


def test_refused_write_is_a_failure_page(client: Client, engine: Engine) -> None:
    """A book that the database refuses is answered with a page that does not show the statement or the title."""
    with engine.connect() as writer:
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        response = client.post("/", {"title": "Emma"}, status=500)

    assert_failure(response, 500, "OperationalError")
    assert "INSERT INTO" not in response
    assert "Emma" not in response
    assert len(last_of(response)) == 3  # it was repeated in vain
    assert titles(engine) == SAMPLES


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "http://localhost:9999", "null"])
def test_form_of_another_site_is_refused(client: Client, engine: Engine, origin: str) -> None:
    """A page of another site cannot change the list."""
    response = client.post("/delete", {"id": 1}, headers={"Origin": origin}, status=403)

    assert_failure(response, 403, "another site")
    assert titles(engine) == SAMPLES


def test_form_of_this_site_is_welcome(client: Client, engine: Engine) -> None:
    """What a browser says about a form of this site does not get in its way."""
    client.post("/delete", {"id": 1}, headers={"Origin": "http://localhost"}, status=303)

    assert titles(engine) == SAMPLES[1:]


# The program


class Running:
    """The demo in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        """Wait until it has said where it is."""
        self.process = process
        self.errors = errors
        self.first_line = process.stdout.readline() if process.stdout else ""
        self.port = int(re.search(r":(\d+)/", self.first_line)[1])

    def request(self, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Return the status and the body of an answer."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = asked(self.port, path, method, body.encode(), form)
        return answer.status, answer.body.decode()

    def send(self, data: bytes) -> bytes:
        """Return the answer to *data*, sent as it is."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal, and return the exit status and what was written to stderr."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20), self.errors.read_text()


@contextmanager
def running_demo(folder: Path) -> Iterator[Running]:
    """Run the demo until the block is left, on a database in *folder*."""
    errors = folder / "stderr.txt"
    command = [sys.executable, str(DEMO), "--port", "0", "--database", str(folder / "served.db")]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            yield Running(process, errors)
        finally:
            process.kill()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    """Run the demo."""
    with running_demo(tmp_path) as served:
        yield served


def run_demo(*options: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run a demo that ends by itself."""
    command = [sys.executable, str(DEMO), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=cwd)
    return ended.returncode, ended.stdout, ended.stderr


def test_program_says_where_it_is(served: Running) -> None:
    """The program prints its address, and answers there."""
    assert served.first_line == f"Reading list on http://127.0.0.1:{served.port}/ (Ctrl-C ends it)\n"
    assert served.request("POST", "/", "title=Emma")[0] == 303
    assert "Emma" in served.request("GET", "/")[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_program_ends(served: Running, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the program, without a traceback."""
    served.request("GET", "/")

    status, errors = served.end(number)

    assert status == 0
    assert "Traceback" not in errors


def test_books_outlive_the_program(tmp_path: Path) -> None:
    """The books are still there when the program is started again."""
    with running_demo(tmp_path) as served:
        served.request("POST", "/", "title=Emma")
        served.end(signal.SIGTERM)

    with running_demo(tmp_path) as served:
        assert "Emma" in served.request("GET", "/")[1]


def test_idle_connection_blocks_nobody(served: Running) -> None:
    """A connection on which a browser sends nothing does not keep others waiting."""
    with socket.create_connection(("127.0.0.1", served.port)):
        assert served.request("GET", "/")[0] == 200


def test_client_leaves_half_way(served: Running, tmp_path: Path) -> None:
    """A client that goes away half-way through a response leaves no traceback, and its request ends."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
        client.sendall(b"GET /read-slowly HTTP/1.0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.0 200 OK")

    wait_until(lambda: '"path": "/read-slowly"' in served.request("GET", "/-/inspector/?format=json")[1])
    assert served.request("POST", "/", "title=Emma")[0] == 303
    assert "Traceback" not in served.end(signal.SIGTERM)[1]


def test_client_leaves_in_its_form(served: Running) -> None:
    """A client that goes away in the middle of its form leaves no traceback, and no book."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
        client.sendall(b"POST / HTTP/1.0\r\nContent-Length: 100\r\n\r\ntitle=Emma")

    wait_until(lambda: "HTTPBadRequest" in served.request("GET", "/-/inspector/?format=json")[1])
    assert "Emma" not in served.request("GET", "/")[1]
    assert "Traceback" not in served.end(signal.SIGTERM)[1]


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what a server does by itself."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\xff garbage\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9.9\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n", b"414"),
        (b"GET /%FF%zz HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /?%FF=%zz HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /%00 HTTP/1.0\r\n\r\n", b"404"),
        (b"GET / HTTP/1.0\r\nHost: \xff:x:y\r\nCookie: =;\xff\r\n\r\n", b"200"),
        (b"FLY / HTTP/1.0\r\n\r\n", b"404"),
        (b"POST / HTTP/1.0\r\nContent-Length: ten\r\n\r\ntitle=Emma", b"400"),
        (b"POST / HTTP/1.0\r\nContent-Length: -1\r\n\r\ntitle=Emma", b"400"),
        (b"POST / HTTP/1.0\r\nContent-Length: 100\r\n\r\ntitle=Emma", b"400"),
        (b"POST / HTTP/1.0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.0\r\nContent-Type: multipart/form-data; boundary=\r\nContent-Length: 3\r\n\r\n--\n", b"400"),
        (b"POST / HTTP/1.0\r\nOrigin: \xff\r\n\r\n", b"403"),
    ],
)
def test_broken_request(served: Running, data: bytes, status: bytes) -> None:
    """A broken request is answered, without a traceback, and nothing comes of it."""
    answer = served.send(data)

    assert status in answer.partition(b"\n")[0] or b"Error code: " + status in answer
    assert served.request("GET", "/")[1].count('class="title"') == len(SAMPLES)
    assert "Traceback" not in served.end(signal.SIGTERM)[1]


def test_port_in_use(served: Running, tmp_path: Path) -> None:
    """A port that is in use is an error of one line, and no database is made."""
    status, output, errors = run_demo("--port", str(served.port), cwd=tmp_path)

    assert (status, output) == (1, "")
    assert re.fullmatch(rf"demo.py: cannot listen on port {served.port}: .+\n", errors)
    assert not (tmp_path / "reading-list.db").exists()


@pytest.mark.parametrize("port", ["65536", "-1", "99999999999999999999"])
def test_port_out_of_range(tmp_path: Path, port: str) -> None:
    """A port that there is not is an error of one line."""
    status, _, errors = run_demo("--port", port, cwd=tmp_path)

    assert status == 1
    assert re.fullmatch(rf"demo.py: cannot listen on port {port}: .+\n", errors)


def test_port_is_a_number(tmp_path: Path) -> None:
    """An option that cannot be read is an error of argparse's."""
    status, _, errors = run_demo("--port", "http", cwd=tmp_path)

    assert status == 2
    assert "argument --port: invalid int value: 'http'" in errors


@pytest.mark.parametrize("name", ["", "folder", "missing/books.db", "text.db", "loop.db"])
def test_unusable_database(tmp_path: Path, name: str) -> None:
    """A database that cannot be used is an error of one line."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_text("This is not a database. " * 50)
    (tmp_path / "loop.db").symlink_to("loop.db")

    status, output, errors = run_demo("--port", "0", "--database", name, cwd=tmp_path)

    assert (status, output) == (1, "")
    assert re.fullmatch(rf"demo.py: cannot use the database '{name}': .+\n", errors)


def test_missing_package(tmp_path: Path) -> None:
    """Without the packages that it needs, the program says how to install them."""
    (tmp_path / "jinja2.py").write_text("raise ModuleNotFoundError(name='jinja2')")
    code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path({str(DEMO)!r})"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)

    assert ended.returncode == 1
    assert ended.stderr == "demo.py needs 'jinja2': pip install 'wsgi-session[demo]'\n"
