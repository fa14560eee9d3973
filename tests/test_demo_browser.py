"""The demo in a browser: by keyboard, narrow and wide, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine

import demo
from tests.browsing import SCREENS, assert_readable, opened, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 4


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve the demo, and return its address."""
    engine = create_engine(f"sqlite:///{tmp_path / 'books.db'}")
    with serving(demo.make_application(engine)) as address:
        yield address
    engine.dispose()


@pytest.fixture
def page(browser: Browser, address: str, screen: str, complaints: list[str]) -> Iterator[Page]:
    """Open the list on a screen, and collect what the browser complains of."""
    with opened(browser, address, screen, complaints) as page:
        page.goto("/")
        yield page


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
    """No page is wider than its window, however long a word is, and axe-core finds nothing to mend."""
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

        assert_readable(page)


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
