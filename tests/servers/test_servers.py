"""Every server is the same with the middleware as without it, in all that a client or an application can see.

The comparisons are made once for a run, some servers at a time; the tests here look at the cells. `docs/servers.md` has
all of them.
"""

from __future__ import annotations

import sysconfig
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from tests.machine import SYSTEM

from . import table
from .comparison import Cells, run
from .recipes import SERVERS, Behaviour, Difference, Server

CELLS = [
    pytest.param(
        server,
        behaviour,
        id=f"{server.name}, {behaviour}",
        marks=[pytest.mark.system(server.system)] if server.system else [],
    )
    for server, behaviour in product(SERVERS, Behaviour)
]
CITED = sorted({(quirk.source, quirk.line, quirk.lacks) for server in SERVERS for quirk in server.quirks})
FOLDERS = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sysconfig.get_path("stdlib"))
SYSTEM_SERVERS = [server for server in SERVERS if server.system]


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


def needs_every_server(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that looks at all cells."""
    for server in SYSTEM_SERVERS:
        test = pytest.mark.system(server.system)(test)
    return test


@pytest.mark.parametrize(("server", "behaviour"), CELLS)
def test_same_with_the_middleware(server: Server, behaviour: Behaviour, cells: Cells) -> None:
    """With the middleware the client and the server see what they see without it, and each step its own session."""
    cell = cells[server.name, behaviour]

    assert not cell.failures
    assert cell.is_limited == (server.limit(behaviour) is not None)


@pytest.mark.parametrize(("server", "behaviour"), CELLS)
def test_known_difference(server: Server, behaviour: Behaviour, cells: Cells) -> None:
    """What a server does otherwise, without the middleware too, is what its recipe says, no more and no less."""
    differences = {Difference(one) for one in cells[server.name, behaviour].differences}

    assert differences == server.differences(behaviour)


@pytest.mark.parametrize(
    ("source", "line", "lacks"),
    [pytest.param(*cited, id=" ".join(cited)) for cited in CITED if cited[0].endswith(".py")],
)
def test_the_source_says_so(source: str, line: str, lacks: str) -> None:
    """The line that explains a difference is in the source of the server that is installed."""
    path = next(path for folder in FOLDERS if (path := Path(folder, source)).exists())
    text = path.read_text()

    assert line in text
    assert not lacks or lacks not in text


@needs_every_server
def test_the_page_is_of_this_run(cells: Cells) -> None:
    """`docs/servers.md` says what this run has found; ``make servers`` writes it."""
    found = table.from_json(table.to_json(cells.values()))

    assert table.page(found) == table.PAGE.read_text()
