"""The documentation site in a browser: each page, narrow and wide, light and dark, and where its links lead."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup

from tests.browsing import SCREENS, assert_readable, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.system("sphinx")


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "-E", "-d", folder / "doctrees"]
    subprocess.run([sys.executable, "-m", "sphinx", *options, ROOT / "docs", folder / "pages"], check=True)
    return folder / "pages"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site, and return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def names_of_pages(site: Path) -> list[str]:
    """List the pages of the site, but for the indexes that Sphinx makes."""
    made = {"genindex.html", "py-modindex.html", "search.html"}
    return sorted({path.relative_to(site).as_posix() for path in site.glob("**/*.html")} - made)


@pytest.mark.system("chromium")
@SCREENS
def test_every_page_is_readable(
    browser: Browser, site: Path, address: str, screen: str, complaints: list[str], pictures: Path
) -> None:
    """No page is wider than its window, axe-core finds nothing to mend, and none asks for what is not there."""
    names = names_of_pages(site)
    pictured = ["index.html", "servers.html", "tutorial.html"]
    is_wide = screen.startswith("1280")  # what is readable on a narrow screen seldom is not on a wide one
    with opened(browser, address, screen, complaints) as page:
        for name in sorted({*pictured, *names[::3]}) if is_wide else names:
            page.goto(f"/{name}")
            if name in pictured:
                page.screenshot(path=pictures / f"site-{name.removesuffix('.html')}-{screen}.png")

            assert_readable(page, within="article", without=MADE_BY_SPHINX)
    # The icon is asked for late, and the next page may break that off; its link is checked below.
    assert [one for one in complaints if not one.endswith("/favicon.svg")] == []


MADE_BY_SPHINX = (".sig > dl", "th:has(> p:empty)")
"""What is no text of ours in a page: the parameters of a long signature, and the empty corner of a table."""


@pytest.mark.system("chromium")
@pytest.mark.parametrize("screen", ["390-light"])
def test_what_goes_on_fades_at_its_edge(browser: Browser, address: str, screen: str, complaints: list[str]) -> None:
    """A table or picture that is wider than a narrow screen shows that there is more of it."""
    with opened(browser, address, screen, complaints) as page:
        for name, wide in (("servers.html", ".table-wrapper"), ("life.html", "p:has(> img)")):
            page.goto(f"/{name}")
            moved = page.locator(wide).first

            assert moved.evaluate(FADES) == [True, "0px", "48px"]
            moved.evaluate("one => { one.scrollLeft = one.scrollWidth; }")
            page.wait_for_function(f"one => ({FADES})(one).join() === 'true,48px,0px'", arg=moved.element_handle())


FADES = """one => [
  one.scrollWidth > one.clientWidth,
  ...["--before", "--after"].map(name => getComputedStyle(one).getPropertyValue(name)),
]"""
"""Says whether there is more than can be seen, and how wide the left and the right edge fade."""


@pytest.mark.system("chromium")
@SCREENS
def test_the_tabs_of_the_front_page(browser: Browser, address: str, screen: str, complaints: list[str]) -> None:
    """The front page shows the code for one framework, and for another one that is chosen by mouse or keyboard."""
    with opened(browser, address, screen, complaints) as page:
        page.goto("/index.html")
        assert [page.get_by_text(f"from {one} import").is_visible() for one in ("flask", "django.conf")] == [
            True,
            False,
        ]

        page.locator("label", has_text="Django").click()
        assert [page.get_by_text(f"from {one} import").is_visible() for one in ("flask", "django.conf")] == [
            False,
            True,
        ]
        assert_readable(page, within="article")

        page.keyboard.press("ArrowRight")
        assert page.get_by_text("from pyramid.config import").is_visible()


def test_the_site_has_the_changes(site: Path) -> None:
    """The page of changes has an item for each fragment of the next release, and the front page has the version."""
    items = parsed(site / "changes.html").select("#not-released-yet li")
    front = parsed(site / "index.html").article.get_text()

    assert len(items) == len(list((ROOT / "changes.d").glob("*.md")))
    assert f"Version {version_of('wsgi-session')}, " in front


def test_every_link_leads_somewhere(site: Path) -> None:
    """Each link within the site leads to a file of it, and to a place in that file where it names one."""
    pages = [site / name for name in names_of_pages(site)]

    assert [(page.name, link) for page in pages for link in links_of(page) if not leads(page, link)] == []


@cache
def parsed(page: Path) -> BeautifulSoup:
    """Return a page, parsed."""
    return BeautifulSoup(page.read_text(), "html.parser")


@cache
def places_of(page: Path) -> frozenset[str]:
    """List the names that a link to a place in the page may have."""
    return frozenset(str(one["id"]) for one in parsed(page).find_all(id=True)) | {""}


def links_of(page: Path) -> set[str]:
    """List where the links, pictures and scripts of a page lead, within the site."""
    found = {str(one[key]) for key in ("href", "src") for one in parsed(page).find_all(**{key: True})}
    return {link for link in found if not urlsplit(link).scheme}


def leads(page: Path, link: str) -> bool:
    """Say whether there is what a *link* of a page names."""
    path, place = urldefrag(link)
    target = page.parent / unquote(urlsplit(path).path) if path else page
    if not target.is_file():
        return False
    return target.suffix != ".html" or unquote(place) in places_of(target)


@pytest.mark.parametrize(
    "words",
    [
        "serializable",
        "retry",
        "mypy",
        "flask shell",
        "deploy",
        "pool size",
        "pgbouncer",
        "health",
        "nginx",
        "tenant",
        "replica",
        "async",
    ],
)
def test_the_search_finds(words: str, address: str, browser: Browser) -> None:
    """Who types what people type is shown pages."""
    page = browser.new_page()
    page.goto(f"{address}search.html?q={words.replace(' ', '+')}")
    page.wait_for_selector("ul.search li a")
    page.close()
