"""The inspector seen from the application: the header, the badge, and the editor that a line is opened in."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import webtest
from sqlalchemy import Engine, text

from tests.helpers import request
from wsgi_session import SessionMiddleware
from wsgi_session.inspector import Inspector
from wsgi_session.inspector._editor import EDITORS, Editor
from wsgi_session.observe import Recorder

KEY = "open-sesame-open-sesame"
PAGE = b"<!doctype html><title>Orders</title><p>Orders</p>"
HTML = ("Content-Type", "text/html; charset=utf-8")
LENGTH = ("Content-Length", str(len(PAGE)))
LOCAL = {"REMOTE_ADDR": "127.0.0.1"}
OPENED = {"Sec-Fetch-Dest": "document"}
BADGE = b'<iframe class="wsgi-session-badge" src="/-/inspector/badge/1"'


def site(engine: Engine, body: Any = None, *headers: tuple[str, str], status: str = "200 OK", **options: Any) -> Any:
    """Make an application that answers with *body*, below an inspector that shows its requests."""

    def app(environ: Any, start_response: Any) -> Any:
        environ["sqlalchemy.session"].execute(text("SELECT 1"))
        start_response(status, list(headers or (HTML, LENGTH)))
        return [PAGE] if body is None else body() if callable(body) else body

    recorder = Recorder(statements=True)
    mounting = {"header": True, "badge": True}
    inspector = Inspector(recorder, **({"key": KEY} | options if "allow" not in options else options))
    return inspector.mounted(SessionMiddleware(app, engine, recorder=recorder), **mounting)


def visitor(application: Any, key: str | None = KEY, **environ: str) -> webtest.TestApp:
    """Make a visitor at this computer, who has opened the inspector if he has the *key*."""
    client = webtest.TestApp(application, extra_environ=LOCAL | environ)
    if key is not None:
        client.get(f"/-/inspector/?key={key}", status=303)
    return client


def test_a_page_leads_to_its_request(engine: Engine) -> None:
    """A page has the address of its request in a header, and a badge at its end, and says how long it is now."""
    client = visitor(site(engine))

    page = client.get("/", headers=OPENED)

    assert page.headers["Wsgi-Session-Request"] == "/-/inspector/requests/1"
    assert page.body.startswith(PAGE)
    assert BADGE in page.body
    assert page.content_length == len(page.body)
    badge = client.get("/-/inspector/badge/1")
    assert "1 statement" in badge.text
    assert badge.html.find("a")["href"] == "/-/inspector/requests/1"
    assert client.get("/-/inspector/badge.css").content_type == "text/css"
    assert "frame-ancestors 'self'" in badge.headers["Content-Security-Policy"]


def test_a_form_that_redirects_is_not_forgotten(engine: Engine) -> None:
    """The badge of the page that a form leads to shows the findings of the form, which has no page of its own."""

    def app(environ: Any, start_response: Any) -> Any:
        session = environ["sqlalchemy.session"]
        if environ["REQUEST_METHOD"] == "POST":
            session.execute(text("INSERT INTO word (id, text) VALUES (1, 'lost')"))
            start_response("303 See Other", [HTML, ("Location", "/")])
            return [b""]
        start_response("200 OK", [HTML])
        return [PAGE]

    recorder = Recorder(statements=True)
    client = visitor(
        Inspector(recorder, key=KEY).mounted(SessionMiddleware(app, engine, recorder=recorder), badge=True)
    )

    client.post("/").follow(headers=OPENED)
    before, _ = client.get("/-/inspector/badge/2").html.find_all("a")
    client.get("/", headers=OPENED)
    after = client.get("/-/inspector/badge/3").html.find_all("a")

    assert before["href"] == "/-/inspector/requests/1"
    assert before.text == "POST 303 before: 1 finding"
    assert len(after) == 1


def test_a_badge_may_be_of_a_request_that_is_not_there(engine: Engine) -> None:
    """The badge of a request that is not kept any more says so, and leads to the list."""
    client = visitor(site(engine))

    assert "no longer kept" in client.get("/-/inspector/badge/7").text


def test_a_badge_waits_for_a_request_that_is_not_over(engine: Engine) -> None:
    """The badge of a request whose body is not closed yet asks again by itself."""
    application = site(engine, lambda: iter([PAGE]))
    client = visitor(application)
    environ = LOCAL | {"HTTP_SEC_FETCH_DEST": "document", "HTTP_COOKIE": cookies_of(client)}

    streamed = Streamed(application, environ)
    waiting = client.get("/-/inspector/badge/1")
    streamed.read()

    assert "not over yet" in waiting.text
    assert waiting.html.find("meta", {"http-equiv": "refresh"}) is not None
    assert BADGE in streamed.body


class Streamed:
    """A request whose body is read later."""

    def __init__(self, application: Any, environ: dict[str, Any]) -> None:
        """Send it."""
        self.body = b""
        full = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SERVER_PORT": "80",
            "HTTP_HOST": "localhost",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
        }
        self._answer = application(full | environ, lambda *_start: lambda _data: None)

    def read(self) -> None:
        """Read it, and close it."""
        self.body = b"".join(self._answer)
        self._answer.close()


def cookies_of(client: webtest.TestApp) -> str:
    """Return the cookies that *client* sends to the application."""
    return "; ".join(f"{one.name}={one.value}" for one in client.cookiejar if one.path == "/")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (None, [HTML]),
        (lambda: (PAGE,), [HTML, LENGTH]),
        (lambda: iter([PAGE[:9], b"", PAGE[9:]]), [HTML, LENGTH]),
        (lambda: iter([]), [HTML]),
        (None, [("content-type", "Text/HTML")]),
    ],
)
def test_bodies_of_every_kind_have_it_at_their_end(body: Any, headers: Any, engine: Engine) -> None:
    """Lists, tuples and streams keep their chunks, and the badge comes after the last."""
    page = visitor(site(engine, body, *headers)).get("/", headers=OPENED)

    assert page.body.count(BADGE) == 1
    assert page.body.endswith(b"</aside>")


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("Content-Type", "text/plain")]),
        ("200 OK", [("Content-Type", "application/xhtml+xml")]),
        ("200 OK", [("Content-Type", "text/html; charset=utf-16")]),
        ("200 OK", [HTML, ("Content-Encoding", "br")]),
        ("200 OK", [HTML, ("Content-Digest", "sha-256=:...:")]),
        ("200 OK", [HTML, ("Content-Disposition", "attachment; filename=orders.html")]),
        ("206 Partial Content", [HTML, ("Content-Range", "bytes 0-48/99")]),
        ("303 See Other", [HTML, ("Location", "/")]),
    ],
)
def test_what_takes_no_badge_is_as_it_was(status: str, headers: Any, engine: Engine) -> None:
    """A response to which nothing can be added, so that it is still right, has the header alone."""
    application = site(engine, None, *headers, status=status)
    sent = LOCAL | {"HTTP_SEC_FETCH_DEST": "document", "HTTP_COOKIE": cookies_of(visitor(application))}

    page = request(application, HTTP_HOST="localhost", **sent)

    assert page.body == PAGE
    assert page.headers == [*headers, ("Wsgi-Session-Request", "/-/inspector/requests/1")]


def test_what_takes_no_badge_is_handed_on_itself(engine: Engine) -> None:
    """A body without a badge is the very object that the application has returned."""
    body = [PAGE]
    application = site(engine, body, ("Content-Type", "application/json"))
    sent = LOCAL | {"HTTP_SEC_FETCH_DEST": "document", "HTTP_COOKIE": cookies_of(visitor(application))}

    assert request(application, HTTP_HOST="localhost", **sent).result is body


def test_a_part_of_a_page_has_no_badge(engine: Engine) -> None:
    """What a script asks for, to put it into a page, is as it was; the header tells the script where to look."""
    client = visitor(site(engine))

    for headers in ({}, {"Sec-Fetch-Dest": "empty"}):
        part = client.get("/", headers=headers)
        assert part.body == PAGE
        assert "Wsgi-Session-Request" in part.headers


def test_a_head_is_as_long_as_its_get(engine: Engine) -> None:
    """HEAD tells the length that GET would have, and has no body."""
    client = visitor(site(engine, list))

    head, get = client.head("/", headers=OPENED), visitor(site(engine)).get("/", headers=OPENED)

    assert (head.headers["Content-Length"], head.body) == (get.headers["Content-Length"], b"")


@pytest.mark.parametrize(
    ("key", "environ"),
    [(None, {}), (KEY, {"REMOTE_ADDR": "192.0.2.1"}), (KEY, {"HTTP_X_FORWARDED_FOR": "192.0.2.1"})],
)
def test_others_see_nothing(key: str | None, environ: dict[str, str], engine: Engine) -> None:
    """Who has not opened the inspector, or is not at this computer, gets what he would get without it."""
    application = site(engine)
    client = visitor(application, key)

    page = client.get("/", headers=OPENED, extra_environ=environ)

    assert (page.body, page.headers.get("Wsgi-Session-Request")) == (PAGE, None)


def test_the_cookie_of_the_application_opens_no_inspector(engine: Engine) -> None:
    """What the application is sent, so that it shows requests, is neither the key nor what opens the inspector."""
    application = site(engine)
    sent = LOCAL | {"HTTP_COOKIE": cookies_of(visitor(application)), "HTTP_HOST": "localhost"}

    assert request(application, path="/-/inspector/", **sent).status == "404 Not Found"


def test_who_may_see_it_can_be_a_function(engine: Engine, caplog: Any) -> None:
    """With an `allow` that function is asked, for the pages of the application, too; one that fails harms no page."""
    asked = visitor(site(engine, allow=lambda environ: environ["HTTP_X_STAFF"] == "yes"), None)

    page = asked.get("/", headers=OPENED | {"X-Staff": "yes"})
    failed = asked.get("/", headers=OPENED)

    assert BADGE in page.body
    assert (failed.body, "'allow' of an inspector has failed" in caplog.text) == (PAGE, True)


def test_a_request_that_is_not_recorded_has_neither(engine: Engine) -> None:
    """What does not reach the middleware has nothing to show."""
    inspector = Inspector(Recorder(), key=KEY)

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [HTML, LENGTH])
        return [PAGE]

    page = visitor(inspector.mounted(app, header=True, badge=True)).get("/", headers=OPENED)

    assert (page.body, page.headers.get("Wsgi-Session-Request")) == (PAGE, None)


def test_hostile_paths_stay_out_of_the_page(engine: Engine) -> None:
    """Nothing that a client has sent is in what is added to a page."""
    page = visitor(site(engine)).get("/%22%3E%3Cscript%3E?%3Cscript%3E", headers=OPENED)

    assert b"script" not in page.body


def test_it_is_asked_for_by_name(engine: Engine) -> None:
    """Without ``header`` and ``badge`` a page is as it was; either is True or False."""
    inspector = Inspector(Recorder(), key=KEY)

    with pytest.raises(TypeError, match="badge has to be True or False, not 'yes'"):
        inspector.mounted(lambda environ, start: [], badge="yes")  # type: ignore[arg-type]


# The editor


@pytest.mark.parametrize("name", EDITORS)
def test_a_line_is_opened_in_an_editor(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Each editor that is known by name gets the whole path and the line."""
    (tmp_path / "a view.py").touch()
    monkeypatch.chdir(tmp_path)

    link = Editor(name).link("a view.py:29")

    assert str(tmp_path) in str(link)
    assert "a%20view.py" in str(link)
    assert str(link).endswith("29")


def test_lines_lead_to_the_editor(engine: Engine) -> None:
    """The lines on the pages are links, where an editor was named and the file is there."""
    with_one, without = visitor(site(engine, editor="vscode")), visitor(site(engine))

    for client in (with_one, without):
        client.get("/")
    links = with_one.get("/-/inspector/requests/1").html.find_all("a", href=lambda href: "vscode://" in str(href))

    assert links
    assert all(link["href"].startswith("vscode://file/") for link in links)
    assert "vscode://" not in without.get("/-/inspector/requests/1").text


@pytest.mark.parametrize("line", [None, "", "list.html:7", "nowhere.py:1", "pyproject.toml:x"])
def test_what_is_in_no_file_is_not_opened(line: str | None) -> None:
    """A template without a file, and a file that is not here, have no link."""
    assert Editor("vscode").link(line) is None


def test_an_editor_where_the_folder_is_gone(tmp_path: Path, monkeypatch: Any) -> None:
    """Where the working directory is gone, whole paths are opened."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert str(Editor("zed").link(f"{__file__}:1")).startswith("zed://file/")


@pytest.mark.parametrize("given", ["notepad", "javascript:alert('{path}{line}')", "x://{line}{path}", "x://{path}"])
def test_what_is_no_editor_is_refused(given: str) -> None:
    """A name that is not known, and what a browser would run, are errors at once."""
    with pytest.raises(ValueError, match="is neither one of 'cursor'"):
        Inspector(Recorder(), editor=given)


def test_an_editor_is_a_string() -> None:
    """Something else is an error at once."""
    with pytest.raises(TypeError, match="editor has to be a string, not 7"):
        Inspector(Recorder(), editor=7)  # type: ignore[arg-type]
