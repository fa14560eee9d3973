"""Conflicts: what a database asks to be done again for, made for real."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Engine


class Lock:
    """Another program that holds a lock on an SQLite file.  Lives as long as the test.

    One that is writing keeps every statement from writing, one that is reading keeps COMMIT from it.
    """

    def __init__(self, engine: Engine) -> None:
        """Know the file of *engine*."""
        assert engine.url.database is not None
        self._connection = sqlite3.connect(engine.url.database, isolation_level=None)

    def write(self) -> None:
        """Begin to write."""
        self._connection.execute("BEGIN IMMEDIATE")

    def read(self) -> None:
        """Begin to read."""
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT * FROM word").fetchall()

    def let_go(self, *_of_the_hook: object) -> None:
        """Let the others write."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Let go for good."""
        self._connection.close()
