"""What happens inside of a served application, for the test outside: a file with a line of JSON for each step."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

FOLDER = Path(os.environ["SERVED_FOLDER"])
"""The folder of the journal; a file there whose name is that of a request opens its gate."""
PATIENCE = 10.0
"""How long, in seconds, a request waits for the client to open its gate."""

_log = os.open(FOLDER / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def note(name: str, step: str, right: bool = True, **more: object) -> None:
    """Log a step of the request called *name*, and whether all was as it has to be."""
    os.write(_log, json.dumps({"name": name, "step": step, "right": right, **more}).encode() + b"\n")


def wait(name: str) -> None:
    """Let a request wait until the client opens its gate."""
    note(name, "waits")
    deadline = time.monotonic() + PATIENCE
    while not (FOLDER / name).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
