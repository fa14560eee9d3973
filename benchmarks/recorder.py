"""What the recorder costs: a request without one, with one, and with one that records statements, too.

    python -m benchmarks.recorder

Instructions are counted by callgrind, each level in a process of its own, for listeners stay. It writes down what it
has counted whenever the process calls ``getppid()``; the cyclic collector is off meanwhile. Without valgrind it is the
CPU time in nanoseconds.
"""

from __future__ import annotations

import gc
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import QueuePool

from wsgi_session import SessionMiddleware
from wsgi_session.observe import Recorder

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

LEVELS: dict[str, Callable[[], Recorder | None]] = {
    "off": lambda: None,
    "pool": Recorder,
    "statements": lambda: Recorder(statements=True),
}
STATEMENTS = {"untouched": 0, "1 SELECT": 1, "11 SELECTs": 11}
"""How many statements each request sends."""

TIMES = 200
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

    def ask(times: int) -> None:
        for _ in range(times):
            environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
            application(environ, lambda *start: lambda data: None)

    return ask


def count(call: Callable[[int], None], folder: Path | None) -> float:
    """Count what a call costs, for one of `TIMES`."""
    call(100)
    gc.collect()
    gc.disable()
    if folder is None:
        began = time.process_time_ns()
        call(TIMES)
        return (time.process_time_ns() - began) / TIMES
    os.getppid()
    call(TIMES)
    os.getppid()
    last = max(folder.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
    return int(re.findall(r"^totals: (\d+)", last.read_text(), re.MULTILINE)[0]) / TIMES


def measured(level: str, statements: int, valgrind: str | None) -> float:
    """Count one case in a process of its own."""
    with TemporaryDirectory() as folder:
        options = ["-q", "--tool=callgrind", f"--callgrind-out-file={folder}/counts", "--dump-before=getppid"]
        meter = [valgrind, *options] if valgrind else []
        here = [sys.executable, "-m", "benchmarks.recorder", level, str(statements), *([folder] if valgrind else [])]
        run = subprocess.run(
            [*meter, *here], check=True, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "0"}
        )
        return float(run.stdout)


def main(*arguments: str) -> None:
    """Print a table; with arguments, one figure."""
    if arguments:
        level, number, *folder = arguments
        print(count(request_of(level, int(number)), Path(folder[0]) if folder else None))
        return
    valgrind = shutil.which("valgrind")
    print(f"{'instructions' if valgrind else 'ns of CPU time':14}" + "".join(f"{level:>22}" for level in LEVELS))
    for title, statements in STATEMENTS.items():
        figures = [measured(level, statements, valgrind) for level in LEVELS]
        cells = [f"{figure:,.0f} ({figure / figures[0]:.2f})" for figure in figures]
        print(f"{title:14}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
