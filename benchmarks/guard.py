"""The guard: what a request costs may not grow unnoticed.

    python -m benchmarks.guard

Some of the figures of `benchmarks.costs`, in this environment and in a few layouts. What is compared with a limit is
the ratio of their means, and the limits leave room for other layouts and for another build of Python.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from . import cpu_time, instructions
from .cost import Cost
from .meters import compare, guarding

CASES = {
    "untouched": ("wsgi_session", "untouched"),
    "rule": ("wsgi_session_rule", "untouched"),
    "generator": ("wsgi_session", "stream"),
    "SELECT": ("wsgi_session", "select"),
    "INSERT": ("wsgi_session", "insert"),
}
"""The subject and the view of each."""

LAYOUTS = 3
"""How many: one alone may be four per cent too dear, which is as much as the limits leave to a SELECT."""

LIMITS = {
    instructions.UNIT: {"untouched": 2.75, "rule": 3.75, "generator": 6.1, "SELECT": 1.06, "INSERT": 1.04},
    cpu_time.UNIT: {"untouched": 7.0, "rule": 10.0, "generator": 12.0, "SELECT": 1.6, "INSERT": 1.6},
}
"""What the cost of the view may be multiplied by, in each unit."""


def verdicts(found: dict[str, Cost]) -> list[str]:
    """Say of each case that is over its limit what was found, and what the limit is."""
    return [
        f"{case}: {_said(cost)} is more than x{LIMITS[cost.unit][case]:.3f}"
        for case, cost in found.items()
        if cost.ratio > LIMITS[cost.unit][case]
    ]


def measure() -> dict[str, Cost]:
    """Measure the cases, two subjects at a time."""
    subjects = sorted({subject for subject, _ in CASES.values()})
    with ThreadPoolExecutor(2) as workers:
        found = dict(zip(subjects, workers.map(_costs, subjects), strict=True))
    return {case: found[subject][view] for case, (subject, view) in CASES.items()}


def _costs(subject: str) -> dict[str, Cost]:
    return compare(Path(sys.executable), ["benchmarks.probe", "costs", subject], LAYOUTS, guarding())


def _said(cost: Cost) -> str:
    return f"x{cost.ratio:.3f} ({mean(cost.without):,.0f} {cost.unit} have become {mean(cost.beside):,.0f})"


def main() -> None:
    """Measure and print; fail if a case is over its limit."""
    print(f"In {guarding().description()}:")
    found = measure()
    for case, cost in found.items():
        print(f"{case:10} {_said(cost)}")
    sys.exit("\n".join(verdicts(found)) or None)


if __name__ == "__main__":
    main()
