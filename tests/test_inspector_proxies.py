"""The inspector behind real proxies that add no header: all who come through them look as if they were local."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from examples.inspector import PLACE
from tests.client import Answer, Client
from tests.helpers import link_in
from tests.proxies import address_of_others, proxy
from tests.sockets import served
from wsgi_session.inspector import Inspector
from wsgi_session.observe import Recorder, is_local

if TYPE_CHECKING:
    from typing import TypeAlias

    Ask: TypeAlias = Callable[..., Answer]

HAPROXY = pytest.param("haproxy", marks=pytest.mark.system("haproxy"))
NGINX = pytest.param("nginx", marks=pytest.mark.system("nginx"))
PROXIES = pytest.mark.parametrize("name", [NGINX, HAPROXY])
PAGES = [f"{PLACE}{path}" for path in ("", "/", "/live", "/statements", "/pools?format=json", "/requests/1", "/clear")]


def application(environ: Any, start_response: Any) -> list[bytes]:
    """Say whether the visitor looks local."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(is_local(environ)).encode()]


@pytest.fixture
def ask(name: str, tmp_path: Path) -> Iterator[Ask]:
    """Return what asks an inspector through a proxy, from an address that is not the inspector's."""
    address = address_of_others()
    with (
        served(Inspector(Recorder()).mounted(application, path=PLACE)) as behind,
        proxy(name, tmp_path, address, behind) as (port, visitors),
    ):

        def ask(path: str, method: str = "GET", **headers: str) -> Answer:
            with Client(port, address=address) as client:
                client.send(path, method, headers=headers)
                return client.answer()

        yield ask
    assert address in visitors()


@PROXIES
def test_every_visitor_of_a_proxy_looks_local(ask: Ask) -> None:
    """A proxy of this computer that adds no header makes local of everybody: ``is_local`` cannot know better."""
    assert ask("/").body == b"True"


@PROXIES
def test_without_the_key_a_visitor_of_a_proxy_finds_nothing(ask: Ask) -> None:
    """Who comes through a proxy, from another address and without the key, gets a plain 404 from every page."""
    nothing = ask(f"{PLACE}/nowhere")
    assert (nothing.status, nothing.body) == (404, b"Not Found")

    for path in PAGES:
        for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Cookie": "key=x"}):
            for method in ("GET", "POST"):
                refused = ask(path, method, **headers)
                assert (refused.status, refused.body, refused.headers) == (404, nothing.body, nothing.headers)


@PROXIES
def test_with_the_key_a_visitor_of_a_proxy_is_let_in(ask: Ask, caplog: Any) -> None:
    """The link from the log works through the proxy: its key becomes a cookie, and is not in the next address."""
    ask(f"{PLACE}/")
    link = urlsplit(link_in(caplog.text))

    exchanged = ask(f"{link.path}?{link.query}")

    headers = dict(exchanged.headers)
    assert (exchanged.status, headers["location"]) == (303, f"{PLACE}/")
    assert headers["referrer-policy"] == "no-referrer"
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert attributes == [f"Path={PLACE}", "HttpOnly", "SameSite=Strict"]
    page = ask(headers["location"], Cookie=cookie)
    assert (page.status, b"<h1>Requests</h1>" in page.body) == (200, True)


HOSTILE = ["", "x", "%00", "%FF", "%C3%A9", "%F0%9F%98%80", "x" * 3000, "x&key=y", "&key=", "%0d%0aSet-Cookie:%20a=b"]


@PROXIES
def test_hostile_keys_are_refused_through_a_proxy(ask: Ask) -> None:
    """Whatever a visitor of a proxy makes up as a key or a cookie, it is a refusal."""
    for key in HOSTILE:
        assert ask(f"{PLACE}/?key={key}").status == 404
        for cookie in (key, f"wsgi_session_inspector={key}", f"=;;{key}=;"):
            assert ask(f"{PLACE}/", Cookie=cookie).status == 404


@pytest.mark.parametrize("name", [HAPROXY])
def test_the_name_of_a_site_is_not_local(ask: Ask, caplog: Any) -> None:
    """Through a proxy that hands on which site was asked for, nobody is local; the log says so, and no link."""
    assert ask(f"{PLACE}/", Host="shop.example").status == 404

    assert "not local, because HTTP_HOST is 'shop.example'" in caplog.text
    assert "Inspector: http" not in caplog.text
