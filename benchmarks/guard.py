"""The guard: what a request costs may not grow unnoticed.

    python -m benchmarks.guard

Four cases, each beside the same view without this project, in one process under the best meter there is. What is
compared with a limit is a ratio, and the limits leave room for what another build of Python does.
"""

from __future__ import annotations

import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .client import Client
from .environments import ROOT
from .meters import Calls, Cost, command, compare, description
from .subjects import SUBJECTS, Subject
from .words import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from .words import Options

CASES = {
    "untouched": ("wsgi_session", "untouched"),
    "rule": ("wsgi_session_rule", "untouched"),
    "generator": ("wsgi_session", "stream"),
    "SELECT": ("wsgi_session", "select"),
}
"""The subject and the view of each."""

TIMES = {"untouched": 200, "rule": 200, "generator": 200, "SELECT": 100}

LIMITS = {
    "instructions": {"untouched": 3.8, "rule": 5.8, "generator": 10.0, "SELECT": 1.25},
    "ns": {"untouched": 9.0, "rule": 13.0, "generator": 18.0, "SELECT": 1.6},
}
"""What the cost of the view may be multiplied by, in each unit."""


def verdicts(found: dict[str, Cost]) -> list[str]:
    """Say of each case that is over its limit what was found, and what the limit is."""
    return [
        f"{case}: x{cost.ratio:.3f} is more than x{LIMITS[cost.unit][case]:.3f}"
        f" ({cost.without:,.0f} {cost.unit} have become {cost.beside:,.0f})"
        for case, cost in found.items()
        if cost.ratio > LIMITS[cost.unit][case]
    ]


def measure() -> dict[str, Cost]:
    """Measure the cases, in this process."""
    return compare(
        lambda: _calls(lambda subject: subject.without), lambda: _calls(lambda subject: subject.build), TIMES
    )


def _calls(side: Callable[[Subject], Callable[[Options], WSGIApplication]]) -> Calls:
    calls: Calls = {}
    for case, (name, view) in CASES.items():
        client = Client(side(SUBJECTS[name])(in_memory()), view)
        client.ask(100)
        calls[case] = client.ask
    return calls


def main(*arguments: str) -> None:
    """Measure under the best meter, in a process of its own; fail if a case is over its limit."""
    if arguments == ("--here",):
        found = measure()
        for case, cost in found.items():
            print(f"{case:10} x{cost.ratio:.3f}  {cost.without:,.0f} -> {cost.beside:,.0f} {cost.unit}")
        sys.exit("\n".join(verdicts(found)) or None)
    print(description())
    with TemporaryDirectory() as folder:
        run, environment = command([sys.executable, "-m", "benchmarks.guard", "--here"], folder)
        sys.exit(subprocess.run(run, check=False, cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    main(*sys.argv[1:])
