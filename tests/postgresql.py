"""A PostgreSQL database for the tests, in a server that is named to them or in one of their own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from .machine import postgresql_binaries


@contextmanager
def database() -> Iterator[URL]:
    """Create a database, for as long as the block lasts, and yield its address."""
    if address := os.environ.get("WSGI_SESSION_TEST_PG"):
        with _database_in(make_url(address)) as url:
            yield url
    else:
        with server() as url, _database_in(url) as own:
            yield own


@contextmanager
def _database_in(server_url: URL) -> Iterator[URL]:
    name = f"wsgi_session_{secrets.token_hex(6)}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server_url.set(database=name)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def server() -> Iterator[URL]:
    """Run a server in a temporary folder, for as long as the block lasts, and yield the address of a database in it."""
    binaries = postgresql_binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="wsgi_session_pg_"))
    as_postgres = [] if os.getuid() else ["runuser", "-u", "postgres", "--"]
    if as_postgres:  # the server refuses to be run by root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    subprocess.run(
        [*as_postgres, binaries / "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-D", data],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    port = _free_port()
    options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*as_postgres, binaries / "postgres", "-D", data, "-p", str(port), *options],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        url = URL.create("postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres")
        _wait_for(url, process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(url: URL, process: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(url, poolclass=NullPool)
    deadline = time.monotonic() + 30
    while True:
        try:
            with engine.connect():
                return
        except OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.05)
