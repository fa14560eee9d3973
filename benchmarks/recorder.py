"""What the recorder costs: a request without one, with one, and with one that records statements, too.

    python -m benchmarks.recorder

Each figure is from a process of its own, for listeners stay, and from one layout: 2 % more or less say nothing.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import QueuePool

from wsgi_session import SessionMiddleware
from wsgi_session.observe import Recorder

from .meters import ask, best, measure

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

LEVELS: dict[str, Callable[[], Recorder | None]] = {
    "off": lambda: None,
    "pool": Recorder,
    "statements": lambda: Recorder(statements=True),
}
STATEMENTS = {"untouched": 0, "1 SELECT": 1, "11 SELECTs": 11}
"""How many statements each request sends."""

TIMES = 50
SELECT = text("SELECT 1")


def request_of(level: str, statements: int) -> Callable[[int], None]:
    """Return what makes so many requests, each with so many statements."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for _ in range(statements):
            environ["sqlalchemy.session"].execute(SELECT)
        start_response("200 OK", [])
        return []

    engine = create_engine("sqlite://", poolclass=QueuePool)
    application = SessionMiddleware(app, sessionmaker(engine), recorder=LEVELS[level]())

    def request(times: int) -> None:
        for _ in range(times):
            environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
            application(environ, lambda *start: lambda data: None)

    return request


def measured(level: str, statements: int) -> float:
    """Measure one case in a process of its own."""
    found: dict[str, float] = ask(Path(sys.executable), ["benchmarks.recorder", level, str(statements)], layout=0)
    return found["request"]


def main(*arguments: str) -> None:
    """Print a table; with a level and a number of statements, measure them here."""
    if arguments:
        request = request_of(arguments[0], int(arguments[1]))
        request(100)
        print(json.dumps(measure({"request": request}, {"request": TIMES})))
        return
    print(f"In {best().description()}:")
    print(" " * 14 + "".join(f"{level:>22}" for level in LEVELS))
    for title, statements in STATEMENTS.items():
        figures = [measured(level, statements) for level in LEVELS]
        cells = [f"{figure:,.0f} ({figure / figures[0]:.2f})" for figure in figures]
        print(f"{title:14}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
