"""The guarantees once more, through pgbouncer in transaction mode: ``python -m tests.bouncer``."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from . import databases, postgresql

ROOT = Path(__file__).parent.parent

VARIABLE = "THROUGH_PGBOUNCER"
"""The environment variable by which `tests/conftest.py` knows of it."""

FILES = [
    "test_04_*.py",
    "test_05_*.py",
    "test_12_*.py",
    "test_13_*.py",
    "test_all_conflicts.py",
    "test_all_databases.py",
]
"""Those of `tests/guarantees` that are about transactions and their connections."""

HOLDS = "postgresql and not crashes and not (test_what_a_driver_says_in_a_conflict and pg8000)"
"""What holds there: not a crash of the server behind it, and not an isolation level, which pg8000 sets for the session
(``docs/pgbouncer.md``)."""

SETTINGS = """
[databases]
* = host={host} port={port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
ignore_startup_parameters = extra_float_digits
max_client_conn = 200
"""


def program() -> str | None:
    """Find pgbouncer, which Debian has where not everybody looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def running(server: URL) -> Iterator[URL]:
    """Run pgbouncer before a *server* for as long as the block lasts, and yield the address to use."""
    found = program()
    assert found is not None
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        own_port = free.getsockname()[1]
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(host=server.host, port=server.port or 5432, own_port=own_port))
        Path(folder).chmod(0o755)
        free.close()
        as_nobody = {} if os.getuid() else {"user": "nobody", "group": "nogroup"}
        process = subprocess.Popen([found, "-q", settings], **as_nobody)  # type: ignore[call-overload]
        try:
            _wait_for(own_port)
            yield server.set(port=own_port)
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("pgbouncer does not listen.")


def main(*arguments: str) -> int:
    """Run the tests; 77 says that there is no pgbouncer."""
    if program() is None:
        print("pgbouncer was not found.")
        return 77
    with (
        databases.running(postgresql.PostgreSQL, {"max_prepared_transactions": 20}) as server,
        running(server.url) as url,
    ):
        files = [path for name in FILES for path in sorted((ROOT / "tests" / "guarantees").glob(name))]
        # pg8000 leaves sockets to the collector that pgbouncer has closed
        line = [sys.executable, "-m", "pytest", *files, "-k", HOLDS, "-p", "no:unraisableexception", *arguments]
        address = {postgresql.PostgreSQL.variable: url.render_as_string(hide_password=False), VARIABLE: "1"}
        return subprocess.run(line, check=False, env=os.environ | address).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
