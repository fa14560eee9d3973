"""The demo: a reading list that a reader learns the library from."""

from __future__ import annotations

import csv
import io
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
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
SAMPLES = ["A Wizard of Earthsea", "Invisible Cities", "Middlemarch"]

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
    return BeautifulSoup(response.text, "html.parser").main.get_text(" ", strip=True)


def assert_failure(response: webtest.TestResponse, status: int, *words: str) -> None:
    """Assert that a page says what went wrong, what happened in the database, and where the list is."""
    text = text_of(response)
    assert response.status_int == status
    assert all(word in text for word in ("Nothing was committed", *words))
    assert response.html.find("a", href="/", string="Back to the list")


# The list


def test_new_database_has_samples(client: Client, engine: Engine) -> None:
    """A new database has a few books, so that the first page is not empty."""
    page = client.get("/")

    assert titles(engine) == SAMPLES
    assert [heading.text for heading in page.html.find_all("h2")] == SAMPLES[::-1]
    assert "2 to read, 1 read" in text_of(page)


def test_samples_come_once(engine: Engine) -> None:
    """A database that has the table, even an empty one, gets no samples."""
    client = webtest.TestApp(demo.make_application(engine))
    for number in (1, 2, 3):
        client.post(f"/books/{number}/delete", status=303)

    page = webtest.TestApp(demo.make_application(engine)).get("/")

    assert titles(engine) == []
    assert "No books yet" in text_of(page)


def test_book_is_added(client: Client, engine: Engine) -> None:
    """A book that is added is committed, and the browser is sent back to it."""
    response = client.post("/", {"title": "  Emma \n ", "author": "Jane Austen"}, status=303)

    assert response.location == "http://localhost/#book-4"
    assert titles(engine) == [*SAMPLES, "Emma"]
    assert "Jane Austen" in client.get("/")


def test_book_is_ticked_and_unticked(client: Client) -> None:
    """A tick turns into the other: to read, read."""
    ticked = client.post("/books/3/tick", status=303).follow()
    unticked = client.post("/books/3/tick", status=303).follow()

    assert ticked.html.find(id="book-3").find("button", attrs={"aria-label": "Untick Middlemarch"})
    assert unticked.html.find(id="book-3").find("button", attrs={"aria-label": "Tick off Middlemarch"})


def test_book_is_deleted(client: Client, engine: Engine) -> None:
    """A book that is deleted is gone."""
    response = client.post("/books/1/delete", status=303)

    assert response.location.endswith("/#books")
    assert titles(engine) == SAMPLES[1:]


def test_text_is_escaped(client: Client) -> None:
    """What visitors type is text, in the page and in the names of its buttons."""
    client.post("/", {"title": '<script>alert("x")</script>', "author": "'\"><b>"}, status=303)

    page = client.get("/")

    assert "<script" not in page
    assert "<b>" not in page
    assert page.html.find("h2").text == '<script>alert("x")</script>'
    assert page.html.find("button", attrs={"aria-label": 'Delete <script>alert("x")</script>'})


def test_query_fills_in_the_form(client: Client) -> None:
    """A link can fill in the form."""
    page = client.get("/?title=Emma")

    assert page.forms[0]["title"].value == "Emma"


def test_head_is_get_without_a_body(client: Client) -> None:
    """A HEAD request is answered like a GET, without a body."""
    response = client.head("/")

    assert response.content_type == "text/html"
    assert response.body == b""


def test_headers_keep_the_page_to_itself(client: Client) -> None:
    """Every answer, of failures too, says that nothing may be loaded from elsewhere."""
    for path in ("/", "/scope", "/export.csv", "/nowhere"):
        response = client.get(path, status="*")

        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert response.headers["X-Content-Type-Options"] == "nosniff"


# Failures


@pytest.mark.parametrize(
    ("title", "author", "mistake"),
    [
        ("", "Jane Austen", "A book needs a title."),
        (" \t ", "Jane Austen", "A book needs a title."),
        ("e" * 201, "Jane Austen", "At most 200 characters, please: this has 201."),
        ("Emma", "a" * 201, "At most 200 characters, please: this has 201."),
    ],
)
def test_mistake_is_explained(client: Client, engine: Engine, title: str, author: str, mistake: str) -> None:
    """A form with a mistake comes back as it was typed, and says what is wrong."""
    page = client.post("/", {"title": title, "author": author}, status=400)

    assert_failure(page, 400, mistake)
    assert (page.forms[0]["title"].value, page.forms[0]["author"].value) == (title, author)
    assert titles(engine) == SAMPLES


def test_title_may_be_long(client: Client, engine: Engine) -> None:
    """A title of 200 characters is not too long."""
    client.post("/", {"title": "é" * 200}, status=303)

    assert titles(engine)[-1] == "é" * 200


@pytest.mark.parametrize("path", ["/nowhere", "/books/7/tick/", "/books/x/tick", "/books/99999999999999999999/tick"])
def test_unknown_page(client: Client, path: str) -> None:
    """There is a page that says that there is no such page."""
    assert_failure(client.post(path, status=404), 404, "There is no such page.")


@pytest.mark.parametrize("path", ["/books/7/tick", "/books/7/delete", "/books/999999999999999999/delete"])
def test_unknown_book(client: Client, path: str) -> None:
    """There is a page that says that there is no such book."""
    assert_failure(client.post(path, status=404), 404, "There is no such book")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/books/1/delete", {"POST"}),
        ("HEAD", "/fail", {"POST"}),
        ("PUT", "/", {"GET", "HEAD", "POST"}),
        ("OPTIONS", "/export.csv", {"GET", "HEAD"}),
    ],
)
def test_wrong_method(client: Client, engine: Engine, method: str, path: str, allowed: set[str]) -> None:
    """A page says which methods it answers."""
    response = client.request(path, method=method, status=405)

    assert set(response.allow) == allowed
    assert titles(engine) == SAMPLES


def test_wrong_method_has_a_page(client: Client) -> None:
    """A wrong method has a failure page, too."""
    assert_failure(client.get("/fail", status=405), 405, "does not answer GET")


@pytest.mark.parametrize(
    ("path", "body", "content_length"),
    [
        ("/", b"title=%FF", None),
        ("/", b"title=\xff", None),
        ("/?title=%FF", b"title=Emma", None),
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
    path, _, query = path.partition("?")
    environ = {
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": content_length or str(len(body)),
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "wsgi.input": io.BytesIO(body),
    }

    status, text = call(application, environ)

    assert status == "400 Bad Request"
    assert "Nothing was committed" in text
    assert titles(engine) == SAMPLES


def test_raw_bytes_in_the_query_are_refused(application: WSGIApplication) -> None:
    """A query is UTF-8 even where a client has not quoted it."""
    status, _ = call(application, {"QUERY_STRING": "title=\xff"})

    assert status == "400 Bad Request"


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


def test_failure_keeps_nothing(client: Client, engine: Engine) -> None:
    """A page that fails after an INSERT leaves the books as they were, and says so."""
    response = client.post("/fail", status=500)

    assert_failure(response, 500, "There were 3 books, the INSERT made that 4", "A fresh session counts 3 books .")
    assert titles(engine) == SAMPLES


def test_refused_write_is_a_failure_page(client: Client, engine: Engine) -> None:
    """A book that the database refuses is answered with a failure page that does not show the statement."""
    with engine.connect() as writer:
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        response = client.post("/", {"title": "Emma"}, status=500)

    assert_failure(response, 500, "A fresh session counts 3 books")
    assert "INSERT INTO" not in response
    assert titles(engine) == SAMPLES


def test_failing_database_is_a_failure_page(client: Client, engine: Engine) -> None:
    """A database that does not answer has a failure page, too."""
    demo.Base.metadata.drop_all(engine)

    assert_failure(client.get("/", status=500), 500, "the database does not answer")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
    ],
)
def test_form_of_another_site_is_refused(client: Client, engine: Engine, headers: dict[str, str]) -> None:
    """A page of another site cannot change the list."""
    response = client.post("/books/1/delete", headers=headers, status=403)

    assert_failure(response, 403, "another site")
    assert titles(engine) == SAMPLES


def test_form_of_this_site_is_welcome(client: Client, engine: Engine) -> None:
    """What a browser says about a form of this site does not get in its way."""
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}

    client.post("/books/1/delete", headers=headers, status=303)

    assert titles(engine) == SAMPLES[1:]


# The export and the scope


def test_export(client: Client) -> None:
    """The books are exported as a CSV file."""
    client.post("/", {"title": 'Say "Emma", twice'})

    response = client.get("/export.csv")

    assert response.headers["Content-Type"].lower() == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="reading-list.csv"'
    assert list(csv.reader(io.StringIO(response.text)))[::4] == [
        ["Title", "Author", "Read"],
        ['Say "Emma", twice', "", "no"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("x")'])
def test_export_has_no_formulas(client: Client, text: str) -> None:
    """A spreadsheet does not run what visitors have typed."""
    client.post("/", {"title": text, "author": text})

    rows = list(csv.reader(io.StringIO(client.get("/export.csv").text)))

    assert rows[-1] == [f"'{text}", f"'{text}", "no"]


@pytest.mark.parametrize("text", ["\t=1", "\r=1"])
def test_formula_behind_white_space(text: str) -> None:
    """Neither does it run a formula behind white space."""
    assert demo.without_formula(text) == f"'{text}"


def test_export_is_streamed(application: WSGIApplication, engine: Engine) -> None:
    """An export holds a connection while it is sent, and gives it back when the client goes away."""
    environ: dict[str, object] = {"PATH_INFO": "/export.csv"}
    setup_testing_defaults(environ)
    body = application(environ, lambda status, headers, exc_info=None: print)

    first_two = [line for line, _ in zip(body, range(2), strict=False)]

    assert first_two[1].startswith(b"A Wizard")
    assert engine.pool.checkedout() == 1
    body.close()
    assert engine.pool.checkedout() == 0


def test_scope_page(client: Client) -> None:
    """The scope's page shows a connection that is taken by the query and given back by ``release()``."""
    page = client.get("/scope")

    text = text_of(page)
    assert "<Scope of GET /scope, open>" in text
    assert 'Session() is environ["sqlalchemy.session"] True' in text
    assert "At first none 0 After a query open 1 After release() none 0" in text


def test_ended_requests_are_counted(client: Client) -> None:
    """The scope's page counts the requests that have ended, whether they failed or not."""
    before = requests_ended(client)
    client.get("/")
    client.get("/nowhere", status=404)
    client.post("/fail", status=500)

    assert requests_ended(client) == before + 4  # with the page that was asked before


def requests_ended(client: Client) -> int:
    """Return how many requests have ended, as the scope's page has it."""
    match = re.search(r"Requests that have ended (\d+)", text_of(client.get("/scope")))
    assert match
    return int(match[1])


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


def test_client_leaves_during_the_export(served: Running, tmp_path: Path) -> None:
    """A client that goes away half-way through the export leaves no traceback, and no connection in use."""
    with sqlite3.connect(tmp_path / "served.db") as database:
        rows = [("x" * 200, "", False)] * 50_000
        database.executemany("INSERT INTO book (title, author, is_read) VALUES (?, ?, ?)", rows)
    database.close()

    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
        client.sendall(b"GET /export.csv HTTP/1.0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.0 200 OK")

    wait_until_idle(served)
    assert served.request("POST", "/", "title=Emma")[0] == 303
    assert "Traceback" not in served.end(signal.SIGTERM)[1]


def wait_until_idle(served: Running) -> None:
    """Wait until no request has a connection."""
    deadline = time.monotonic() + 20
    while '<th scope="row">At first</th><td>none</td><td>0</td>' not in served.request("GET", "/scope")[1]:
        assert time.monotonic() < deadline, "the export has kept its connection"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\xff garbage\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9.9\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n", b"414"),
        (b"GET /%FF%zz HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /?%FF=%zz HTTP/1.0\r\n\r\n", b"400"),
        (b"GET /%00 HTTP/1.0\r\n\r\n", b"404"),
        (b"GET / HTTP/1.0\r\nHost: \xff:x:y\r\nCookie: =;\xff\r\n\r\n", b"200"),
        (b"FLY / HTTP/1.0\r\n\r\n", b"405"),
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
    assert served.request("GET", "/export.csv")[1].count("\n") == 4
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
