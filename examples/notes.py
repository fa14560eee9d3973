"""What the examples share: a table of notes, and the registry of its sessions.

In an application of yours this is the module that everything else imports: the views, the scripts, the jobs.
"""

from __future__ import annotations

import os

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from wsgi_session import RequestScopedSession

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///notes.db"))
Session = RequestScopedSession(sessionmaker(engine))


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Note(Base):
    """A note; the database refuses to have the same one twice."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


Base.metadata.create_all(engine)  # once there are users, migrations do this
