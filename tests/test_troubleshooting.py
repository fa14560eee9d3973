"""The page of errors: who searches for the text of one finds its section."""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from tests.helpers import request
from wsgi_session import (
    RequestScopedSession,
    SessionMiddleware,
    current_scope,
    on_success,
    session_of,
    session_scope,
)

PAGE = (Path(__file__).parent.parent / "docs" / "troubleshooting.md").read_text()


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Author(Base):
    """Has books."""

    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship()


class Book(Base):
    """Has an author."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Make a database with tables, on which nobody waits for long."""
    options: dict[str, Any] = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 0.01}
    engine = create_engine(f"sqlite:///{tmp_path}/app.db", connect_args={"timeout": 0.01}, **options)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(name="Session")
def registry(engine: Engine) -> RequestScopedSession[Any]:
    """Make a registry."""
    return RequestScopedSession(sessionmaker(engine))


def outside(Session: Any) -> None:
    """Use the registry where no request runs."""
    Session()


def past(Session: Any) -> None:
    """Make a request that does not pass the middleware."""
    SessionMiddleware(lambda environ, start_response: [], Session)
    session_of({}, Session)


def late(Session: Any) -> None:
    """Keep a session."""
    with session_scope(Session) as session:
        pass
    session.scalar(text("SELECT 1"))


def detached(Session: Any) -> None:
    """Keep an object."""
    with session_scope(Session) as session:
        session.add(author := Author())
    author.books  # noqa: B018


def dry(Session: Any) -> None:
    """Take more connections than there are."""
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(session_scope(Session)).scalar(text("SELECT 1"))


def locked(Session: Any) -> None:
    """Write twice at the same time."""
    with session_scope(Session) as first:
        first.execute(text("INSERT INTO author DEFAULT VALUES"))
        with session_scope(Session) as second:
            second.execute(text("INSERT INTO author DEFAULT VALUES"))


def refused(Session: Any) -> None:
    """Go on after an error of the database."""
    with session_scope(Session) as session:
        session.add(Book())
        with pytest.raises(IntegrityError):
            session.flush()
        session.scalar(text("SELECT 1"))


def lost(Session: Any) -> None:
    """Handle an error that has ended the transaction."""
    with session_scope(Session) as session:
        session.add(Author(id=1))
        session.flush()
        with pytest.raises(IntegrityError):
            session.execute(text("INSERT OR ROLLBACK INTO author VALUES (1)"))


def open_block(Session: Any) -> None:
    """Yield inside of a block of SQLAlchemy's."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        with environ["sqlalchemy.session"].begin():
            start_response("200 OK", [])
            yield b"a"

    request(SessionMiddleware(app, Session, commit=on_success))


def pending(Session: Any) -> None:
    """Release what has changes."""

    def app(environ: Any, start_response: Any) -> None:
        Session.add(Author())
        current_scope().release()

    request(SessionMiddleware(app, Session, commit=on_success))


@pytest.mark.parametrize(
    "provoke",
    [outside, past, late, detached, dry, locked, refused, lost, open_block, pending],
    ids=lambda provoke: provoke.__name__,
)
def test_the_text_of_an_error_is_a_title(provoke: Callable[[Any], None], Session: RequestScopedSession[Any]) -> None:
    """What an error says is, word by word, the title of a section, and its class is named there."""
    with pytest.raises(Exception) as raised:  # noqa: PT011
        provoke(Session)

    section = section_of(str(raised.value))
    assert raised.type.__name__ in section or "database is locked" in section
    gc.collect()


def test_what_the_log_says_is_a_title(Session: RequestScopedSession[Any], caplog: Any) -> None:
    """A warning of the log is found by its text, too."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["sqlalchemy.session"].add(Author())
        start_response("200 OK", [])
        return []

    request(SessionMiddleware(app, Session))

    assert "on_unsafe_success" in section_of(caplog.text)


def test_a_warning_of_pythons_is_a_title(Session: RequestScopedSession[Any]) -> None:
    """So is the warning about a response that nobody has closed."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield str(environ["sqlalchemy.session"].scalar(text("SELECT 1"))).encode()

    application = SessionMiddleware(app, Session)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        next(iter(application({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)))
        gc.collect()

    assert any("ResourceWarning" in section_of(str(one.message)) for one in told)


def section_of(said: str) -> str:
    """Return the section whose title is in what was said."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    found = [one for one in sections if one.partition("\n")[0] in said]
    assert len(found) == 1, said
    return found[0]
