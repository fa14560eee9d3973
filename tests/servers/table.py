"""The page of the documentation, made from what a run has found; what another run has found otherwise."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import apache
from .comparison import Cell
from .place import ROOT
from .recipes import SERVERS, Behaviour, Difference, Quirk, Server

PAGE = ROOT / "docs" / "servers.md"
NUMBERS = {difference: number for number, difference in enumerate(Difference, 1)}
FAILURE = "**failure**"
FOLDERS = ("purelib", "platlib", "stdlib")

Outcomes = dict[tuple[str, str], str]
"""The text of each cell, by server and behaviour."""

HEAD = """\
# Servers

This page records what `make servers` has found; the command writes it, and nobody edits it. The command starts each
server and asks for each behaviour three times: of the bare application, and of the same application behind
`SessionMiddleware(application, Session)` and `SessionMiddleware(application, Session, commit=on_unsafe_success)`. There
every step of a response uses the session.

- **same**: with the middleware the client receives the same status line, headers, framing and bytes, and the server
  takes the same steps, as without it. Each step has found the session of its own request; the next request has found
  every connection in the pool, no row that was not committed, and a session of its own.
- **differs too (1)**: the same; and the server, without the middleware too, does what the number says below the table.
  *At times* means that it does so in some of several tries.
- **limit**: it is not quite the same. The last section says what is otherwise.

A graceful stop is compared without a commit rule only. Another release of a server may differ in other ways. The tests
check that a server does the same with the middleware as without it; they do not check what it does.
"""


def to_json(cells: Iterable[Cell]) -> str:
    """Write down what a run has found, and with which releases."""
    return json.dumps({"releases": releases(), "cells": [asdict(cell) for cell in cells]}, indent=1) + "\n"


def from_json(written: str) -> dict[str, Any]:
    """Read what a run has found."""
    found: dict[str, Any] = json.loads(written)
    return found


def releases() -> dict[str, str]:
    """Return the releases of the servers and adapters that are installed here."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    names = [requirement.partition(">")[0] for requirement in groups["servers"]]
    found = {name: _release(name) for name in [*names, "bjoern"]} | {"Apache": _release_of_apache()}
    return {name: release for name, release in found.items() if release}


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _release_of_apache() -> str:
    if not apache.PROGRAM.exists():
        return ""
    run = subprocess.run([apache.PROGRAM, "-v"], capture_output=True, text=True, check=True)
    return run.stdout.partition("Apache/")[2].split()[0]


def page(found: dict[str, Any]) -> str:
    """Render the page."""
    cells = found["cells"]
    recorded = ", ".join(f"{name} {release}" for name, release in found["releases"].items())
    head = [HEAD, f"Recorded with {recorded}.", ""]
    return "\n".join([*head, *_table(outcomes(cells)), "", *_legend(), "", *_reasons(cells)]) + "\n"


def outcomes(cells: Iterable[dict[str, Any]]) -> Outcomes:
    """Return the text of each cell."""
    return {(cell["server"], str(cell["behaviour"])): _outcome(cell) for cell in cells}


def recorded(written: str) -> Outcomes:
    """Read the cells of a page."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines() if line[:1] == "|"]
    behaviours = rows[0][1:]
    return {(row[0], behaviour): cell for row in rows[2:] for behaviour, cell in zip(behaviours, row[1:], strict=True)}


def changes(found: Outcomes, before: Outcomes) -> list[str]:
    """List what is otherwise than *before*, and so has changed elsewhere."""
    return [
        f"{server}, {behaviour}: {text}; recorded: {before.get((server, behaviour), 'nothing')}"
        for (server, behaviour), text in found.items()
        if text not in (before.get((server, behaviour)), FAILURE)
    ]


def _table(cells: Outcomes) -> Iterator[str]:
    yield "| | " + " | ".join(Behaviour) + " |"
    yield "|---" * (len(Behaviour) + 1) + "|"
    for server in SERVERS:
        yield f"| {server.name} | " + " | ".join(cells[server.name, behaviour] for behaviour in Behaviour) + " |"


def _outcome(cell: dict[str, Any]) -> str:
    if cell["trouble"]:
        return "does not start"
    if cell["failures"]:
        return FAILURE
    if cell["is_limited"]:
        return "limit"
    always = sorted(NUMBERS[Difference(one)] for one in cell["differences"])
    at_times = sorted(NUMBERS[Difference(one)] for one in cell["at_times"])
    parts = [", ".join(map(str, always)), ", ".join(f"{number} at times" for number in at_times)]
    numbers = ", ".join(filter(None, parts))
    return f"differs too ({numbers})" if numbers else "same"


def _legend() -> Iterator[str]:
    for difference, number in NUMBERS.items():
        yield f"{number}. {difference[0].upper()}{difference[1:]}."


def _reasons(cells: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "## Why, in the servers' own sources"
    shown = {(cell["server"], one, str(cell["behaviour"])) for cell in cells for one in _all_differences(cell)}
    for server in SERVERS:
        reasons = [*_quirks(server, shown), *_limits(server)]
        if reasons:
            yield from ("", f"**{server.name}**", "", *reasons)


def _all_differences(cell: dict[str, Any]) -> list[str]:
    return [*cell["differences"], *cell["at_times"]]


def _quirks(server: Server, shown: set[tuple[str, str, str]]) -> Iterator[str]:
    """Explain the differences that a run has shown, and no others."""
    explained = set()
    for quirk in server.quirks:
        seen = [one for one in quirk.behaviours if (server.name, quirk.difference, one) in shown]
        if seen and says_so(quirk):
            explained |= {(server.name, quirk.difference, one) for one in seen}
            yield _reason(quirk, seen)
    for difference, number in NUMBERS.items():
        seen = [one for one in Behaviour if (server.name, difference, one) in shown - explained]
        if seen:
            yield f"- {number}, {', '.join(seen)}: nobody has looked yet"


def _reason(quirk: Quirk, seen: Iterable[Behaviour]) -> str:
    source = f"`{quirk.line}`" if quirk.line else f"there is no `{quirk.lacks}`"
    return f"- {NUMBERS[quirk.difference]}, {', '.join(seen)}: `{quirk.source}`: {source}"


def _limits(server: Server) -> Iterator[str]:
    for limit in server.limits:
        yield f"- limit, {limit.behaviour}: {limit.text}. `{limit.source}`: `{limit.line}`"


def says_so(quirk: Quirk) -> bool:
    """Say whether the installed source still explains a difference; what is not in Python is taken at its word."""
    if not quirk.source.endswith(".py"):
        return True
    path = next((path for name in FOLDERS if (path := Path(sysconfig.get_path(name), quirk.source)).exists()), None)
    text = path.read_text() if path else ""
    return bool(text) and quirk.line in text and not (quirk.lacks and quirk.lacks in text)
