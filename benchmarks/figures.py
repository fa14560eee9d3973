"""The figures of one subject, as its probe has found them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from .environments import ROOT, python_with
from .meters import Cost, command
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

    round_trips: dict[str, list[int]] = field(default_factory=dict)
    """Of a request to each view, without the subject and with it."""

    open_responses: dict[str, Cost] = field(default_factory=dict)
    """Of a streamed response, by the number of those that are open."""

    threads: dict[str, Cost] = field(default_factory=dict)
    """Of an untouched request, by the number of threads."""


FOLLOWED = "wsgi_session"
"""The subject whose growth is measured."""

AllFigures: TypeAlias = dict[str, Figures]
"""Of each subject, by its name."""


def gather(name: str) -> Figures:
    """Ask the probe what needs no database server."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    versions, costs = ask(name, "costs")
    _, memory = ask(name, "memory")
    figures = Figures(SUBJECTS[name], _costs(costs), memory, versions)
    if name == FOLLOWED:
        figures.open_responses = _costs(ask(name, "open_responses")[1])
        figures.threads = _costs(ask(name, "threads")[1])
    return figures


def ask(name: str, question: str, *arguments: str) -> tuple[dict[str, str], Any]:
    """Return the versions of what is measured, and the probe's answer."""
    python = python_with(SUBJECTS[name].requirements)
    line = [str(python), "-m", "benchmarks.probe", name, question, *arguments]
    with TemporaryDirectory() as folder:
        is_counted = question in ("costs", "open_responses", "threads")
        run, environment = command(line, folder) if is_counted else (line, None)
        said = subprocess.run(run, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=environment).stdout
    found = json.loads(said.splitlines()[-1])
    return found["versions"], found["answer"]


def _costs(answer: dict[str, Any]) -> dict[str, Cost]:
    return {name: Cost(**cost) for name, cost in answer.items()}
