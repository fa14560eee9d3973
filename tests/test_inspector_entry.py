"""The entry to the inspector: the key and its cookie, who is refused, and what the log says."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote

import pytest
import webtest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.helpers import in_child, link_in, request
from tests.sockets import served
from wsgi_session.inspector import Inspector
from wsgi_session.observe import Recorder, is_local

KEY = "open-sesame-open-sesame"
OTHER = "open-barley-open-barley"
COOKIE = "wsgi_session_inspector_80"
LOCAL = {"REMOTE_ADDR": "127.0.0.1"}
PAGES = ["/", "/live", "/statements", "/pools", "/requests/1", "/clear", "/nowhere"]


@pytest.fixture
def pages() -> webtest.TestApp:
    """Return a visitor at this computer who has not opened the link yet."""
    return visitor(key=KEY)


@pytest.fixture
def opened(pages: webtest.TestApp) -> webtest.TestApp:
    """Return a visitor at this computer who has opened the link."""
    pages.get(f"/?key={KEY}", status=303)
    return pages


def visitor(**options: Any) -> webtest.TestApp:
    """Make a visitor at this computer, whose client checks each answer against PEP 3333, and keeps cookies."""
    return webtest.TestApp(Inspector(Recorder(), **options), extra_environ=LOCAL)


def cookie_of(inspector: Inspector, key: str, **environ: str) -> str:
    """Exchange a key for its cookie, as the value of ``Set-Cookie``."""
    exchange = request(inspector, **LOCAL, QUERY_STRING=f"key={key}", **environ)
    return dict(exchange.headers)["Set-Cookie"]


# The key and the cookie


def test_without_the_key_there_is_nothing(pages: webtest.TestApp) -> None:
    """Who has no key gets a plain 404 from every page, though he is at this computer."""
    nothing = pages.get("/nowhere", status=404)

    for path in PAGES:
        for ask_for in (pages.get, pages.post, pages.put):
            refused = ask_for(path, headers={"Sec-Fetch-Site": "same-origin"}, status=404)
            assert (refused.body, refused.headers) == (b"Not Found", nothing.headers)


def test_the_key_is_exchanged_for_a_cookie(pages: webtest.TestApp) -> None:
    """The key in a link becomes a cookie, for this inspector alone, and the next address does not have it any more."""
    exchanged = pages.get(f"/statements?key={KEY}&format=json", status=303)

    assert exchanged.headers["Location"] == "/statements?format=json"
    assert exchanged.headers["Referrer-Policy"] == "no-referrer"
    assert exchanged.headers["Cache-Control"] == "no-store"
    assert KEY not in str(exchanged.headers)
    assert exchanged.follow().json["requests"] == 0
    pages.get("/", status=200)


@pytest.mark.parametrize(
    ("environ", "attributes"),
    [
        ({"SCRIPT_NAME": "/-/inspector"}, "Path=/-/inspector; HttpOnly; SameSite=Strict"),
        ({"SCRIPT_NAME": ""}, "Path=/; HttpOnly; SameSite=Strict"),
        ({"SCRIPT_NAME": '/"; Domain=x'}, "Path=/%22%3B%20Domain%3Dx; HttpOnly; SameSite=Strict"),
        ({"wsgi.url_scheme": "https", "SERVER_PORT": "80"}, "Path=/; HttpOnly; SameSite=Strict; Secure"),
    ],
)
def test_the_cookie_is_for_the_inspector(environ: dict[str, str], attributes: str) -> None:
    """The cookie is sent to the inspector alone, to no script, and not where another site leads here."""
    cookie = cookie_of(Inspector(Recorder(), key=KEY), KEY, **environ)

    assert re.fullmatch(rf"{COOKIE}=[0-9a-f]{{64}}; {re.escape(attributes)}", cookie)


def test_the_cookie_is_not_the_key(pages: webtest.TestApp, opened: webtest.TestApp) -> None:
    """Who reads the cookie cannot make the link of it, nor of the key a cookie."""
    value = opened.cookies[COOKIE]
    pages.reset()

    pages.get(f"/?key={value}", status=404)
    pages.set_cookie(COOKIE, KEY)
    pages.get("/", status=404)


def test_the_same_key_is_the_same_everywhere() -> None:
    """Inspectors that are given the same key take each other's cookies, as those of several workers have to."""
    cookie = cookie_of(Inspector(Recorder(), key=KEY), KEY).partition(";")[0]

    assert request(Inspector(Recorder(), key=KEY), **LOCAL, HTTP_COOKIE=cookie).status == "200 OK"
    assert request(Inspector(Recorder(), key=OTHER), **LOCAL, HTTP_COOKIE=cookie).status == "404 Not Found"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_that_are_forked_share_the_key(caplog: Any) -> None:
    """A key that was made before a server forks its workers is the key of each of them."""
    pages = visitor()
    pages.get("/", status=404)

    in_child(lambda: pages.get(link_in(caplog.text), status=303))


def test_each_inspector_makes_a_key_of_its_own(caplog: Any) -> None:
    """Inspectors that are given no key do not have the same one, nor take each other's links."""
    first, second = visitor(), visitor()
    first.get("/", status=404)
    link = link_in(caplog.text)

    second.get(link, status=404)
    first.get(link, status=303)
    assert len(link.partition("key=")[2]) == 32


def test_the_cookie_is_found_among_others(opened: webtest.TestApp) -> None:
    """Cookies of the application, whatever is in them, and another one of the same name are in nobody's way."""
    cookie = f"{COOKIE}={opened.cookies[COOKIE]}"
    opened.reset()

    for header in (f'a={{"b": [1, 2]}}; {cookie}', f"=;;a;{cookie};", f"{COOKIE}=x; {cookie}", f"\xff=\xff; {cookie}"):
        opened.get("/", headers={"Cookie": header}, status=200)


def test_a_key_opens_whatever_else_is_in_the_query(pages: webtest.TestApp) -> None:
    """A key is found behind another one, and the rest of the query stays; with the cookie a wrong key does no harm."""
    exchanged = pages.get(f"/?key=x&sort=held&key={KEY}&a=%C3%A9%22&b=", status=303)

    assert exchanged.headers["Location"] == "/?sort=held&a=%C3%A9%22&b="
    pages.get("/?key=x", status=200)


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example", "/\x0d\x0aSet-Cookie: a=b"])
def test_the_key_leads_to_no_other_site(path: str) -> None:
    """Where the key leads on to is a path below the inspector, whatever was asked for."""
    exchange = request(Inspector(Recorder(), key=KEY), path=path, **LOCAL, QUERY_STRING=f"key={KEY}")

    location = dict(exchange.headers)["Location"]
    assert re.fullmatch(r"/[\w%.-][\w%./-]*", location), location


@pytest.mark.parametrize("key", [b"open-sesame-open-sesame", 1234567890123456, True, ["open-sesame"]])
def test_a_key_is_a_string(key: Any) -> None:
    """A key of another kind is a `TypeError`, which does not show it."""
    with pytest.raises(TypeError, match=re.escape(f"key has to be a string, not of {type(key)!r}.")):
        Inspector(Recorder(), key=key)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "key has 0 characters, and needs 16 or more"),
        ("sesame-sesame-s", "key has 15 characters, and needs 16 or more"),
        ("open sesame open sesame", "'secrets.token_urlsafe()' makes one"),
        ("open/sesame?open=sesame", "a URL does not show as it is"),
        ("öffne-dich-öffne-dich", "a URL does not show as it is"),
        (f"{KEY}\n", "a URL does not show as it is"),
    ],
)
def test_a_key_is_long_and_fit_for_a_url(key: str, words: str) -> None:
    """A key that can be guessed, or that a link would not show as it is, is a `ValueError`, which does not show it."""
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        Inspector(Recorder(), key=key)

    assert not key or key not in str(caught.value)


# Who is local, and who is let in instead


@pytest.mark.parametrize(
    "strange",
    [{"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": ""}, {"HTTP_HOST": "evil.example"}, {"HTTP_X_FORWARDED_FOR": "::1"}],
)
def test_the_key_is_not_enough(opened: webtest.TestApp, strange: dict[str, str]) -> None:
    """Another address, another Host or a proxy between makes a visitor somebody else, whom no key lets in."""
    cookie = {"HTTP_COOKIE": f"{COOKIE}={opened.cookies[COOKIE]}"}

    opened.get("/", extra_environ=cookie, status=200)
    for path in PAGES:
        opened.get(path, extra_environ=cookie | strange, status=404)
        opened.get(f"{path}?key={KEY}", extra_environ=strange, status=404)


def test_others_may_be_let_in(caplog: Any) -> None:
    """A function of the environ decides in place of address and key; that strangers come in is in the log, once."""
    pages = visitor(allow=lambda environ: environ.get("REMOTE_USER") == "ada")

    pages.get("/", status=404)
    for _ in range(2):
        pages.get("/?key=x", extra_environ={"REMOTE_USER": "ada", "REMOTE_ADDR": "192.0.2.1"}, status=200)
    assert caplog.text.count("An inspector answers '192.0.2.1' at 'localhost:80', who is not at this computer") == 1
    assert "Inspector: http" not in caplog.text


@pytest.mark.parametrize(
    ("recorder", "options", "words"),
    [
        (object(), {}, "takes a wsgi_session.observe.Recorder"),
        (Recorder(), {"allow": "127.0.0.1"}, "function of the environ"),
        (Recorder(), {"allow": is_local, "key": KEY}, "takes a 'key' or an 'allow', not both"),
    ],
)
def test_something_else_is_refused(recorder: Any, options: Any, words: str) -> None:
    """An inspector of something else, for somebody that is no function, or by a key and a function, is an error."""
    with pytest.raises(TypeError, match=words):
        Inspector(recorder, **options)


# What the log says


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"HTTP_HOST": "127.0.0.1:8000", "SERVER_PORT": "8000"}, "http://127.0.0.1:8000/-/inspector/"),
        ({"HTTP_HOST": "[::1]:8000", "SERVER_PORT": "8000"}, "http://[::1]:8000/-/inspector/"),
        ({"HTTP_HOST": "[::1]", "SERVER_PORT": "443", "wsgi.url_scheme": "https"}, "https://[::1]:443/-/inspector/"),
        ({"HTTP_HOST": "localhost:6666", "SERVER_PORT": "8000"}, "http://localhost:8000/-/inspector/"),
    ],
)
def test_the_link_is_logged_once(caplog: Any, environ: dict[str, str], address: str) -> None:
    """The first visit from this computer logs the whole link; its port is the server's, not one of the visitor's."""
    inspector = Inspector(Recorder(), key=KEY)

    for path in ("/", "/live", ""):
        request(inspector, path=path, SCRIPT_NAME="/-/inspector", **LOCAL, **environ)

    assert [(one.levelname, one.message) for one in caplog.records if "Inspector: " in one.message[:11]] == [
        ("WARNING", f"Inspector: {address}?key={KEY}")
    ]


def test_no_stranger_has_the_link_logged(caplog: Any) -> None:
    """A visitor from elsewhere, who could name any host, has no link logged that leads there."""
    pages = visitor()

    pages.get("/", headers={"Host": "evil.example"}, status=404)

    assert "evil.example" in caplog.text
    assert "key=" not in caplog.text.replace("key=...", "")


def refusals(log: str) -> list[str]:
    """List why visitors were refused."""
    return re.findall(r"The inspector at '/' has refused a visitor, who gets a 404: (.+?)\. ", log)


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"REMOTE_ADDR": "172.17.0.1"}, "not local, because REMOTE_ADDR is '172.17.0.1'"),
        ({"REMOTE_ADDR": ""}, "not local, because REMOTE_ADDR is ''"),
        ({"HTTP_HOST": "shop.example\x1b[0m"}, r"not local, because HTTP_HOST is 'shop.example\x1b[0m'"),
        ({"HTTP_X_REAL_IP": "192.0.2.1"}, "not local, because HTTP_X_REAL_IP is '192.0.2.1'"),
        ({}, "no key"),
        ({"QUERY_STRING": f"key={OTHER}"}, "another key"),
        ({"HTTP_COOKIE": f"{COOKIE}=x"}, "another key"),
    ],
)
def test_why_a_visitor_is_refused_is_logged_once(caplog: Any, environ: dict[str, str], reason: str) -> None:
    """Who wonders why he gets a 404 finds the reason in the log, and what to do."""
    inspector = Inspector(Recorder(), key=KEY)

    for _ in range(3):
        request(inspector, **{**LOCAL, **environ})

    assert refusals(caplog.text) == [reason]
    assert any(one in caplog.text for one in ("allow=...", "Open the link", "the same key"))


def test_allow_is_named_where_it_refuses(caplog: Any) -> None:
    """That a function of one's own has refused a visitor is in the log, too."""
    visitor(allow=lambda environ: False).get("/", status=404)

    assert refusals(caplog.text) == ["its 'allow' says no"]


def test_visitors_cannot_fill_the_log(caplog: Any) -> None:
    """What visitors send makes no reason of its own, and is cut."""
    inspector = Inspector(Recorder(), key=KEY)

    for number in range(50):
        name = "HTTP_X_FORWARDED_" + "X" * number * 100
        for more in ({"HTTP_HOST": "x" * 100 * number}, {"REMOTE_ADDR": str(number)}, {name: "1" * 5000}):
            request(inspector, **{**LOCAL, **more})
        request(inspector, **LOCAL, QUERY_STRING=f"key={number}")

    assert len(refusals(caplog.text)) == 4
    assert max(map(len, caplog.text.splitlines())) < 600


# What hostile visitors send


def is_refused(inspector: Callable[..., Any], **environ: str) -> bool:
    """Say whether a visitor at this computer is refused."""
    exchange = request(inspector, **LOCAL, **environ)
    return (exchange.status, exchange.body) == ("404 Not Found", b"Not Found")


HOSTILE = st.one_of(
    st.binary(max_size=60).map(lambda some: some.decode("latin-1")),
    st.text(alphabet=";=&%,\"' +\\\x00\xff\u00e9abk", max_size=60),
    st.text(max_size=30).map(quote),
    st.sampled_from([KEY[:-1], f"{KEY}x", KEY.upper(), KEY * 1000, "é" * 23]),
)


@given(HOSTILE, st.lists(HOSTILE, max_size=4))
@example("", [])
@example("\xff" * 100_000, ["x" * 100_000] * 3)
@example("%ff%fe", ["%00", "%zz"])
def test_hostile_keys_and_cookies_are_refused(one: str, more: list[str]) -> None:
    """Whatever a visitor makes up as keys and cookies, empty, huge or many times, he is refused, without an error."""
    inspector = Inspector(Recorder(), key=KEY)

    for query in (f"key={one}", one, "&".join(f"key={part}" for part in (one, *more))):
        for cookie in (f"{COOKIE}={one}", one, "; ".join(f"{COOKIE}={part}" for part in (one, *more))):
            assert is_refused(inspector, QUERY_STRING=query, HTTP_COOKIE=cookie)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /?key=\xff\xfe HTTP/1.0\r\n",
        b"GET /?key=%FF&key=&key=%00 HTTP/1.0\r\n",
        b"GET /?key=" + b"x" * 60_000 + b" HTTP/1.0\r\n",
        b"GET / HTTP/1.0\r\nCookie: \xff=\xff; {cookie}=\xff\r\n",
        b"GET / HTTP/1.0\r\nCookie: {cookie}=\r\nCookie: {cookie}=x\r\nCookie: ;=\r\n",
        b"GET / HTTP/1.0\r\nCookie: " + b"{cookie}=x; " * 1500 + b"\r\n",
    ],
)
def test_hostile_bytes_are_refused_over_a_socket(data: bytes) -> None:
    """What a server makes of raw bytes is refused as well."""
    with served(Inspector(Recorder())) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        name = f"wsgi_session_inspector_{port}".encode()
        client.sendall(data.replace(b"{cookie}", name) + b"Host: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))

    assert answer.startswith(b"HTTP/1.0 404 Not Found")


def test_a_browser_reads_the_cookie_as_it_is_meant() -> None:
    """The cookie is one that the standard library reads, with each of its attributes."""
    read = SimpleCookie(cookie_of(Inspector(Recorder(), key=KEY), KEY, SCRIPT_NAME="/a b"))

    (morsel,) = read.values()
    assert (morsel["path"], morsel["httponly"], morsel["samesite"]) == ("/a%20b", True, "Strict")
