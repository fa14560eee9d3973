"""The meters: what a call costs, in instructions where valgrind is, else in CPU time.

Instructions are counted by the valgrind that this process runs under (`command`). Callgrind writes down what it has
counted since the last time whenever the process calls ``getppid()``, so that one process can count many things, and
what it does before costs nothing but time. The same call is counted alike to a few hundred instructions; Python's
cyclic collector is off meanwhile.

CPU time is that of the thread, of both calls in turn, many times; what is compared is the median of the ratios.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeAlias

Call: TypeAlias = Callable[[int], object]
"""Does what is measured so many times."""

Calls: TypeAlias = dict[str, Call]
"""What is measured, by name."""

_FOLDER = "BENCHMARK_COUNTS"
_MARK = "getppid"
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Cost:
    """What something costs without sessions that are there for it, and with them."""

    without: float
    beside: float
    unit: str
    """``"instructions"``, or ``"ns"`` of CPU time."""

    @property
    def added(self) -> float:
        """What is added."""
        return self.beside - self.without

    @property
    def ratio(self) -> float:
        """What it is multiplied by."""
        return self.beside / self.without


def command(arguments: list[str], folder: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs Python under the best meter there is, and its environment.

    Args:
        arguments: The command line, Python first.
        folder: An empty one, for what valgrind writes down.
    """
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return arguments, environment
    options = ["--tool=callgrind", f"--callgrind-out-file={folder}/counts", f"--dump-before={_MARK}"]
    return [valgrind, "-q", *options, *arguments], environment | {_FOLDER: folder}


def compare(without: Callable[[], Calls], beside: Callable[[], Calls], times: dict[str, int]) -> dict[str, Cost]:
    """Measure what calls cost, each for one of its *times*.

    Where instructions are counted, all calls of the first kind are, before the second is built: to have it in the
    process may cost something already, such as listeners on SQLAlchemy's classes.

    Args:
        without: Builds the calls that do without.
        beside: Builds calls of the same names.
        times: How often to make each.
    """
    with _collector_off():
        if folder := os.environ.get(_FOLDER):
            counted = [_counted(build(), times, Path(folder)) for build in (without, beside)]
            return {name: Cost(counted[0][name], counted[1][name], "instructions") for name in times}
        first, second = without(), beside()
        return {name: _cpu_time(first[name], second[name], times[name]) for name in times}


def measure(call: Call, times: int) -> float:
    """Measure what *call* costs alone, for one of its *times*, by the meter that this process runs under."""
    with _collector_off():
        folder = os.environ.get(_FOLDER)
        return (instructions(call, times, Path(folder)) if folder else _nanoseconds(call, times)) / times


def _counted(calls: Calls, times: dict[str, int], folder: Path) -> dict[str, float]:
    return {name: instructions(calls[name], often, folder) / often for name, often in times.items()}


def instructions(call: Call, times: int, folder: Path) -> int:
    """Count what *call* takes, all threads together."""
    os.getppid()
    call(times)
    os.getppid()
    return _read_last(folder)


def _read_last(folder: Path) -> int:
    written = sorted(folder.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
    found = re.search(r"^totals: (\d+)", written[-1].read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{written[-1]} has no totals.")
    for path in written:
        path.unlink()
    return int(found[1])


def _cpu_time(without: Call, beside: Call, times: int) -> Cost:
    pairs = [(_nanoseconds(without, times), _nanoseconds(beside, times)) for _ in range(_ROUNDS)]
    usual = median(first for first, _ in pairs)
    return Cost(usual / times, usual / times * median(second / first for first, second in pairs), "ns")


def _nanoseconds(call: Call, times: int) -> int:
    began = time.process_time_ns()
    call(times)
    return time.process_time_ns() - began


@contextmanager
def _collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def description() -> str:
    """Say what the figures are that `command` leads to here, and how far they can be trusted."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return (
            f"nanoseconds of CPU time, for valgrind is not here: each is the median ratio of {_ROUNDS} rounds,"
            " in which both sides were timed in turn. The next run may find 10 % more or less."
        )
    version = subprocess.run([valgrind, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return (
        f"instructions, counted by callgrind ({version})."
        " The same program is counted alike to one part in a thousand. The same request in another program,"
        " whose objects lie elsewhere in memory, was counted up to 2 % otherwise:"
        " so much two figures for a SELECT or an INSERT may differ for no reason."
    )
