"""The inspector: who may see it, what its pages show, and what they never do."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
import webtest
from sqlalchemy import Engine, create_engine, text

import demo
from examples import inspector as example
from tests.drivers import POSTGRESQL
from tests.helpers import Exchange, answer, link_in, new_environ, request
from wsgi_session import SessionMiddleware, on_success
from wsgi_session.inspector import Inspector
from wsgi_session.inspector._pages import duration
from wsgi_session.observe import Recorder
from wsgi_session.replicas import Replicas, ToPrimary

KEY = "sqlalchemy.session"
PAGES = ["/", "/routes", "/live", "/statements", "/pools"]
HOSTILE = """<script>alert(document)</script>'"><img src=x onerror=alert(document)>"""
SECRET_NUMBER = "471147114711"
OPEN = "open-sesame-open-sesame"


@pytest.fixture
def recorder() -> Recorder:
    """Return a recorder of statements."""
    return Recorder(statements=True)


@pytest.fixture
def pages(recorder: Recorder) -> webtest.TestApp:
    """Return a local visitor of the inspector, who has opened its link."""
    return visitor(recorder)


def visitor(recorder: Recorder) -> webtest.TestApp:
    """Make a local visitor who has opened the link, whose client checks each answer against PEP 3333."""
    pages = webtest.TestApp(Inspector(recorder, key=OPEN), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    pages.get(f"/?key={OPEN}", status=303)
    return pages


def do(work: Callable[[Any], object], registry: Any, recorder: Recorder, path: str = "/", **environ: Any) -> None:
    """Do *work* with the environ of a request that is recorded."""

    def app(environ: Any, start_response: Any) -> Any:
        work(environ)
        answer(start_response, "200 OK", ("Set-Cookie", "id=secret-answer"))
        return [b"secret-answer"]

    with suppress(LookupError):
        request(SessionMiddleware(app, registry, recorder=recorder, commit=on_success), path=path, **environ)


def ask(environ: Any) -> None:
    """Send a statement."""
    environ[KEY].execute(text("SELECT 1"))


def all_of(pages: webtest.TestApp, recorder: Recorder) -> str:
    """Return everything that there is to be seen, as HTML and as JSON."""
    paths = [*PAGES, *(f"/requests/{record.number}" for record in recorder.records)]
    return "\n".join(pages.get(path + how).text for path in paths for how in ("", "?format=json"))


# What a page is held to


@pytest.mark.parametrize("path", ["/", "/live?format=json"])
def test_a_page_keeps_to_itself(pages: webtest.TestApp, path: str) -> None:
    """A page may load nothing, be in no frame, and be kept nowhere."""
    headers = pages.get(path).headers

    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    for kind in ("script-src", "style-src"):
        assert policy.pop(kind).startswith("'sha256-")
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:80"},
        {"Origin": "http://localhost:80"},
    ],
)
def test_a_page_of_its_own_may_clear(
    engine: Any, recorder: Recorder, pages: webtest.TestApp, headers: dict[str, str]
) -> None:
    """A form of its own has the requests forgotten, and leads back to the list."""
    do(ask, engine, recorder)

    response = pages.post("/clear", headers=headers, status=303)

    assert response.headers["Location"] == "/"
    assert recorder.records == ()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:80"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://localhost:80"},
        {"Origin": "http://localhost:81"},
        {"Origin": "null"},
    ],
)
def test_nobody_else_may_clear(
    engine: Any, recorder: Recorder, pages: webtest.TestApp, headers: dict[str, str]
) -> None:
    """A form of another site, or one that does not say where it comes from, changes nothing."""
    do(ask, engine, recorder)

    pages.post("/clear", headers=headers, status=403)

    assert len(recorder.records) == 1


def test_looking_changes_nothing(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """Clearing is a POST, and everything else a GET or HEAD."""
    do(ask, engine, recorder)

    assert pages.get("/clear", headers={"Sec-Fetch-Site": "same-origin"}, status=405).allow == ("POST",)
    assert set(pages.post("/", status=405).allow) == {"GET", "HEAD"}
    assert pages.head("/").body == b""
    assert len(recorder.records) == 1


# What it shows


def test_nothing_has_happened_yet(pages: webtest.TestApp) -> None:
    """Before the first request each page says that there is nothing, and what to do."""
    assert "No request is done yet." in pages.get("/")
    assert "No request is under way." in pages.get("/live")
    assert "No statement has been recorded." in pages.get("/statements")
    assert "with findings" in pages.get("/")


@pytest.mark.parametrize("path", ["/requests/2", "/requests/", "/requests/01", "/requests/x", "/nowhere"])
def test_an_unknown_page_is_not_found(engine: Any, recorder: Recorder, pages: webtest.TestApp, path: str) -> None:
    """What is not there, or not kept any longer, is a 404."""
    do(ask, engine, recorder)

    pages.get("/requests/1", status=200)
    pages.get(path, status=404)


def test_requests_are_listed(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """The list has the newest request first, each with its findings and a picture, and leads to its page."""
    do(ask, engine, recorder, "/a")
    do(lambda environ: [ask(environ) for _ in range(3)], engine, recorder, "/b")

    page = pages.get("/")

    assert [heading.text for heading in page.html.main.find_all("h2")] == ["GET /b", "GET /a"]
    assert [badge.text for badge in page.html.find_all(class_="badge")] == ["identical query"]
    assert len(page.html.select(".requests svg")) == 2
    assert "identical query" in page.click("/b")


def test_requests_are_sorted(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """The list can be sorted by any of its numbers, equals by their age; by what is no number it is as ever."""
    for count in (1, 4, 3):
        do(lambda environ, count=count: [ask(environ) for _ in range(count)], engine, recorder, f"/{count}")

    def order(sort: str) -> list[str]:
        return [heading.text[-1] for heading in pages.get("/", {"sort": sort}).html.main.find_all("h2")]

    assert order("statements") == ["4", "3", "1"]
    assert order("findings") == order("newest") == order("__class__") == ["3", "4", "1"]
    for name in ("duration", "in_database", "waited", "held", "idle"):
        assert sorted(order(name)) == ["1", "3", "4"]


def test_a_long_list_is_in_parts(engine: Any, pages: webtest.TestApp) -> None:
    """A list of many requests is cut, and each part leads to the next one."""
    recorder = Recorder(keep=120)
    for _ in range(101):
        do(ask, engine, recorder)
    pages = visitor(recorder)

    first = pages.get("/?sort=held")
    last = first.click("Further").click("Further")

    assert len(first.html.select(".requests > li")) == 50
    assert "51 to 100 of 101 requests" in last.click("Earlier")
    assert len(last.html.select(".requests > li")) == 1
    assert "Further" not in last
    assert len(pages.get("/?part=x").html.select(".requests > li")) == 50


def test_a_request_is_shown(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """The page of a request has its findings with their cure, its statements by shape and line, and each of them."""

    def work(environ: Any) -> None:
        for number in range(6):
            environ[KEY].execute(text("INSERT INTO word (text) VALUES (:text)"), {"text": str(number)})
            ask(environ)

    do(work, engine, recorder)

    page = pages.get("/requests/1")
    assert [one.text for one in page.html.select(".findings .badge")] == ["write in a loop", "identical query"]
    assert "flush once, or pass a list of rows" in page.text
    assert "tests/test_inspector.py:" in page.text
    assert [row.td.text for row in page.html.select(".shapes tbody tr")].count("6") == 2
    assert len(page.html.select(".statements > li")) == 13
    assert len(page.html.select(".waterfall rect")) == 2 + 13


def test_a_large_request_is_in_parts(engine: Any, pages: webtest.TestApp) -> None:
    """The page of a request with many statements has them in parts, and says what is not kept."""

    def work(environ: Any) -> None:
        for number in range(470):
            environ[KEY].execute(text(f"SELECT 1 AS a{number}"))

    recorder = Recorder(statements=True, max_statements=450)
    do(work, engine, recorder)
    pages = visitor(recorder)

    first = pages.get("/requests/1")
    last = pages.get("/requests/1?part=3")
    shapes = pages.get("/requests/1?shapes=3")

    assert [len(page.html.select(".statements > li")) for page in (first, last)] == [200, 50]
    assert len(last.html.select(".waterfall .reading")) == 50
    assert last.html.select_one(".statements")["start"] == "401"
    assert "401 to 450 of 450 statements" in last
    assert len(shapes.html.select(".shapes tbody tr")) == 50
    assert "470 were sent" in first
    assert len(first.body) < 400_000


def test_a_request_without_statements_is_shown(engine: Any) -> None:
    """A recorder that records no statements has pages that say so, with what was waited and held."""
    recorder = Recorder()
    do(ask, engine, recorder, "/asks")
    do(lambda environ: None, engine, recorder, "/is-idle")
    pages = visitor(recorder)

    assert "Statements are not recorded" in pages.get("/requests/1")
    assert len(pages.get("/requests/1").html.select(".waterfall .held")) == 1
    assert "This request has used no database." in pages.get("/requests/2")
    assert len(pages.get("/").html.select(".requests svg")) == 1


def test_a_failure_is_shown(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """A request that failed has no status, but what it has raised, and its statement that failed."""

    def work(environ: Any) -> None:
        with suppress(Exception):
            environ[KEY].execute(text("SELECT nothing"))
        raise LookupError

    do(work, engine, recorder)

    assert "no status" in pages.get("/")
    page = pages.get("/requests/1")
    assert [one.text.split(":")[0] for one in page.html.select("li.alarm")] == ["OperationalError", "LookupError"]
    assert len(page.html.select(".waterfall .failed")) == 1
    assert "failed 1 time" in page


def test_a_dry_pool_is_shown(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """Of a pool that ran dry, the pages say who had its connections, and that it was waited for in vain."""
    with engine.connect(), suppress(Exception):
        do(ask, engine, recorder)

    page = pages.get("/requests/1")

    assert "pool ran dry" in page
    assert "outside of a request for" in page
    assert pages.get("/pools").html.select_one("strong.alarm").text == "1"


def test_another_attempt_and_a_dropped_response_are_shown(engine: Any, recorder: Recorder, pages: Any) -> None:
    """The second attempt of a request, and a response that was never closed, are marked."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        ask(environ)
        answer(start_response)
        yield b"."

    app = SessionMiddleware(app, engine, recorder=recorder)  # type: ignore[assignment,arg-type]
    with pytest.warns(ResourceWarning):
        next(iter(app({"retry.attempt": 1, "REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *call: print)))

    assert "attempt 2" in pages.get("/")
    assert "attempt 2" in pages.get("/requests/1")
    assert "never closed by the server" in pages.get("/requests/1")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00004, "0.04 ms"), (0.0123, "12.3 ms"), (0.3, "300 ms"), (0.99951, "1.00 s"), (75, "75.00 s")],
)
def test_durations_have_about_three_digits(seconds: float, words: str) -> None:
    """A duration is said in milliseconds or seconds, with as many digits as one reads."""
    assert duration(seconds) == words


def test_what_is_live_is_shown(new_engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """While requests are under way, a page says what each has, for how long and since which line."""
    engine, seen = new_engine(), []

    def inner(environ: Any) -> None:
        seen.append(pages.get("/live"))

    def outer(environ: Any) -> None:
        ask(environ)
        do(inner, engine, recorder, "/inner")

    do(outer, engine, recorder, "/outer")

    (page,) = seen
    assert [heading.text for heading in page.html.select("li h2")] == ["GET /outer", "GET /inner"]
    assert "since tests/test_inspector.py:" in " ".join(page.html.main.text.split())
    assert "holding no connection" in page
    assert "GET /outer for" in page.html.main.find_all("ol")[1].text
    assert "All connections are in their pools." in pages.get("/live")


def test_who_waits_is_shown(engine: Any, recorder: Recorder, pages: webtest.TestApp, monkeypatch: Any) -> None:
    """A request that waits for a connection is shown to do so."""
    from sqlalchemy import event

    seen = []

    def on_connect(*_: object) -> None:
        seen.append(pages.get("/live").text)

    engine.dispose()
    event.listen(engine, "do_connect", on_connect)
    do(ask, engine, recorder)

    assert "waiting for a connection, for" in seen[0]


def test_statements_of_all_requests_are_added_up(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """One page has the statements of all requests, by shape and line."""
    for _ in range(3):
        do(ask, engine, recorder)

    page = pages.get("/statements")

    rows = {row.code.text: [cell.text for cell in row.find_all("td")] for row in page.html.select("tbody tr")}
    assert rows["SELECT ?"][:2] == ["3", "3"]
    assert rows["COMMIT"][:2] == ["3", "3"]


def test_pools_are_shown(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """Each pool that is watched has its gauges."""
    do(ask, engine, recorder)

    cards = {card.h2.text: " ".join(card.stripped_strings) for card in pages.get("/pools").html.select(".card")}

    card = cards[f"sqlite:{engine.url.database}"]
    assert "QueuePool in use 0 of 1 most in use 1 open 1 waiting 0" in card


def test_replicas_are_shown(pages: webtest.TestApp) -> None:
    """What went to which server and why, and how late each replica was."""
    primary, *standbys = (create_engine(f"postgresql+psycopg://127.0.0.1:1/{name}") for name in ("shown", "one", "two"))
    replicas = Replicas(primary, standbys)
    for method in ("POST", "GET"):
        replicas(new_environ(method))
    replicas._to_primary[ToPrimary.BEHIND] += 3
    replicas._replicas[0].requests, replicas._replicas[0]._behind = 4, 0.25
    replicas._replicas[1].put_aside("for this test")

    cards = {card.h2.text: " ".join(card.stripped_strings) for card in pages.get("/pools").html.select(".card")}
    of_primary, of_one, of_two = (cards[f"postgresql:{name} at 127.0.0.1:1"] for name in ("shown", "one", "two"))

    assert "primary requests 5 no replica has come so far 3 it has not passed the middleware 2" in of_primary
    assert "replica requests 4 behind 250 ms polls 0 times put aside 0" in of_one
    assert "replica, put aside requests 0 behind not asked polls 0 times put aside 1" in of_two
    assert "reads on replicas 4 of 9" in " ".join(pages.get("/").html.stripped_strings)
    [servers] = [
        gauges["servers"]
        for gauges in pages.get("/pools?format=json").json["replicas"]
        if gauges["servers"][0]["server"] == "postgresql:shown at 127.0.0.1:1"
    ]
    assert [server["requests"] for server in servers] == [5, 4, 0]


def test_each_page_is_json_too(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """Each page leads to its JSON, with the same numbers in it, and without hashes of values."""
    do(ask, engine, recorder, "/a")

    requests = pages.get("/").click("JSON").json
    one = pages.get("/requests/1").click("JSON").json

    assert [request["path"] for request in requests["requests"]["items"]] == ["/a"]
    assert one["request"]["number"] == 1
    assert one["request"]["idle"] == recorder.records[0].idle
    assert [statement["sql"] for statement in one["statements"]["items"]] == ["SELECT ?", "COMMIT"]
    assert "values" not in one["statements"]["items"][0]
    assert pages.get("/live").click("JSON").json == {"live": [], "holders": []}
    assert pages.get("/statements").click("JSON").json["shapes"]["total"] == 2
    assert pages.get("/pools").click("JSON").json["gauges"]["finished"] == 1


def test_findings_are_json(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """A finding is its kind in words, with all that is said of it."""
    do(lambda environ: [ask(environ) for _ in range(3)], engine, recorder)

    (finding,) = pages.get("/requests/1?format=json").json["request"]["findings"]

    assert (finding["kind"], finding["count"]) == ("identical query", 3)


@pytest.mark.parametrize(
    ("name", "base"),
    [("/-/inspector", "/-/inspector"), ("//evil.example/x", "/evil.example/x"), ('/"<é', "/%22%3C%C3%A9")],
)
def test_links_lead_below_where_it_is_mounted(recorder: Recorder, pages: webtest.TestApp, name: str, base: str) -> None:
    """Every link begins with the path that it is mounted at, whatever that is, and with no other site."""
    environ = {"SCRIPT_NAME": name.encode().decode("latin-1")}

    for path in ("", "/"):
        page = pages.get(path, extra_environ=environ)
        assert [link["href"] for link in page.html.nav.find_all("a")] == [
            f"{base}/{name}" for name in ("", "routes", "live", "statements", "pools")
        ]


def test_it_knows_that_it_is_one_of_several(pages: webtest.TestApp) -> None:
    """Where a server has several processes, each page says that it knows one of them."""
    assert "one of several" not in pages.get("/")
    assert "one of several" in pages.get("/", extra_environ={"wsgi.multiprocess": True})  # type: ignore[dict-item]


# What it never does


def test_hostile_text_is_escaped(new_engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """Paths, SQL, names of errors and of engines are text, wherever they are shown."""
    engine = new_engine(logging_name=HOSTILE)
    alias = HOSTILE.replace('"', "").replace("'", "")

    def work(environ: Any) -> None:
        for _ in range(6):
            environ[KEY].execute(text(f'SELECT 1 AS "{alias}"'))
        seen.append(pages.get("/live").text)
        raise type(HOSTILE, (LookupError,), {})

    seen: list[str] = []
    do(work, engine, recorder, f"/{HOSTILE}")
    script = str(pages.get("/").html.script)

    query = urlencode(dict.fromkeys(("path", "method", "status", "route", "sort"), HOSTILE))
    paths = ("/", f"/?{query}", "/routes", "/requests/1", "/statements", "/pools")
    for page in (*seen, *(pages.get(path).text for path in paths)):
        assert "&lt;script&gt;alert(document)" in page
        assert re.findall(r"<script.*?>", page.replace(script, "")) == []
        assert "<img" not in page
    assert json.loads(pages.get("/requests/1?format=json").text)["request"]["path"] == f"/{HOSTILE}"


@pytest.mark.parametrize("driver", ["sqlite", *POSTGRESQL[:2]])
def test_no_value_is_shown(engine_by: Any, driver: str, recorder: Recorder, pages: webtest.TestApp) -> None:
    """Neither values of statements nor of errors, nor what a request has sent beside its path, are anywhere."""
    engine = engine_by(driver)
    seen: list[str] = []

    def work(environ: Any) -> None:
        session = environ[KEY]
        assert environ["wsgi.input"].read() == b"form=secret-body"
        for number in range(6):
            session.execute(text("SELECT :value"), {"value": f"secret-parameter-{number}"})
            session.execute(text(f"SELECT 'secret-literal-{number}', {SECRET_NUMBER} -- secret-comment"))
        session.execute(text("CREATE TEMPORARY TABLE account (mail VARCHAR(50) UNIQUE)"))
        insert = text("INSERT INTO account VALUES (:mail)")
        session.execute(insert, {"mail": "secret-mail"})
        session.commit()
        with pytest.raises(Exception, match="secret-mail"):
            session.execute(insert, {"mail": "secret-mail"})
        session.rollback()
        with suppress(Exception):  # PostgreSQL's, which quotes the value
            session.execute(text("SELECT CAST(:value AS INTEGER)"), {"value": "secret-cast"})
        seen.append(all_of(pages, recorder))
        raise LookupError("secret-message")

    sent = {"QUERY_STRING": "q=secret-query", "HTTP_COOKIE": "id=secret-cookie", "REMOTE_USER": "secret-user"}
    sent |= {"HTTP_AUTHORIZATION": "Bearer secret-token", "HTTP_REFERER": "http://secret-referer/"}
    for doing in (work, ask):
        body = b"form=secret-body"
        do(doing, engine, recorder, **sent, CONTENT_LENGTH=str(len(body)), **{"wsgi.input": io.BytesIO(body)})

    seen.append(all_of(pages, recorder))
    assert all("account" in page for page in seen[1:])
    for page in seen:
        assert "secret" not in page
        assert SECRET_NUMBER not in page


# The example


@pytest.fixture
def reading_list(tmp_path: Path) -> Iterator[Engine]:
    """Return the engine of a reading list."""
    engine = create_engine(f"sqlite:///{tmp_path / 'books.db'}")
    yield engine
    engine.dispose()


def test_the_example_shows_what_it_is_for(reading_list: Engine, caplog: Any) -> None:
    """The pages of the example have an N+1 and a connection held idle, and lead to the inspector that says so."""
    for _ in range(2):
        client = webtest.TestApp(example.make_application(reading_list), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    client.get("/-/inspector", status=404)
    client.get(link_in(caplog.text), status=303)
    for path in ("/", "/slow", "/notes"):
        page = client.get(path)

    inspector = page.click("What has it done")

    assert page.headers["Server-Timing"].startswith("db;dur=")
    found = [
        (item.h2.text, [badge.text for badge in item.select(".badge")]) for item in inspector.html.select("li.card")
    ]
    assert found == [("GET /notes", ["N+1"]), ("GET /slow", ["connection held idle"]), ("GET /", [])]
    client.get("/-/inspectors", status=404)
    assert "Requests" in client.get("/-/inspector")


def test_the_example_runs(tmp_path: Path) -> None:
    """The example is started from the folder of the demo, and says the link that its inspector is opened with."""
    command = [sys.executable, "-m", "examples.inspector", "--port", "0", "--database", str(tmp_path / "books.db")]
    browser = build_opener(HTTPCookieProcessor())
    with subprocess.Popen(command, cwd=Path(demo.__file__).parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        link = process.stdout.readline().strip()
        with browser.open(link) as response:
            assert response.url == link.partition("?")[0]
            assert b"<h1>Requests</h1>" in response.read()
        process.terminate()


# Where it is mounted


@pytest.mark.parametrize(
    ("path", "asked", "script_name", "expected"),
    [
        ("/-/inspector", "/-/inspector", "", "inspector"),
        ("/-/inspector", "/-/inspector/live", "", "inspector"),
        ("/-/inspector", "/-/inspector/", "/shop", "inspector"),
        ("/-/inspector", "/-/inspectors", "", "/-/inspectors"),
        ("/-/inspector", "/x/-/inspector", "", "/x/-/inspector"),
        ("/-/inspector", "/", "/-/inspector", "/"),
        ("/-/inspector", "", "/shop", ""),
        ("/\N{EURO SIGN}", "/\xe2\x82\xac/live", "", "inspector"),
    ],
)
def test_it_is_mounted_below_a_path(path: str, asked: str, script_name: str, expected: str, recorder: Recorder) -> None:
    """Below its path there is the inspector, whose links lead there; elsewhere the application, with its environ."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ)
        answer(start_response)
        return [environ["PATH_INFO"].encode("latin-1")]

    mounted = Inspector(recorder, allow=lambda environ: True).mounted(app, path=path)
    environ = new_environ(path=asked, SCRIPT_NAME=script_name)
    exchange = Exchange(mounted, path=asked, SCRIPT_NAME=script_name).read()

    if expected == "inspector":
        base = quote((script_name + path).encode() if path.isascii() else path)
        assert f'href="{base}/live"'.encode() in exchange.body
        assert seen == []
    else:
        assert exchange.body == expected.encode()
        assert seen[0] is exchange.environ
        assert {name: seen[0].get(name) for name in environ if name.endswith(("NAME", "INFO"))} == {
            name: environ[name] for name in environ if name.endswith(("NAME", "INFO"))
        }


def test_it_is_mounted_where_it_says(recorder: Recorder) -> None:
    """Without a path it is at the one that the documentation names."""
    app = Inspector(recorder, allow=lambda environ: True).mounted(lambda environ, start_response: [])

    assert Exchange(app, path="/-/inspector/").status == "200 OK"


@pytest.mark.parametrize("path", ["", "/", "inspector", "/a/", "//a", "/a//b", "/a?b", "/a#b"])
def test_no_other_path_is_taken(path: str, recorder: Recorder) -> None:
    """A path that would lead nowhere, or hide the whole site, is refused."""
    with pytest.raises(ValueError, match="has to be a path below which nothing else is"):
        Inspector(recorder).mounted(lambda environ, start_response: [], path=path)


def test_what_is_mounted_is_an_application(recorder: Recorder) -> None:
    """What is no application, or no path, is refused."""
    with pytest.raises(TypeError, match=r"Inspector\.mounted takes a WSGI application"):
        Inspector(recorder).mounted(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path has to be a string"):
        Inspector(recorder).mounted(lambda environ, start_response: [], path=b"/a")  # type: ignore[arg-type]


# Which requests are shown


@pytest.fixture
def shop(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> webtest.TestApp:
    """Return the pages of a recorder that has seen a few kinds of requests."""

    def loop(environ: Any) -> None:
        for _ in range(3):
            ask(environ)

    def fail(environ: Any) -> None:
        ask(environ)
        raise LookupError

    for number in (1, 2, 3):
        do(ask, engine, recorder, f"/books/{number}")
    do(ask, engine, recorder, "/books", REQUEST_METHOD="POST")
    do(loop, engine, recorder, "/loop")
    do(fail, engine, recorder, "/fail")
    do(lambda environ: None, engine, recorder, "/static/style.css")
    return pages


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("", ["/fail", "/loop", "/books", "/books/3", "/books/2", "/books/1"]),
        ("every=1", ["/static/style.css", "/fail", "/loop", "/books", "/books/3", "/books/2", "/books/1"]),
        ("path=oks", ["/books", "/books/3", "/books/2", "/books/1"]),
        ("path=+oks+&method=post", ["/books"]),
        ("route=/books/*", ["/books/3", "/books/2", "/books/1"]),
        ("found=1", ["/fail", "/loop"]),
        ("status=2", ["/loop", "/books", "/books/3", "/books/2", "/books/1"]),
        ("status=404", []),
        ("path=static", []),
        ("path=static&every=1&method=GET&status=200&found=", ["/static/style.css"]),
    ],
)
def test_requests_are_filtered(query: str, paths: list[str], shop: webtest.TestApp) -> None:
    """By path, method, status and findings; those without a database, such as static files, are out of the way."""
    found = shop.get(f"/?{query}&format=json").json["requests"]["items"]
    page = shop.get(f"/?{query}")

    assert [request["path"] for request in found] == paths
    assert len(page.html.select(".requests > li")) == len(paths)
    assert ("No request is like that" in page) == (not paths)
    assert ("(1)" in page.html.form.text) == ("every=1" not in query)


def test_the_filter_goes_with_the_order(shop: webtest.TestApp) -> None:
    """Who sorts keeps the filter, who filters keeps the order, and both are shown."""
    page = shop.get("/?path=books&route=/books/*&every=1&sort=duration")

    sorted_page = page.click("newest")
    assert sorted_page.request.query_string == "path=books&route=%2Fbooks%2F%2A&every=1&sort=newest"
    form = page.forms[0]
    assert {name: form[name].value for name in ("path", "route", "every", "sort")} == {
        "path": "books",
        "route": "/books/*",
        "every": "1",
        "sort": "duration",
    }
    assert len(page.click("Show all").html.select(".requests > li")) == 6


def test_routes_are_shown(shop: webtest.TestApp) -> None:
    """The page of routes groups requests by method and path, and leads to them."""
    found = shop.get("/routes?format=json").json["routes"]
    page = shop.get("/routes")

    assert {(one["method"], one["path"], one["count"], one["found"], one["failed"]) for one in found} == {
        *(("GET", "/books/*", 3, 0, 0), ("POST", "/books", 1, 0, 0), ("GET", "/loop", 1, 1, 0)),
        *(("GET", "/fail", 1, 0, 1), ("GET", "/static/style.css", 1, 0, 0)),
    }
    assert [one["count"] * one["median"] for one in found] == sorted(
        (one["count"] * one["median"] for one in found), reverse=True
    )
    assert len(page.click(description="/books/").html.select(".requests > li")) == 3


# What a mend has changed


def test_a_request_is_compared_with_the_one_before(engine: Any, recorder: Recorder, pages: webtest.TestApp) -> None:
    """The page of a request says what it did before on the same route: statements, time, findings gone and new."""

    def loop(environ: Any) -> None:
        for _ in range(11):
            ask(environ)

    def mended(environ: Any) -> None:
        for _ in range(2):
            ask(environ)

    do(loop, engine, recorder, "/books/1")
    do(ask, engine, recorder, "/other")
    do(ask, engine, recorder, "/books/1", REQUEST_METHOD="POST")
    do(mended, engine, recorder, "/books/2")
    do(loop, engine, recorder, "/books/3")

    first, fourth, fifth = (pages.get(f"/requests/{number}") for number in (1, 4, 5))

    assert "Compared with the one before" not in first
    compared = " ".join(fourth.html.select_one(".comparison").text.split())
    assert compared.startswith("Request 1 of this route took ")
    assert "11 \N{RIGHTWARDS ARROW} 2 statements" in compared
    assert "gone identical query: SELECT ?" in compared
    assert "2 \N{RIGHTWARDS ARROW} 11 statements" in fifth
    assert "new identical query: SELECT ?" in " ".join(fifth.html.select_one(".comparison").text.split())
    assert fourth.click("Request 1").request.path == "/requests/1"
    values = pages.get("/requests/4?format=json").json["comparison"]
    assert (values["before"]["number"], values["statement_counts"]) == (1, [11, 2])


def test_without_statements_only_the_time_is_compared(engine: Any) -> None:
    """A recorder that records no statements compares no numbers of them."""
    recorder = Recorder()
    for _ in range(2):
        do(ask, engine, recorder)

    page = visitor(recorder).get("/requests/2")

    assert "Request 1</a> of this route took" in page
    assert "statements</strong>" not in page
