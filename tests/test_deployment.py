"""The pages about running an application: the commands start it, and the health check says how it is."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client import asked
from tests.documents import environment_of
from tests.helpers import request
from wsgi_session import SessionMiddleware

DOCS = Path(__file__).parent.parent / "docs"
BINARIES = Path(sys.executable).parent


def blocks(name: str) -> list[str]:
    """List the Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)


def command(program: str) -> list[str]:
    """Find the command line of a server on the page."""
    (line,) = re.findall(rf"^    ({program} .*wsgi:application)$", (DOCS / "deployment.md").read_text(), re.MULTILINE)
    return shlex.split(line)


@contextmanager
def started(line: list[str], folder: Path) -> Iterator[int]:
    """Run a command of the page on a port of its own, and wait until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = [word.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for word in line]
    process = subprocess.Popen(line, cwd=folder, env=environment_of(BINARIES, PYTHONPATH=str(folder)))
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("program", ["gunicorn", "waitress-serve", "uwsgi"])
def test_the_command_of_a_server_serves_the_application(program: str, tmp_path: Path) -> None:
    """The application of the page, as `wsgi.py`, answers from the server that its command starts."""
    line = command(program)
    found = BINARIES / line[0]
    if not found.exists():
        pytest.skip(f"{program} is not installed")
    (tmp_path / "wsgi.py").write_text(blocks("deployment.md")[0])

    with started([str(found), *line[1:]], tmp_path) as port:
        answer = asked(port, "/")

    assert (answer.status, answer.body) == (200, b"hello")


def test_the_health_check_says_what_is_missing(tmp_path: Path, monkeypatch: Any) -> None:
    """While the database answers both pages say 200; when it does not, the process is alive and not ready."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(blocks("health-check.md")[0], "health-check.md", "exec", dont_inherit=True), names)
    application = names["application"]
    assert isinstance(application, SessionMiddleware)

    well = [request(application, path=path).status for path in ("/alive", "/ready")]
    names["engine"].dispose()
    (tmp_path / "app.db").unlink()
    (tmp_path / "app.db").mkdir()
    ill = [request(application, path=path).status for path in ("/alive", "/ready")]

    assert well == ["200 OK", "200 OK"]
    assert ill == ["200 OK", "503 Service Unavailable"]
