"""A primary and its replicas, in temporary folders, for the tests that stop, delay and promote them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from . import databases
from .mariadb import MariaDB
from .postgresql import PostgreSQL, program


class Member(PostgreSQL):
    """A primary, or a copy of one that follows it."""

    primary: Member | None = None
    """The one that it is a copy of, and follows."""

    def creation(self) -> list[str | Path]:
        """Return the command that copies the primary, or makes one."""
        if self.primary is None:
            return super().creation()
        address = f"host=127.0.0.1 port={self.primary.url.port} user=postgres"
        return [program("pg_basebackup"), "-d", address, "-D", self.folder / "data", "-R", "-X", "stream", "-c", "fast"]

    def promote(self) -> None:
        """Have it become a primary."""
        execute(self, "SELECT pg_promote()")

    def pause(self) -> None:
        """Have it stand still."""
        execute(self, "SELECT pg_wal_replay_pause()")

    def resume(self) -> None:
        """Have it go on."""
        execute(self, "SELECT pg_wal_replay_resume()")

    def rebuild(self) -> None:
        """Copy the primary anew, whatever has become of this one."""
        self.crash()
        shutil.rmtree(self.folder / "data")
        self.create()
        self.start()

    def delay(self, lag: str) -> None:
        """Have it be late by *lag*, such as ``"200ms"``, from now on."""
        execute(self, f"ALTER SYSTEM SET recovery_min_apply_delay = '{lag}'")
        execute(self, "SELECT pg_reload_conf()")


def execute(server: databases.Server | Engine, statement: str, cancels: int = 10) -> Any:
    """Execute a statement on a server, in AUTOCOMMIT, and return the first value of the first row, if any.

    A standby cancels any statement that is in the way of what it replays; so many times that is tried again.
    """
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    except OperationalError as error:
        if cancels == 0 or getattr(error.orig, "sqlstate", None) != _CONFLICT_WITH_RECOVERY:
            raise
    return execute(server, statement, cancels - 1)


_CONFLICT_WITH_RECOVERY = "40001"


def catch_up(servers: Sequence[databases.Server | Engine]) -> None:
    """Wait until all standbys have what the primary has, which is the first of *servers*."""
    primary, *standbys = servers
    has_all = f"SELECT pg_last_wal_replay_lsn() >= '{execute(primary, 'SELECT pg_current_wal_insert_lsn()')}'"
    deadline = time.monotonic() + 20
    for standby in standbys:
        while not execute(standby, has_all):
            assert time.monotonic() < deadline, f"{standby!r} does not catch up"
            time.sleep(0.01)


@contextmanager
def paused(*standbys: Member) -> Iterator[None]:
    """Have standbys stand still for as long as the block lasts."""
    for standby in standbys:
        standby.pause()
    try:
        yield
    finally:
        for standby in standbys:
            standby.resume()


def follow(server: Member, primary: Member) -> None:
    """Have a standby follow *primary* from now on, and a primary when it is started as a standby."""
    address = f"host=127.0.0.1 port={primary.url.port} user=postgres"
    execute(server, f"ALTER SYSTEM SET primary_conninfo = '{address}'")
    execute(server, "SELECT pg_reload_conf()")


def switch_over(old: Member, new: Member, others: list[Member]) -> None:
    """Have *new*, which streams from *old*, take its place without losing anything, and all others follow it.

    A primary that is stopped in good order sends what it has to the standbys that stream from it before it ends.
    """
    follow(old, new)
    old.stop()
    new.promote()
    for other in others:
        follow(other, new)
        other.primary = new
    signal_file = old.folder / "data" / "standby.signal"
    signal_file.touch()
    signal_file.chmod(0o666)  # for whoever runs the server
    old.start()


@contextmanager
def postgresql(standbys: int = 2, **options: Any) -> Iterator[tuple[Member, list[Member]]]:
    """Run a primary and its standbys, for as long as the block lasts.

    Args:
        standbys: How many.
        options: Those of the standbys, such as ``recovery_min_apply_delay="200ms"``.
    """
    with ExitStack() as stack:
        of_primary = {
            "wal_level": "replica",
            "max_wal_senders": 8,
            "hot_standby": "on",
            "max_prepared_transactions": 5,
        }
        primary = stack.enter_context(databases.running(Member, of_primary))
        kind = type("Standby", (Member,), {"primary": primary})
        following = of_primary | {"max_standby_streaming_delay": "100ms"} | options
        yield primary, [stack.enter_context(databases.running(kind, following)) for _ in range(standbys)]


@contextmanager
def mariadb() -> Iterator[tuple[MariaDB, MariaDB]]:
    """Run a primary and its replica, for as long as the block lasts."""
    with ExitStack() as stack:
        options = {"log_bin": "changes", "binlog_format": "ROW", "gtid_strict_mode": 1}
        primary = stack.enter_context(databases.running(MariaDB, options | {"server_id": 1}))
        replica = stack.enter_context(databases.running(MariaDB, options | {"server_id": 2, "read_only": 1}))
        execute(primary, "CREATE DATABASE test")
        execute(primary, "CREATE USER app@'127.0.0.1'")  # whom 'read_only' binds
        execute(primary, "GRANT ALL ON test.* TO app@'127.0.0.1'")
        execute(primary, "CREATE USER follower@'127.0.0.1'")
        execute(primary, "GRANT REPLICATION SLAVE ON *.* TO follower@'127.0.0.1'")
        execute(
            replica,
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.url.port}, MASTER_USER='follower',"
            " MASTER_USE_GTID=slave_pos",
        )
        execute(replica, "START SLAVE")
        while not execute(replica, "SELECT @@gtid_slave_pos"):  # it has nothing yet, and shows that by being none
            time.sleep(0.02)
        yield primary, replica
