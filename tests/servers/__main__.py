"""Compare all servers, and write what was found and the page: ``python -m tests.servers``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from . import table
from .comparison import run
from .place import ROOT
from .recipes import SERVERS, Behaviour

FOUND = ROOT / "build" / "servers.json"

with tempfile.TemporaryDirectory(prefix="wsgi_session_servers_") as folder:
    Path(folder).chmod(0o755)  # for Apache's user
    cells = run(SERVERS, Behaviour, Path(folder))
FOUND.parent.mkdir(exist_ok=True)
FOUND.write_text(table.to_json(cells))
table.PAGE.write_text(table.page(table.from_json(FOUND.read_text())))
for cell in cells:
    for failure in cell.failures:
        sys.stderr.write(f"{cell.server}, {cell.behaviour}: {failure}\n")
