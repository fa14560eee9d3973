"""CPU time of programs, in nanoseconds, by which what this project costs is judged.

What is compared runs at the same time, each in a process of its own, and is asked in turn for a round of the same,
again and again, on the same processor, for another one may have a neighbour that slows it down. A machine that becomes
slower, or has other work to do, does so for all of them: the ratio of two rounds that belong together is known where
neither of them is, and the sooner they follow each other, the better. Of many such ratios the median counts, and each
start of the programs gives one: they differ in where in memory their objects lie (`benchmarks.layout`).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median

from .environments import ROOT

UNIT = "ns"

ROUNDS = 100
"""In each start, for each name."""

WARMING = 10
"""A round is preceded by this part of one, after which the processor knows the program again."""


class Program:
    """A program that calls `serve`.  Lives as long as the block that it is for."""

    def __init__(self, command: list[str], stack: ExitStack) -> None:
        """Start it, and wait until it is ready.

        Raises:
            RuntimeError: If it fails.
        """
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        pipe = subprocess.PIPE
        with _one_processor():
            program = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment)
        self._process = stack.enter_context(program)
        self._command = " ".join(command)
        self.names: list[str] = json.loads(self._next_line())

    def ask(self, name: str) -> float:
        """Return what *name* takes, once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()
        return float(self._next_line())

    def _next_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command!r} has failed.")
        return line


def serve(calls: Mapping[str, Callable[[int], object]], times: Mapping[str, int]) -> None:
    """Print the names of *calls*, then what each takes for one of its *times* whenever its name comes in."""
    print(json.dumps([*times]), flush=True)
    for line in sys.stdin:
        name = line.strip()
        call, often = calls[name], times[name]
        if often >= WARMING:
            call(often // WARMING)
        began = time.process_time_ns()
        call(often)
        print((time.process_time_ns() - began) / often, flush=True)


def compare(commands: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
    """Start programs once, and find what each takes for each name.

    Args:
        commands: Of the programs, by a name of each.

    Returns:
        By the name of the program, nanoseconds by what was asked for: of the first the median of its rounds, of the
        others as much more or less as the median of the ratios says.
    """
    with ExitStack() as stack:
        programs = {name: Program(command, stack) for name, command in commands.items()}
        first = next(iter(programs))
        found: dict[str, dict[str, float]] = {name: {} for name in programs}
        for asked in programs[first].names:
            rounds = [_round(programs, asked) for _ in range(ROUNDS)]
            basis = median(each[first] for each in rounds)
            for name in programs:
                found[name][asked] = basis * median(each[name] / each[first] for each in rounds)
    return found


@contextmanager
def _one_processor() -> Iterator[None]:
    """Have what is started meanwhile run on the same processor as all else of it, where that can be asked for."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _round(programs: Mapping[str, Program], asked: str) -> dict[str, float]:
    names = [*programs]
    random.shuffle(names)  # who comes after whom is not to matter
    return {name: programs[name].ask(asked) for name in names}


def description() -> str:
    """Say what was measured how."""
    return (
        "CPU time. Both sides run at the same time on one processor, each in a process of its own, and are asked in"
        f" turn for {ROUNDS} short rounds of the same; the median of the ratios counts"
    )
