"""A primary and its replicas, in temporary folders, for the tests that stop, delay and promote them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from . import databases
from .mariadb import MariaDB
from .postgresql import PostgreSQL, program


class Standby(PostgreSQL):
    """A copy of a primary that follows it."""

    primary: PostgreSQL

    def creation(self) -> list[str | Path]:
        """Return the command that copies the primary."""
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

    def delay(self, time: str) -> None:
        """Have it be late by *time*, such as ``"200ms"``, from now on."""
        execute(self, f"ALTER SYSTEM SET recovery_min_apply_delay = '{time}'")
        execute(self, "SELECT pg_reload_conf()")


def execute(server: databases.Server, statement: str) -> Any:
    """Execute a statement on a server, in AUTOCOMMIT, and return the first value of the first row, if any."""
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        result = connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


@contextmanager
def postgresql(standbys: int = 2, **options: Any) -> Iterator[tuple[PostgreSQL, list[Standby]]]:
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
        primary = stack.enter_context(databases.running(PostgreSQL, of_primary))
        kind = type("StandbyOfThis", (Standby,), {"primary": primary})
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
        yield primary, replica
