"""Compare all servers, and record what was found in a page: ``python -m tests.servers``.

What a server does is no failure, and neither is what it does otherwise than before.  The status is 1 where something is
otherwise with the middleware.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from . import table
from .comparison import run
from .place import ROOT
from .recipes import SERVERS, Behaviour

FOUND = ROOT / "build" / "servers.json"
LOOKS = 3
"""How often each behaviour is looked at without the middleware, to see what comes by chance."""

with tempfile.TemporaryDirectory(prefix="wsgi_session_servers_") as folder:
    Path(folder).chmod(0o755)  # for Apache's user
    cells = run(SERVERS, Behaviour, Path(folder), LOOKS)
FOUND.parent.mkdir(exist_ok=True)
FOUND.write_text(table.to_json(cells))
found = table.from_json(FOUND.read_text())
for change in table.changes(table.outcomes(found["cells"]), table.recorded(table.PAGE.read_text())):
    sys.stdout.write(f"{change}\n")
table.PAGE.write_text(table.page(found))
for cell in cells:
    for failure in (*cell.failures, *filter(None, [cell.trouble])):
        sys.stderr.write(f"{cell.server}, {cell.behaviour}: {failure}\n")
sys.exit(any(cell.failures for cell in cells))
