"""The filter: a line of the log says which request it belongs to, and what has become of that."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.helpers import Exchange, add_words, answer, request
from wsgi_session import SessionMiddleware, current_scope, on_success
from wsgi_session.observe import Recorder, RequestFilter

KEY = "sqlalchemy.session"
SHOP = logging.getLogger("shop.views")


class Lines(logging.Handler):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(RequestFilter())
        self.setFormatter(logging.Formatter("%(name)s [%(request_id)s %(outcome)s] %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return what is logged."""
    handler = Lines()
    levels = {logger: logger.level for logger in (SHOP, logging.getLogger("wsgi_session.requests"))}
    for logger in levels:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    yield handler.lines
    for logger, level in levels.items():
        logger.setLevel(level)
        logger.removeHandler(handler)


def test_a_line_says_whose_it_is(engine: Engine, lines: list[str]) -> None:
    """It has the number of the request's record, and its outcome so far; outside of requests it has neither."""
    recorder = Recorder()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        SHOP.info("view")
        add_words(environ[KEY], "x")
        answer(start_response)
        yield b"x"
        SHOP.info("body of %s", "it")

    SHOP.warning("before %(what)s", {"what": "it"})
    request(SessionMiddleware(app, engine, recorder=recorder, commit=on_success))
    SHOP.warning("after")

    assert lines[:3] == [
        "shop.views [- -] before it",
        "shop.views [1 open] view",
        "shop.views [1 committed] body of it",
    ]
    assert lines[3].startswith("wsgi_session.requests [1 committed] GET / 200 (committed: GET 200, on_success) ")
    assert lines[4:] == ["shop.views [- -] after"]


def test_each_of_two_requests_has_its_own(new_engine: Any, lines: list[str]) -> None:
    """Where a server interleaves two responses on one thread, each line has its own request."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        for _ in range(2):
            SHOP.info(environ["PATH_INFO"])
            yield b"x"

    app = SessionMiddleware(app, new_engine(), recorder=Recorder())  # type: ignore[assignment]
    first, second = Exchange(app, path="/first"), Exchange(app, path="/second")
    for exchange in (first, second, first, second):
        exchange.step()

    assert lines == [
        "shop.views [1 open] /first",
        "shop.views [2 open] /second",
        "shop.views [1 not committed] /first",
        "shop.views [2 not committed] /second",
    ]
    first.close()
    second.close()


def test_what_is_doomed_is_shown(engine: Engine, lines: list[str]) -> None:
    """The outcome is the one at that moment."""

    def app(environ: Any, start_response: Any) -> Any:
        current_scope().doom()
        SHOP.info("doomed")
        answer(start_response)
        return []

    request(SessionMiddleware(app, engine, recorder=Recorder()))
    thread = threading.Thread(target=SHOP.info, args=["elsewhere"])
    thread.start()
    thread.join()

    assert lines[0] == "shop.views [1 doomed] doomed"
    assert lines[-1] == "shop.views [- -] elsewhere"
