"""What tests in a browser have in common: an application that is served, a screen, and what makes a page readable."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from wsgiref.types import WSGIApplication

import pytest

import demo

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENS = pytest.mark.parametrize(
    "screen", [f"{width}-{scheme}" for width in (390, 1280) for scheme in ("light", "dark")]
)
"""A narrow and a wide one, light and dark."""


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
    page.on("requestfailed", lambda request: complaints.append(request.url))
    yield page
    context.close()


def assert_readable(page: Page, within: str = "body") -> None:
    """Assert that a page is no wider than its window, and that the contrast of the text *within* is at least 4.5."""
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), page.url
    assert page.evaluate(LOW_CONTRAST, within) == [], page.url


LOW_CONTRAST = """within => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = color => numbers(color).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = element => {
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 ? background(element.parentElement) : color;
  };
  const contrast = (element, color) => {
    const [a, b] = [luminance(color), luminance(background(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const texts = [...document.querySelectorAll(`${within} *`)]
    .filter(element => element.checkVisibility())
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .map(element => [element, getComputedStyle(element).color, 4.5]);
  const bars = [...document.querySelectorAll("rect.bar")]
    .map(element => [element, getComputedStyle(element).fill, 3]);
  return [...texts, ...bars]
    .filter(([element, color, least]) => contrast(element, color) < least)
    .map(([element, color]) => `${element.outerHTML}: ${contrast(element, color)}`);
}"""
"""Lists texts, and bars of pictures, that do not stand out enough (WCAG 2.2, 1.4.3 and 1.4.11)."""
