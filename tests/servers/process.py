"""A server as a process: started on a port that the kernel names, and ended by its process id."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.client import Client

from .place import ROOT, Place
from .recipes import Behaviour, Difference, Server

UNMEASURED = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
"""What would have coverage started in the servers, with its own handler of SIGTERM."""

FILE = b"0123456789abcdef" * 20_000
"""What is in the file that the application sends."""


class NotStartedError(RuntimeError):
    """A server could not be started, or does not answer."""


@dataclass(frozen=True, slots=True)
class Process:
    """A server that runs.  Lives as long as the block that has started it."""

    server: Server
    popen: subprocess.Popen[bytes]
    port: int
    folder: Path

    def log(self, *names: str) -> list[dict[str, Any]]:
        """Return what the application has logged of some requests; of all, if none is named."""
        log = self.folder / "log"
        whole_lines = log.read_text().rpartition("\n")[0] if log.exists() else ""
        events: list[dict[str, Any]] = [json.loads(line) for line in whole_lines.splitlines()]
        return [event for event in events if not names or event["name"] in names]

    def steps(self, name: str) -> list[str]:
        """Return the steps of one request."""
        return [event["step"] for event in self.log(name)]

    def has_step(self, name: str, step: str, patience: float = 10.0) -> bool:
        """Wait for a step of a request, and say whether it has been taken."""
        return wait_until(lambda: step in self.steps(name), patience)

    def stop(self) -> None:
        """Ask for a graceful stop."""
        self.popen.send_signal(signal.Signals[self.server.stop])

    def has_ended(self, patience: float) -> bool:
        """Wait for the process to end by itself, and say whether it has."""
        try:
            self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def output(self) -> str:
        """Return the last lines that the server has written."""
        return (self.folder / "output").read_text(errors="replace")[-3000:]


def wait_until(is_so: Callable[[], bool], patience: float) -> bool:
    """Wait for a condition, and say whether it came about."""
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def running(server: Server, folder: Path, **variables: str) -> Iterator[Process]:
    """Run *server* for as long as the block lasts, with variables in its environment.

    The server and its workers are a process group of their own, which is killed at the end whatever has happened.
    """
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    (folder / "file").write_bytes(FILE)
    process = _started(server, folder, variables)
    try:
        yield process
    finally:
        _kill(process.popen)


def _started(server: Server, folder: Path, variables: dict[str, str]) -> Process:
    """Start *server*; on another port if somebody was faster on the first."""
    for _ in range(3):
        process = _spawned(server, Place(free_port(), folder), variables)
        if _is_ready(process):
            return process
        _kill(process.popen)
    raise NotStartedError(f"{server.name} did not start: {process.output()}")


def _spawned(server: Server, place: Place, variables: dict[str, str]) -> Process:
    environ = {name: value for name, value in os.environ.items() if name not in UNMEASURED}
    environ |= {"SERVED_FOLDER": str(place.folder), "PYTHONPATH": str(ROOT), **variables}
    if Difference.ONE_AT_A_TIME in server.differences(Behaviour.PAIR):
        environ["SERVED_PATIENCE"] = "1"
    with (place.folder / "output").open("ab") as output:
        popen = subprocess.Popen(
            [str(part) for part in server.command(place)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Process(server, popen, place.port, place.folder)


def _is_ready(process: Process) -> bool:
    """Wait for the first answer, or the end of the process."""
    popen = process.popen
    return wait_until(lambda: popen.poll() is not None or _answers(process.port), 30) and popen.poll() is None


def free_port() -> int:
    """Ask the kernel for a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with Client(port, timeout=30) as client:
            client.send("/bare/list?ready")
            return client.answer().status == 200
    except OSError:
        return False


def _kill(popen: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait(10)
