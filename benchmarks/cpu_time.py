"""CPU time of a program, in nanoseconds: the shortest of many rounds, for whatever disturbs one makes it longer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from .environments import ROOT

UNIT = "ns"

ACCURACY = "The next run may find 10 % more or less."

ROUNDS = 100


def run(command: list[str], environment: dict[str, str]) -> str:
    """Run a program, and return its last line.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment).stdout
    return said.splitlines()[-1]


def measure(call: Callable[[int], object], times: int) -> float:
    """Take the time that *call* needs."""
    return min(_taken(call, times) for _ in range(ROUNDS))


def _taken(call: Callable[[int], object], times: int) -> int:
    began = time.process_time_ns()
    call(times)
    return time.process_time_ns() - began


def description() -> str:
    """Say what was taken how."""
    return f"nanoseconds of CPU time, the shortest of {ROUNDS} rounds, for valgrind is not here"
