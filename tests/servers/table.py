"""The page of the documentation, made from what a run has found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from .comparison import Cell
from .place import ROOT
from .recipes import SERVERS, Behaviour, Difference, Quirk

PAGE = ROOT / "docs" / "servers.md"
NUMBERS = {difference: number for number, difference in enumerate(Difference, 1)}

HEAD = """\
# Servers

Made by `make servers`; do not edit. Each server is started for real and asked for each behaviour three times: of the
bare application, and of the same behind `SessionMiddleware(application, Session)` and behind
`SessionMiddleware(application, Session, commit=on_unsafe_success)`, where every step of a response uses the session.

- **same**: with the middleware the client receives the same status line, headers, framing and bytes, and the server
  takes the same steps, as without it. Each step has found the session of its own request; the next request has found
  every connection in the pool, no row that was not committed, and a session of its own.
- **differs too (1)**: the same; and the server, without the middleware too, does what the number says below the table.
- **limit**: it is not quite the same. What is otherwise is said below.

A graceful stop is compared without a commit rule only.
"""


def to_json(cells: Iterable[Cell]) -> str:
    """Write down what a run has found."""
    return json.dumps([asdict(cell) for cell in cells], indent=1) + "\n"


def from_json(written: str) -> list[dict[str, Any]]:
    """Read what a run has found."""
    found: list[dict[str, Any]] = json.loads(written)
    return found


def page(found: Iterable[dict[str, Any]]) -> str:
    """Render the page."""
    outcomes = {(cell["server"], cell["behaviour"]): _outcome(cell) for cell in found}
    return "\n".join([HEAD, *_table(outcomes), "", *_legend(), "", *_reasons()]) + "\n"


def _table(outcomes: dict[tuple[str, str], str]) -> Iterator[str]:
    yield "| | " + " | ".join(Behaviour) + " |"
    yield "|---" * (len(Behaviour) + 1) + "|"
    for server in SERVERS:
        yield f"| {server.name} | " + " | ".join(outcomes[server.name, behaviour] for behaviour in Behaviour) + " |"


def _outcome(cell: dict[str, Any]) -> str:
    if cell["failures"]:
        return "**failure**"
    if cell["is_limited"]:
        return "limit"
    if cell["differences"]:
        numbers = sorted(NUMBERS[Difference(one)] for one in cell["differences"])
        return f"differs too ({', '.join(map(str, numbers))})"
    return "same"


def _legend() -> Iterator[str]:
    for difference, number in NUMBERS.items():
        yield f"{number}. {difference[0].upper()}{difference[1:]}."


def _reasons() -> Iterator[str]:
    yield "## Why, in the servers' own sources"
    for server in SERVERS:
        if server.quirks or server.limits:
            yield ""
            yield f"**{server.name}**"
            yield ""
            yield from map(_reason, server.quirks)
        for limit in server.limits:
            yield f"- limit, {limit.behaviour}: {limit.text}. `{limit.source}`: `{limit.line}`"


def _reason(quirk: Quirk) -> str:
    where = ", ".join(quirk.behaviours)
    source = f"`{quirk.line}`" if quirk.line else f"there is no `{quirk.lacks}`"
    return f"- {NUMBERS[quirk.difference]}, {where}: `{quirk.source}`: {source}"
