"""The table that the measured requests read and write."""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import StaticPool

ROWS = 100
"""How many there are at first."""

Options: TypeAlias = dict[str, Any]
"""What `create_engine` is called with."""


class Base(DeclarativeBase):
    """Of this table alone."""


class Word(Base):
    """A row."""

    __tablename__ = "benchmark_word"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


def in_memory() -> Options:
    """Return the options of an SQLite database of its own for each engine."""
    return {"url": "sqlite://", "poolclass": StaticPool, "connect_args": {"check_same_thread": False}}


def on_server(url: str) -> Options:
    """Return the options of a database that a server has."""
    return {"url": url, "pool_size": 1, "max_overflow": 0}


def filled_engine(options: Options) -> Engine:
    """Make an engine, and the table in its database."""
    return fill(create_engine(**options))


def fill(engine: Engine) -> Engine:
    """Make the table anew, with the rows that are read."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Word(text=f"word {number}") for number in range(ROWS))
    return engine


def count_words(url: str) -> int:
    """Count the rows, on a connection of its own."""
    engine = create_engine(url)
    with Session(engine) as session:
        count = session.scalar(select(func.count()).select_from(Word))
    engine.dispose()
    return count or 0
