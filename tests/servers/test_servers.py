"""Every server is the same with the middleware as without it, in all that a client or an application can see.

The comparisons are made once for a run, some servers at a time; the tests here look at the cells. What a server does is
not asserted: ``make servers`` records it in `docs/servers.md`, and the last lines of a run say what has changed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path

import pytest

from tests.helpers import miss
from tests.machine import SYSTEM

from .comparison import Cells, run
from .recipes import SERVERS, Behaviour, Server

CELLS = [
    pytest.param(
        server,
        behaviour,
        id=f"{server.name}, {behaviour}",
        marks=[pytest.mark.system(server.system)] if server.system else [],
    )
    for server, behaviour in product(SERVERS, Behaviour)
]


def here() -> list[Server]:
    """List the servers that this machine has."""
    return [server for server in SERVERS if not server.system or SYSTEM[server.system]()]


@pytest.fixture(scope="session")
def cells(request: pytest.FixtureRequest) -> Cells:
    """Return the cells that the tests of this run look at."""
    looking = [item for item in request.session.items if "cells" in getattr(item, "fixturenames", ())]
    wanted = [getattr(item, "callspec", None) for item in looking]
    names = {spec.params["server"].name for spec in wanted if spec}
    behaviours = {spec.params["behaviour"] for spec in wanted if spec}
    is_all = any(spec is None for spec in wanted)
    servers = [server for server in here() if is_all or server.name in names]
    with tempfile.TemporaryDirectory(prefix="wsgi_session_servers_") as folder:
        Path(folder).chmod(0o755)  # for Apache's user
        found = run(servers, Behaviour if is_all else behaviours, Path(folder))
    return {(cell.server, cell.behaviour): cell for cell in found}


@pytest.mark.parametrize(("server", "behaviour"), CELLS)
def test_same_with_the_middleware(
    server: Server, behaviour: Behaviour, cells: Cells, record_property: Callable[[str, object], None]
) -> None:
    """With the middleware the client and the server see what they see without it, and each step its own session."""
    cell = cells[server.name, behaviour]

    record_property("cell", json.dumps(asdict(cell)))
    if cell.trouble:
        miss(cell.trouble)
    assert not cell.failures
    assert cell.is_limited == (server.limit(behaviour) is not None)
