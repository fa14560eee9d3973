"""The figures of one subject, as its probe has found them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .cost import Cost
from .environments import ROOT, python_with, versions_in
from .meters import SIDES, compare
from .subjects import SUBJECTS, Subject


@dataclass(slots=True)
class Figures:
    """What is known of one subject."""

    subject: Subject
    costs: dict[str, Cost]
    """Of a request to each view."""

    memory: float
    """Bytes added to an open response."""

    versions: dict[str, str]
    """Of everything in its environment, by the name of the distribution."""

    round_trips: dict[str, int] = field(default_factory=dict)
    """Of a request to each view."""

    open_responses: dict[str, Cost] = field(default_factory=dict)
    """Of a streamed response, by the number of those that are open."""

    threads: dict[str, Cost] = field(default_factory=dict)
    """Of an untouched request, by the number of threads."""


LAYOUTS = 12
"""How many, where it matters: the ratio of two SELECTs is then known to one percent or better."""

FOLLOWED = "wsgi_session"
"""The subject whose growth is measured."""

AllFigures: TypeAlias = dict[str, Figures]
"""Of each subject, by its name."""


def gather(name: str) -> Figures:
    """Ask the probe what needs no database server."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    versions = versions_in(python_with(SUBJECTS[name].requirements))
    without, beside = (ask("memory", name, side) for side in SIDES)
    figures = Figures(SUBJECTS[name], _costs("costs", name, LAYOUTS), beside - without, versions)
    if name == FOLLOWED:  # which hardly depends on the layout
        figures.open_responses = _costs("open_responses", name, 1)
        figures.threads = _costs("threads", name, 1)
    return figures


def ask(question: str, name: str, *arguments: str) -> Any:
    """Return the probe's answer, which needs no meter."""
    python = str(python_with(SUBJECTS[name].requirements))
    command = [python, "-m", "benchmarks.probe", question, name, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)


def _costs(question: str, name: str, layouts: int) -> dict[str, Cost]:
    return compare(python_with(SUBJECTS[name].requirements), ["benchmarks.probe", question, name], layouts)
