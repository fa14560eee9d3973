"""The example of replicas: it starts its servers, shows where each request went, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import pytest
from bs4 import BeautifulSoup

import demo
from examples import replicas as example
from tests.browsing import SCREENS, assert_readable, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.system("postgresql-server")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder for temporary files that the servers can enter, whoever runs them."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the example, and give its process and the address of its page."""
    command = [sys.executable, "-m", "examples.replicas", "--port", "0"]
    place = Path(demo.__file__).parent
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True, env=environment(folder)) as process:
        assert process.stdout
        said = process.stdout.readline()
        try:
            yield process, re.findall(r"http://\S+", said)[0]
        finally:
            process.terminate()  # which ends its servers; once more does no harm
            process.wait(60)


def environment(folder: Path) -> dict[str, str]:
    """Return this program's environment, with temporary files in *folder*."""
    return os.environ | {"TMPDIR": str(folder)}


class Visitor:
    """A browser, which keeps its cookies.  Lives as long as the test."""

    def __init__(self, address: str) -> None:
        """Visit the page at *address*."""
        self._address = address
        self._opener: OpenerDirector = build_opener(HTTPCookieProcessor())

    def look(self) -> Any:
        """Load the page."""
        return self._page(self._opener.open(self._address))

    def press(self, action: str, standby: str = "") -> Any:
        """Press the button of a form."""
        fields = [form.select_one("input") for form in self.look().select(f'form[action="{action}"]')]
        assert standby in [field["value"] if field else "" for field in fields]
        body = urlencode({"standby": standby}).encode()
        return self._page(self._opener.open(self._address.removesuffix("/replicas") + action, body))

    def _page(self, response: Any) -> Any:
        with response:
            return BeautifulSoup(response.read(), "html.parser")


def count_and_server(page: Any) -> tuple[str, str]:
    """Return how many books a page has counted, and where."""
    count, server = (strong.text for strong in page.select("header strong"))
    return count, server


def test_where_requests_go(folder: Path) -> None:
    """A page is read from a standby, unless none has what its browser has written; both standbys can be stopped."""
    with running(folder) as (process, address):
        visitor = Visitor(address)
        assert count_and_server(visitor.look())[1].startswith("standby")
        for number in (1, 2):
            visitor.press("/replicas/pause", str(number))
        late = visitor.press("/replicas/book")
        assert count_and_server(late) == ("4 books", "primary")
        rows = [" ".join(" ".join(row.stripped_strings).split()) for row in late.select("li")]
        assert re.match(r"standby 1 requests: \d+; late by \d+\.\d s, \d+ bytes Resume", rows[1])
        assert re.match(
            r"primary GET /replicas because no standby has what this browser has seen, or is up; after \d{3,} ms",
            rows[3],
        )
        assert rows[4].startswith("primary POST /replicas/book because it may write")
        assert count_and_server(Visitor(address).look())[0] == "3 books"  # of somebody who has written nothing
        visitor.press("/replicas/resume", "1")
        while count_and_server(visitor.look())[1] == "primary":
            pass
        assert count_and_server(visitor.look()) == ("4 books", "standby 1")

        process.terminate()
        assert process.wait(30) == 0
    assert not list(folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_what_it_has_started(number: signal.Signals, folder: Path) -> None:
    """Ctrl-C and SIGTERM end the servers, too, also twice, and no folder is left."""
    with running(folder) as (process, _address):
        servers = [int(path.read_text().split()[0]) for path in folder.glob("*/data/postmaster.pid")]
        for _ in range(2):
            process.send_signal(number)
        assert process.wait(30) == 0

    assert len(servers) == 3
    assert not any(Path(f"/proc/{server}").exists() for server in servers)
    assert not list(folder.iterdir())


def test_without_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it needs."""
    monkeypatch.setattr(example.machine, "postgresql_binaries", lambda: None)
    monkeypatch.setattr(sys, "argv", ["replicas.py"])

    with pytest.raises(SystemExit, match=r"needs PostgreSQL's server programs.*apt install postgresql"):
        example.main()


@pytest.mark.system("chromium")
def test_it_can_be_read(browser: Browser, folder: Path, pictures: Path) -> None:
    """The page fits its window, and can be read, narrow and wide, light and dark."""
    with running(folder) as (_process, address):
        for screen in SCREENS.args[1]:
            complaints: list[str] = []
            with opened(browser, address, screen, complaints) as page:
                page.goto(address)
                page.get_by_role("button", name="Pause standby 2").click()
                page.get_by_role("button", name="Add a book").click()
                page.get_by_role("button", name="Resume standby 2").wait_for()
                assert_readable(page)
                page.screenshot(path=pictures / f"replicas-{screen}.png", full_page=True)
                page.get_by_role("button", name="Resume standby 2").click()
                page.get_by_role("button", name="Pause standby 2").wait_for()
            assert complaints == []
