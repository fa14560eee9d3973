"""The meters: how a cost is found, in instructions where valgrind is, else in CPU time.

What is compared runs apart, each side in processes of its own. In one process the second side would be dearer for no
reason of its own: its objects lie elsewhere in memory, and the first has left its traces on the classes of SQLAlchemy.
And each side runs in several layouts (`benchmarks.layout`), of which one alone is too cheap or too dear by chance.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from . import cpu_time, instructions
from .cost import Cost

T = TypeVar("T")

Call: TypeAlias = Callable[[int], object]
"""Does what is measured so many times."""

SIDES = ("without", "beside")

LAYOUTS = 8
"""How many, where it matters: the ratio of two SELECTs is then known to about a percent."""


class Meter(Protocol):
    """A module that measures."""

    UNIT: str

    ACCURACY: str
    """How far the mean of several layouts can be trusted."""

    def run(self, command: list[str], environment: dict[str, str]) -> str:
        """Run a program that may call `measure`, and return its last line."""

    def measure(self, call: Call, times: int) -> float:
        """Measure a call that does something so many times."""

    def description(self) -> str:
        """Say in what unit, and how."""


def best() -> Meter:
    """Return the best meter there is."""
    return instructions if instructions.is_here() else cpu_time


def compare(python: Path, module: list[str], layouts: int) -> dict[str, Cost]:
    """Find what things cost on both sides.

    The sides run in turn, so that a machine that becomes slower does so for both.

    Args:
        python: Of the environment.
        module: The module, and its arguments without the last, which is the side. It prints what `measure` returns.
        layouts: In how many.
    """
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for layout in range(layouts):
        for side, answers in found.items():
            answers.append(ask(python, [*module, side], layout))
    without, beside = found.values()
    return {name: Cost(_each(without, name), _each(beside, name), best().UNIT) for name in without[0]}


def two_at_a_time(measured: Callable[[str], T], names: Iterable[str]) -> dict[str, T]:
    """Measure what each name stands for, on two cores."""
    each = list(names)
    with ThreadPoolExecutor(2) as workers:
        return dict(zip(each, workers.map(measured, each), strict=True))


def ask(python: Path, module: list[str], layout: int) -> Any:
    """Run a module with its arguments in a process of its own, under the best meter, and return what it prints last."""
    command = [str(python), "-m", "benchmarks.layout", str(layout), *module]
    return json.loads(best().run(command, os.environ | {"PYTHONHASHSEED": "0"}))


def measure(calls: Mapping[str, Call], times: dict[str, int]) -> dict[str, float]:
    """Measure what each call costs for one of its *times*, by the meter that this process runs under.

    Python's cyclic collector is off meanwhile.
    """
    meter: Meter = instructions if instructions.is_on() else cpu_time
    gc.collect()
    gc.disable()
    try:
        return {name: meter.measure(calls[name], often) / often for name, often in times.items()}
    finally:
        gc.enable()


def description() -> str:
    """Say what the figures are, and how far they can be trusted."""
    return (
        f"{best().description()}. Each side runs in processes of its own, and a figure is the mean of {LAYOUTS} that"
        f" differ in where in memory their objects lie. {best().ACCURACY}"
    )


def _each(answers: list[dict[str, float]], name: str) -> tuple[float, ...]:
    return tuple(answer[name] for answer in answers)
