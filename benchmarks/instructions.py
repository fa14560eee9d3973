"""Instructions, as callgrind counts them, in the user's code of all threads together.

A program starts without being counted, or its imports would take 20 seconds. When it has something to count, it says
so and waits for its parent, which tells valgrind to count from here on. Callgrind then writes down what it has counted
since the last time whenever the program calls ``getppid()``, so that nothing else is in the figure.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory

from .environments import ROOT

UNIT = "instructions"

_FOLDER = "BENCHMARK_COUNTS"
_MARK = "getppid"
_READY = "ready to be counted\n"


def is_here() -> bool:
    """Say whether there is valgrind, with callgrind in it."""
    return shutil.which("valgrind") is not None


def is_on() -> bool:
    """Say whether this program was started by `compare`."""
    return _FOLDER in os.environ


def compare(commands: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """Run programs that call `measure`, one after the other, and return what each prints last.

    Raises:
        subprocess.CalledProcessError: If one fails, or `vgdb`.
    """
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    return {name: json.loads(_run(command, environment)) for name, command in commands.items()}


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Run a program under callgrind, and return its last line."""
    with TemporaryDirectory() as folder:
        line = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--dump-before={_MARK}"]
        line += [f"--callgrind-out-file={folder}/counts", f"--vgdb-prefix={folder}/vgdb", *command]
        return _last_line(line, environment | {_FOLDER: folder}, folder)


def _last_line(command: list[str], environment: dict[str, str], folder: str) -> str:
    pipe, line = subprocess.PIPE, ""
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for line in program.stdout:
            if line == _READY:
                _switch_on(program.pid, folder)
                program.stdin.write("\n")
                program.stdin.flush()
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, command)
    return line


def _switch_on(pid: int, folder: str) -> None:
    command = ["vgdb", f"--vgdb-prefix={folder}/vgdb", f"--pid={pid}", "--max-invoke-ms=0", "instrumentation", "on"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(call: Callable[[int], object], times: int) -> float:
    """Count what *call* takes, in a program that `compare` has started."""
    _get_ready()
    os.getppid()
    call(times)
    os.getppid()
    return _read_last(Path(os.environ[_FOLDER]))


def _get_ready() -> None:
    """Wait until the parent has switched on, but awake: only ptrace, which is not everywhere, reaches who sleeps."""
    print(_READY, end="", flush=True)
    while not select([sys.stdin], [], [], 0.001)[0]:
        pass
    sys.stdin.readline()


def _read_last(folder: Path) -> int:
    written = sorted(folder.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
    found = re.search(r"^totals: (\d+)", written[-1].read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{written[-1]} has no totals.")
    for path in written:
        path.unlink()
    return int(found[1])


def description() -> str:
    """Say what was counted by whom."""
    said = subprocess.run(["valgrind", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return f"instructions, counted by callgrind ({said.strip()})"
