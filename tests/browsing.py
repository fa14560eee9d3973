"""What tests in a browser have in common: an application that is served, a screen, and what makes a page readable."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from wsgiref.types import WSGIApplication

import pytest
from axe_playwright_python.sync_playwright import Axe

import demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

SCREENS = pytest.mark.parametrize("screen", ["390-dark", "1280-light"])
"""A narrow and a wide one, one dark and one light: axe-core takes its time, and no rule needs all four."""


@contextmanager
def serving(application: WSGIApplication) -> Iterator[str]:
    """Serve *application* as the demo is served, and give its address."""
    with demo.Server(("127.0.0.1", 0), demo.RequestHandler) as server:
        server.set_app(application)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(browser: Browser, address: str, screen: str, complaints: list[str]) -> Iterator[Page]:
    """Give an empty page on a *screen*, and collect what the browser complains of."""
    width, scheme = screen.split("-")
    context = browser.new_context(base_url=address, viewport={"width": int(width), "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.extend(() if is_left(request) else [request.url]))
    yield page
    context.close()


def is_left(request: Request) -> bool:
    """Say whether a script's request was given up, because its page was left."""
    return request.resource_type == "fetch" and request.failure == "net::ERR_ABORTED"


def assert_readable(page: Page, within: str = "body", without: tuple[str, ...] = ()) -> None:
    """Assert that a page is no wider than its window, and that axe-core finds nothing to mend on it.

    Args:
        page: What is looked at.
        within: Which element of it.
        without: Which parts of that are left out.
    """
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), page.url
    found = AXE.run(page, {"include": [within], "exclude": list(without)}, OPTIONS)
    assert found.violations_count == 0, f"{page.url}: {found.generate_report()}"
    undecided = [
        (one["html"], check["data"])
        for rule in found.response["incomplete"]
        for one in rule["nodes"]
        for check in one["any"]
    ]
    assert [(html, data) for html, data in undecided if data["messageKey"] not in BLIND] == [], page.url
    assert page.evaluate(PALE) == [], page.url


AXE = Axe()

OPTIONS = {"resultTypes": ["violations", "incomplete"], "preload": False}
"""What is not decided is looked at, too; no style sheet is fetched once more, which the policy of a page may forbid."""

BLIND = {"elmPartiallyObscured", "elmPartiallyObscuring", "imgNode", "nonBmp", "shortTextContent"}
"""Where axe-core does not judge a contrast: what is moved out of sight or in a picture, a lone sign or letter."""

PALE = """() => {
  const { Color, getContrast, getOwnBackgroundColor } = axe.commons.color;
  const background = element => {
    const own = getOwnBackgroundColor(getComputedStyle(element));
    return own.alpha ? own : background(element.parentElement);
  };
  const contrast = element => getContrast(background(element), new Color().parseString(getComputedStyle(element).fill));
  return [...document.querySelectorAll("svg text, rect.bar")]
    .map(element => [element.outerHTML, contrast(element), element.matches("text") ? 4.5 : 3])
    .filter(([html, found, least]) => !(found >= least));
}"""
"""Lists what in a picture does not stand out enough (WCAG 2.2, 1.4.3 and 1.4.11): axe-core looks at no picture."""
