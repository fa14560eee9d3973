"""MariaDB for the tests."""

from __future__ import annotations

import shutil
import signal
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import OperationalError

from . import databases
from .machine import mariadb_program


def database() -> AbstractContextManager[URL]:
    """Create a database, for as long as the block lasts, and yield its address."""
    return databases.database(MariaDB)


def server(**options: Any) -> AbstractContextManager[MariaDB]:
    """Run a server of the run's own, for as long as the block lasts.

    Args:
        options: The server's own, such as ``innodb_lock_wait_timeout=1``.
    """
    return databases.running(MariaDB, options)


class MariaDB(databases.Server):
    """A MariaDB server, Debian's."""

    variable = "WSGI_SESSION_TEST_MARIADB"
    address = URL.create(
        "mariadb+pymysql",
        "root",
        host="127.0.0.1",
        database="mysql",
        query={"ssl_disabled": "true"},  # PyMySQL reads every certificate of the machine for a connection: 30 ms
    )
    stop_signal = signal.SIGTERM
    crash_signal = signal.SIGKILL

    def creation(self) -> list[str | Path]:
        """Return the command that makes the data folder."""
        installer = shutil.which("mariadb-install-db")
        assert installer is not None
        return [
            installer,
            *self._storage(),
            "--auth-root-authentication-method=normal",
            "--skip-name-resolve",
            "--skip-test-db",
        ]

    def command(self) -> list[str | Path]:
        """Return the command that runs the server."""
        options = {
            "bind_address": "127.0.0.1",
            "port": self.url.port,
            "socket": self.folder / "socket",
            "pid_file": self.folder / "pid",
            "lock_wait_timeout": 20,
        }
        program = mariadb_program()
        assert program is not None
        return [program, *self._storage(), *(f"--{name}={value}" for name, value in (options | self.options).items())]

    @staticmethod
    def drop(connection: Connection, name: str) -> None:
        """Drop the database *name*, whoever is connected to it: it would wait for an open transaction."""
        connected = text("SELECT id FROM information_schema.processlist WHERE db = :name")
        for number in connection.scalars(connected, {"name": name}).all():
            with suppress(OperationalError):  # it has ended by itself meanwhile
                connection.execute(text(f"KILL {number}"))
        connection.execute(text(f"DROP DATABASE {name}"))

    def _storage(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.folder}",  # of its own: a server that was killed leaves files, which others stumble over
            "--innodb-flush-method=nosync",
            "--innodb-log-file-size=4M",
            "--innodb-buffer-pool-size=32M",
            "--sync-frm=0",
        ]
