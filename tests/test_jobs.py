"""The examples of jobs, each run by what runs it, beside the web application whose registry it uses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples import ROOT, Example, environment, started

WEB = "flask_app:app"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Example]:
    """Run the web application, with one note."""
    with started(tmp_path, WEB) as examples:
        examples[WEB].add("milk")
        yield examples[WEB]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait, two minutes at most: on a busy machine a worker takes long to start."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_script(web: Example) -> None:
    """What a script has added lasts, and of a script that fails nothing stays."""

    def run_script(lines: str) -> int:
        command = [sys.executable, ROOT / "examples" / "script.py"]
        return subprocess.run(
            command, input=lines, stderr=subprocess.PIPE, text=True, env=environment(web.url), timeout=60, check=False
        ).returncode

    statuses = [run_script("bread\nsalt\n"), run_script("eggs\nmilk\n")]

    assert statuses == [0, 1]
    assert web.show() == ["milk", "bread", "salt"]


REQUESTS = """
{prelude}
from {module} import add, {send}
from notes import Session
from tests.helpers import answer, request
from wsgi_session import SessionMiddleware, on_unsafe_success

def application(environ, start_response):
    add(environ["PATH_INFO"])
    answer(start_response)
    return []

application = SessionMiddleware(application, Session, commit=on_unsafe_success)
for text in ("MILK", "bread"):
    assert request(application, "POST", text).status == "200 OK"
{shout_milk}
"""
"""A program whose requests add notes and send a job for each; and one job more, which the database refuses."""


def run(program: str, environ: dict[str, str]) -> None:
    """Run a Python program."""
    subprocess.run([sys.executable, "-c", program], env=environ, timeout=60, check=True)


def test_a_celery_task(web: Example, tmp_path: Path) -> None:
    """A task sees what the request has committed; what it does lasts if it returns, and is undone if it raises."""
    log = tmp_path / "worker.log"
    folder = tmp_path / "broker"
    folder.mkdir()
    environ = environment(web.url, BROKER_FOLDER=folder)
    options = ["--concurrency=1", "--loglevel=INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "--app=tests.celery_on_files", "worker", f"--logfile={log}", *options]
    program = REQUESTS.format(
        prelude="import tests.celery_on_files", module="celery_task", send="shout", shout_milk="shout.delay(1)"
    )

    run(program, environ)  # first: a worker that looks into the folder meanwhile may take a file that is half written
    with subprocess.Popen(command, env=environ, cwd=tmp_path, start_new_session=True) as worker:
        try:
            wait_until(lambda: log.exists() and log.read_text().count("succeeded") == 2)
            wait_until(lambda: "IntegrityError" in log.read_text())
        finally:
            os.killpg(worker.pid, signal.SIGKILL)  # it takes its time over every other end

    assert web.show() == ["milk", "MILK", "BREAD"]


@pytest.fixture
def redis_url() -> Iterator[str]:
    """Run a Redis server on a socket in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="wsgi_session_redis_"))
    command = ["redis-server", "--port", "0", "--unixsocket", folder / "redis", "--dir", folder, "--save", ""]
    try:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                wait_until((folder / "redis").exists)
                yield f"unix://{folder / 'redis'}"
            finally:
                server.terminate()
    finally:
        shutil.rmtree(folder)


@pytest.mark.system("redis")
def test_an_rq_job(web: Example, redis_url: str) -> None:
    """A job sees what the request has committed; what it does lasts if it returns, and is undone if it raises."""
    environ = environment(web.url, REDIS_URL=redis_url)
    program = REQUESTS.format(prelude="", module="rq_job", send="queue, shout", shout_milk="queue.enqueue(shout, 1)")

    run(program, environ)
    command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", redis_url]
    worker = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)

    assert web.show() == ["milk", "MILK", "BREAD"]
    assert worker.stdout.count("Job OK") == 2
    assert "IntegrityError" in worker.stderr
