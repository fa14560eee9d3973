"""What a view does with a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import sqlalchemy
from sqlalchemy.orm import Session, sessionmaker

from .words import ROWS, Word

ANSWER = b"ok"
CHUNKS = 10
LIST = sqlalchemy.select(Word).order_by(Word.id).limit(ROWS)

View: TypeAlias = Callable[[Any], "bytes | Iterator[bytes]"]
"""Takes the request as its framework has it, and returns a body."""


@dataclass(frozen=True, slots=True)
class Work:
    """The views that use a session."""

    select: Callable[[Any], object]
    """Reads one row by its primary key."""

    rows: Callable[[Any], object]
    """Reads a list of rows."""

    insert: Callable[[Any], object]
    """Adds a row, and commits if that is the application's part."""

    def views(self) -> dict[str, View]:
        """Return every view that is measured, by its name."""

        def select(request: Any) -> bytes:
            self.select(request)
            return ANSWER

        def rows(request: Any) -> bytes:
            self.rows(request)
            return ANSWER

        def insert(request: Any) -> bytes:
            self.insert(request)
            return ANSWER

        return {"untouched": untouched, "stream": stream, "select": select, "rows": rows, "insert": insert}


def untouched(request: Any) -> bytes:
    """Answer without a session."""
    return ANSWER


def stream(request: Any) -> Iterator[bytes]:
    """Answer with a generator, without a session."""
    for _ in range(CHUNKS):
        yield ANSWER


def by_hand(factory: sessionmaker[Session]) -> Work:
    """Open a session in each view, as SQLAlchemy's documentation does."""

    def select(request: Any) -> None:
        with factory() as session:
            session.get(Word, 1)

    def rows(request: Any) -> None:
        with factory() as session:
            session.scalars(LIST).all()

    def insert(request: Any) -> None:
        with factory() as session:
            session.add(Word(text="grace"))
            session.commit()

    return Work(select, rows, insert)


def with_session(session_of: Callable[[Any], Session], *, commits: bool) -> Work:
    """Use the session that the request has.

    Args:
        session_of: Finds it.
        commits: Whether the views commit, and not what gives them the session.
    """

    def select(request: Any) -> None:
        session_of(request).get(Word, 1)

    def rows(request: Any) -> None:
        session_of(request).scalars(LIST).all()

    def insert(request: Any) -> None:
        session_of(request).add(Word(text="grace"))

    def insert_and_commit(request: Any) -> None:
        session = session_of(request)
        session.add(Word(text="grace"))
        session.commit()

    return Work(select, rows, insert_and_commit if commits else insert)
