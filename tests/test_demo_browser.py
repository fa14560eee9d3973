"""The demo in a browser: by keyboard, narrow and wide, light and dark."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine

import demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 4

SCREENS = pytest.mark.parametrize(
    "screen", [f"{width}-{scheme}" for width in (390, 1280) for scheme in ("light", "dark")]
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve the demo, and return its address."""
    engine = create_engine(f"sqlite:///{tmp_path / 'books.db'}")
    with demo.Server(("127.0.0.1", 0), demo.RequestHandler) as server:
        server.set_app(demo.make_application(engine))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
    engine.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str, screen: str, complaints: list[str]) -> Iterator[Page]:
    """Open the list on a screen, and collect what the browser complains of."""
    width, scheme = screen.split("-")
    context = browser.new_context(base_url=address, viewport={"width": int(width), "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto("/")
    yield page
    context.close()


@pytest.fixture
def complaints() -> list[str]:
    """Return what the browser complains of."""
    return []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return the folder for screenshots; the variable SCREENSHOTS names one that is kept."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has this accessible name, and can be seen to be."""
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "(e => e.ariaLabel || (e.labels && e.labels[0] || e).innerText.trim())(document.activeElement)"
            )
        )
        if names[-1] == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"{name!r} is not among {names}")


def press(page: Page, name: str) -> None:
    """Go to a button or link by Tab, press Enter, and wait for the page that comes."""
    tab_to(page, name)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def books(page: Page) -> list[str]:
    """Return the titles on the page."""
    return page.locator("li h2").all_inner_texts()


@SCREENS
@pytest.mark.system("chromium")
def test_every_page_fits(page: Page, screen: str, pictures: Path) -> None:
    """No page is wider than its window, however long a word is, and the contrast of its text is at least 4.5."""
    for title in ("<script>alert(1)</script>", LONG):
        page.get_by_label("Title").fill(title)
        page.get_by_label("Author").fill(LONG)
        page.get_by_role("button", name="Add book").click()

    for name in ("list", "mistake", "fail", "scope", "nowhere"):
        page.goto(f"/{name}" if name in ("scope", "nowhere") else "/")
        if name == "mistake":
            page.get_by_label("Title").fill(" ")
            page.get_by_label("Author").fill(LONG * 2)
            page.get_by_role("button", name="Add book").click()
        if name == "fail":
            page.get_by_role("button", name="Fail on purpose").click()
        page.screenshot(path=pictures / f"{name}-{screen}.png", full_page=True)

        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), name
        assert page.evaluate(LOW_CONTRAST) == [], name


LOW_CONTRAST = """() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => numbers(color).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = element => {
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 ? background(element.parentElement) : color;
  };
  const contrast = element => {
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(background(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  return [...document.querySelectorAll("main *")]
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .filter(element => contrast(element) < 4.5)
    .map(element => `${element.innerText}: ${contrast(element)}`);
}"""


@SCREENS
@pytest.mark.system("chromium")
def test_list_is_kept_by_keyboard(page: Page, complaints: list[str]) -> None:
    """A book is added, ticked off and deleted by keyboard alone, and the focus goes on from where it was."""
    tab_to(page, "Title")
    page.keyboard.type("Emma")
    tab_to(page, "Author (optional)")
    page.keyboard.type("Jane Austen")
    press(page, "Add book")
    assert books(page)[0] == "Emma"

    press(page, "Tick off Emma")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Untick Emma"

    press(page, "Delete Emma")
    assert books(page) == ["Middlemarch", "Invisible Cities", "A Wizard of Earthsea"]
    assert complaints == []


@SCREENS
@pytest.mark.system("chromium")
def test_failure_is_seen_by_keyboard(page: Page, complaints: list[str]) -> None:
    """The page that fails on purpose says what happened, and leads back to a list that is as it was."""
    before = books(page)

    press(page, "Fail on purpose")
    assert "A fresh session counts 3 books." in page.inner_text("main")

    press(page, "Back to the list")
    assert books(page) == before
    assert [complaint for complaint in complaints if "500 (Internal Server Error)" not in complaint] == []


@pytest.mark.parametrize("screen", ["390-light"])
@pytest.mark.system("chromium")
def test_books_can_be_skipped_to(page: Page) -> None:
    """The first stop of the keyboard is a link past the form."""
    tab_to(page, "Skip to the books")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.ariaLabel") == "Tick off Middlemarch"


@pytest.mark.parametrize("screen", ["1280-light"])
@pytest.mark.system("chromium")
def test_export_is_downloaded(page: Page) -> None:
    """The export is saved as a file, and does not take the place of the list."""
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV").click()

    assert download.value.suggested_filename == "reading-list.csv"
    assert download.value.path().read_text().startswith("Title,Author,Read")


@pytest.mark.parametrize("screen", ["1280-light"])
@pytest.mark.system("chromium")
def test_form_of_another_site_changes_nothing(page: Page, address: str) -> None:
    """A form that a page of another site sends is refused."""
    page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"""
        <form method="post" action="{address}books/1/delete"><button>Win</button></form>""",
        ),
    )
    page.goto("http://elsewhere.example/")

    page.get_by_role("button", name="Win").click()

    assert "another site" in page.inner_text("main")
    page.goto("/")
    assert len(books(page)) == 3
