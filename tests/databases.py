"""A database for the tests: in a server that is named to them, or in one of the run's own in a temporary folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool


class Server(ABC):
    """A database server in a temporary folder, on a port of its own.  Lives as long as the block of `running`.

    ``url`` is the address of a database in it, for a user who may do anything; ``process`` is the server itself.
    """

    variable: ClassVar[str]
    """The environment variable that may name a server of this kind, as a SQLAlchemy URL."""

    address: ClassVar[URL]
    """The address of the run's own server, but for the port."""

    stop_signal: ClassVar[signal.Signals]
    """Ends the server and its connections in good order."""

    crash_signal: ClassVar[signal.Signals]
    """Ends the server as a crash does."""

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        """Prepare a server in *folder*.

        Args:
            folder: An empty folder.
            options: The server's own, by name.
        """
        self.folder = folder
        self.options = options
        self._port = socket.socket()  # stays bound, so that the kernel gives the port to nobody else
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind(("127.0.0.1", 0))
        self.url = self.address.set(port=self._port.getsockname()[1])

    @abstractmethod
    def creation(self) -> list[str | Path]:
        """Return the command that makes the data folder."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """Return the command that runs the server."""

    @staticmethod
    @abstractmethod
    def drop(connection: Connection, name: str) -> None:
        """Drop the database *name*, whoever is connected to it."""

    def create(self) -> None:
        """Make the data folder."""
        with self._log() as log:
            run = subprocess.run(self.creation(), check=False, stdout=log, stderr=log, **self._in_folder())
        if run.returncode:
            raise self._failure()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with self._log() as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, **self._in_folder())
        engine = create_engine(self.url, poolclass=NullPool)
        deadline = time.monotonic() + 30
        while True:
            try:
                with engine.connect():
                    return
            except OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise self._failure() from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End the server in good order; its clients lose their connections."""
        self._end(self.stop_signal)

    def crash(self) -> None:
        """End the server at once; `start` has it recover."""
        self._end(self.crash_signal)

    def close(self) -> None:
        """End the server if it is running, and give its port back."""
        with self._port:
            if hasattr(self, "process") and self.process.poll() is None:
                self.crash()  # the data goes with it

    def _end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        try:
            self.process.wait(timeout=30)
        finally:
            self.process.kill()

    def _log(self) -> BinaryIO:
        return (self.folder / "log").open("ab")

    def _failure(self) -> RuntimeError:
        return RuntimeError(f"{type(self).__name__} did not start:\n{(self.folder / 'log').read_text()}")

    def _in_folder(self) -> dict[str, Any]:
        if os.getuid():
            return {"cwd": self.folder}
        nobody = _nobody()
        return {"cwd": self.folder, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


S = TypeVar("S", bound=Server)


@contextmanager
def running(kind: type[S], options: dict[str, Any]) -> Iterator[S]:
    """Run a server of the run's own, for as long as the block lasts: one to kill, restart and configure."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="wsgi_session_"))
        stack.callback(shutil.rmtree, folder)
        if not os.getuid():
            os.chown(folder, _nobody().pw_uid, _nobody().pw_gid)
        server = kind(folder, options)
        stack.callback(server.close)
        server.create()
        server.start()
        yield server


@contextmanager
def database(kind: type[Server]) -> Iterator[URL]:
    """Create a database, for as long as the block lasts, and yield its address."""
    if address := os.environ.get(kind.variable):
        with _database_in(kind, make_url(address)) as url:
            yield url
    else:
        with running(kind, {}) as server, _database_in(kind, server.url) as url:
            yield url


@contextmanager
def _database_in(kind: type[Server], server_url: URL) -> Iterator[URL]:
    name = f"wsgi_session_{secrets.token_hex(6)}"
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server_url.set(database=name)
    finally:
        with engine.connect() as connection:
            kind.drop(connection, name)


def _nobody() -> pwd.struct_passwd:
    """Return whom root becomes, for database servers refuse to be run by root."""
    return pwd.getpwnam("nobody")
