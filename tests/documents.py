"""A page that one can follow: files to write, and commands with what they print.

In a page, ``<!-- file: NAME -->`` before a block makes it a file. A ``console`` block has commands, each after ``$ ``,
and under each what it prints; ``...`` stands for anything. With ``<!-- stays -->`` before such a block its command goes
on, like a server, until the page ends. The ``python`` blocks that have no such line are one program together.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

PORT = "8000"
"""The port that pages show; the variable ``PORT`` of a reader's environment may name another one."""

_block = re.compile(
    r"^(?:<!-- (?P<note>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_command = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class File:
    """A file to write."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the shell, what it prints, and whether it goes on until the page ends."""

    line: str
    shown: str
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """The Python of a page that is in no file."""

    code: str


Step = File | Command | Program


def steps(page: str) -> Iterator[Step]:
    """List what a reader of *page* does, in order; its program comes last, when all of it is there."""
    code = ""
    for block in _block.finditer(page):
        note, language, text = block["note"] or "", block["language"], block["text"]
        if note.startswith("file: "):
            yield File(note.removeprefix("file: "), text)
        elif language == "console":
            yield from (Command(line, shown, note == "stays") for line, shown in _command.findall(text))
        elif language == "python" and not note:
            code += text
    if code:
        yield Program(code)


class NotAsShown(Exception):  # noqa: N818
    """A command has printed something else than the page shows."""

    def __init__(self, line: str, shown: str, printed: str) -> None:
        """Show both."""
        super().__init__(f"$ {line}\n--- shown:\n{shown}--- printed:\n{printed}")


class Reader(ExitStack):
    """Does what a page says, in a folder.  Lives as long as the page: what stays is ended with it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], patience: float = 60) -> None:
        """Begin.

        Args:
            folder: Where files are written and commands are run.
            environment: The variables of the commands; ``PATH`` has their ``python``.
            patience: How many seconds what stays may take until it has printed what is shown.
        """
        super().__init__()
        self._folder = folder
        self._environment = dict(environment)
        self._patience = patience

    def follow(self, step: Step) -> None:
        """Do one step.

        Raises:
            NotAsShown: If something else was printed than the page shows.
        """
        match step:
            case File(name, text):
                (self._folder / name).write_text(text)
            case Command(line, shown, stays=False):
                self._run(line, shown)
            case Command(line, shown):
                self._start(line, shown)
            case Program(code):
                (self._folder / "the_program.py").write_text(code)
                self._run("python -P the_program.py", "...")

    def _run(self, line: str, shown: str) -> None:
        done = subprocess.run(
            ["sh", "-c", line], **self._in_folder(), stdout=PIPE, stderr=STDOUT, text=True, check=False
        )
        printed = self._with_port(done.stdout)
        if done.returncode or not is_as_shown(printed, shown):
            raise NotAsShown(line, shown, f"{printed}(exit status {done.returncode})")

    def _start(self, line: str, shown: str) -> None:
        log = self._folder / "what_stays.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["sh", "-c", line], **self._in_folder(), stdout=output, stderr=STDOUT, start_new_session=True
            )
        self.callback(_end, process)
        until = time.monotonic() + self._patience
        while not is_as_shown(printed := self._with_port(log.read_text()), shown):
            if process.poll() is not None or time.monotonic() > until:
                raise NotAsShown(line, shown, printed)
            time.sleep(0.05)

    def _in_folder(self) -> dict[str, Any]:
        return {"cwd": self._folder, "env": self._environment, "stdin": subprocess.DEVNULL}

    def _with_port(self, printed: str) -> str:
        return printed.replace(self._environment.get("PORT", PORT), PORT)


def is_as_shown(printed: str, shown: str) -> bool:
    """Say whether *printed* is what a page shows, where ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in shown.rstrip().split("..."))
    return re.fullmatch(pattern, printed.rstrip(), re.DOTALL) is not None


def environment_of(binaries: Path, **variables: str) -> dict[str, str]:
    """Return the variables of this process, but for Python's own, with *binaries* first on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", **variables}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C until it ends: one in hundreds is lost to a server that runs under the tracer of the coverage."""
    for patience in (5, 5, 20):
        with suppress(subprocess.TimeoutExpired):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=patience)
            return
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    raise AssertionError(f"{process.args} does not end by Ctrl-C.")
