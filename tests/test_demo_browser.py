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
    return page.locator("li .title strong").all_inner_texts()


@SCREENS
@pytest.mark.system("chromium")
def test_every_page_fits(page: Page, screen: str, pictures: Path) -> None:
    """No page is wider than its window, however long a word is, and axe-core finds nothing to mend."""
    for title in ("<script>alert(1)</script>", LONG):
        page.get_by_label("Title").fill(title)
        page.get_by_role("button", name="Add book").click()

    for name, path, button in (
        ("list", "/", ""),
        ("mistake", "/", "Add book"),
        ("fail", "/", "Fail after an INSERT"),
        ("conflict", "/", "Read on in two tabs"),
        ("slow", "/read-slowly", ""),
        ("nowhere", "/nowhere", ""),
    ):
        page.goto(path)
        if name == "mistake":
            page.get_by_label("Title").fill(" ")
        if button:
            page.get_by_role("button", name=button).click()
        page.screenshot(path=pictures / f"{name}-{screen}.png", full_page=True)

        assert_readable(page)


@SCREENS
@pytest.mark.system("chromium")
def test_list_is_kept_by_keyboard(page: Page, complaints: list[str]) -> None:
    """A book is added, read and deleted by keyboard alone."""
    tab_to(page, "Title")
    page.keyboard.type("Emma")
    press(page, "Add book")
    assert books(page)[0] == "Emma"

    press(page, "Read ten pages of Emma")
    assert "Emma read up to page 10" in page.inner_text("main")

    press(page, "Delete Emma")
    assert books(page) == ["The Dispossessed", "Invisible Cities", "Middlemarch"]
    assert complaints == []


@SCREENS
@pytest.mark.system("chromium")
def test_experiments_say_what_happened(page: Page, complaints: list[str]) -> None:
    """Each experiment says, at the top of the page that comes, what its request did."""
    last = page.locator(".last li strong")

    press(page, "Fail after an INSERT")
    assert last.all_inner_texts() == ["POST /fail → INSERT → ROLLBACK → an exception"]

    press(page, "Read on in two tabs")
    assert last.all_inner_texts() == [
        "POST /conflict → SELECT → UPDATE → ROLLBACK → an exception",
        "POST /conflict → SELECT → UPDATE → COMMIT before the first byte → 303",
    ]

    press(page, "Read slowly")
    assert page.get_by_text("(0 connections in use)").count() == 3
    press(page, "Back to the list, and to what this request did")
    assert last.all_inner_texts() == ["GET /read-slowly → SELECT → 200"]

    page.get_by_role("link", name="in the inspector").click()
    assert page.locator("h1").inner_text() == "GET /read-slowly"
    assert [one for one in complaints if "500 (Internal Server Error)" not in one] == []


@pytest.mark.parametrize("screen", ["390-light"])
@pytest.mark.system("chromium")
def test_a_slow_page_is_shown_as_it_comes(page: Page) -> None:
    """What was sent of the slow page can be read before its end."""
    page.get_by_role("button", name="Read slowly").click(no_wait_after=True)
    page.get_by_text("(0 connections in use)").first.wait_for()

    assert page.get_by_role("link", name="Back to the list").count() == 0


@pytest.mark.parametrize("screen", ["1280-light"])
@pytest.mark.system("chromium")
def test_form_of_another_site_changes_nothing(page: Page, address: str) -> None:
    """A form that a page of another site sends is refused."""
    page.route(
        "http://elsewhere.example/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"""
        <form method="post" action="{address}delete"><button name="id" value="1">Win</button></form>""",
        ),
    )
    page.goto("http://elsewhere.example/")

    page.get_by_role("button", name="Win").click()

    assert "another site" in page.inner_text("main")
    page.goto("/")
    assert len(books(page)) == 3
