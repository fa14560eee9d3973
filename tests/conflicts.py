"""Conflicts: what a database asks to be done again for, made for real."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

from sqlalchemy import Engine

from tests.helpers import Word


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


class Meeting:
    """Has two requests meet in their first attempts, so that they are in each other's way.  Lives as long as a test."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)

    def wait(self, attempt: int) -> None:
        """Wait for the other one, in a first attempt."""
        if attempt == 0:
            self._barrier.wait(timeout=20)


def increment(session: Any, number: int) -> None:
    """Read the number that a word is, and write the next one."""
    word = session.get(Word, number)
    word.text = str(int(word.text) + 1)
