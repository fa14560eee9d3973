"""The meters: CPU time, by which costs are judged, and instructions, which guard them.

What is compared runs apart, each side in processes of its own. In one process the second side would be dearer for no
reason of its own: its objects lie elsewhere in memory, and the first has left its traces on the classes of SQLAlchemy.
And each side runs in several layouts (`benchmarks.layout`), of which one alone is too cheap or too dear by chance.

Instructions are the same in each run, so a guard can fail by them. But the time of a request is not in their number: a
function that runs once in it takes several times as long as one that runs again and again, because it has left the
caches of the processor meanwhile. No simulation of those (``callgrind --cache-sim --branch-sim``) shows by how much.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from . import cpu_time, instructions
from .cost import Cost

Call: TypeAlias = Callable[[int], object]
"""Does what is measured so many times."""

SIDES = ("without", "beside")


class Meter(Protocol):
    """A module that measures."""

    UNIT: str

    def compare(self, commands: Mapping[str, list[str]]) -> dict[str, dict[str, float]]:
        """Measure programs that call `answer`: by the name of each, figures by what was measured."""
        ...

    def description(self) -> str:
        """Say in what unit, and how."""
        ...


def guarding() -> Meter:
    """Return the meter of what guards costs: that of instructions, if valgrind is here."""
    return instructions if instructions.is_here() else cpu_time


def compare(python: Path, module: list[str], layouts: int, meter: Meter = cpu_time) -> dict[str, Cost]:
    """Find what things cost on both sides.

    Args:
        python: Of the environment.
        module: The module, and its arguments without the last, which is the side. It calls `answer`.
        layouts: In how many.
        meter: What measures.
    """
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for layout in range(layouts):
        start = [str(python), "-m", "benchmarks.layout", str(layout), *module]
        for side, figures in meter.compare({side: [*start, side] for side in SIDES}).items():
            found[side].append(figures)
    without, beside = found.values()
    return {name: Cost(_each(without, name), _each(beside, name), meter.UNIT) for name in without[0]}


def answer(calls: Mapping[str, Call], times: Mapping[str, int]) -> None:
    """Tell the meter that this process runs under what each call costs for one of its *times*.

    Python's cyclic collector is off meanwhile.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    if instructions.is_on():
        print(json.dumps({name: instructions.measure(calls[name], often) / often for name, often in times.items()}))
    else:
        cpu_time.serve(calls, times)


def _each(answers: list[dict[str, float]], name: str) -> tuple[float, ...]:
    return tuple(answer[name] for answer in answers)
