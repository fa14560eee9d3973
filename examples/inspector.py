"""The reading list of ``demo.py``, with two pages that the inspector finds fault with.

::

    python -m examples.inspector --port 8123        # in the folder of demo.py

It prints the link that the inspector at ``/-/inspector`` is opened with: without the key in it, or the cookie for that,
it is not there.
``/notes`` is a page that asks once for each note, and ``/slow`` one that keeps its connection while it does something
else: look at them, then at the inspector.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import argparse
import secrets
import time
from html import escape
from wsgiref.types import WSGIApplication

from sqlalchemy import Engine, ForeignKey, create_engine, func, select
from sqlalchemy.orm import Mapped, mapped_column, relationship
from webob import Request, Response  # type: ignore[import-untyped]

import demo
from wsgi_session import RetryMiddleware, SessionMiddleware, on_unsafe_success, session_scope
from wsgi_session.inspector import Inspector
from wsgi_session.observe import Recorder, is_local

PLACE = "/-/inspector"


class Note(demo.Base):
    """A note on a book."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    book_id: Mapped[int] = mapped_column(ForeignKey(demo.Book.id))
    book: Mapped[demo.Book] = relationship()


@demo.route("GET /notes")
def show_notes(_request: Request) -> Response:
    """Show the notes; ``note.book`` is a SELECT for each, but for ``options(joinedload(Note.book))``."""
    notes = demo.Session.scalars(select(Note).join(Note.book).order_by(Note.id)).all()
    return page("Notes", *(f"{note.book.title}: {note.text}" for note in notes))


@demo.route("GET /slow")
def show_slowly(_request: Request) -> Response:
    """Do something slow with the connection in hand; ``current_scope().release()`` before it would give it back."""
    count = demo.Session.scalar(select(func.count(demo.Book.id)))
    time.sleep(0.3)  # asks another service, say
    return page("Slow", f"{count} books")


def page(title: str, *lines: str) -> Response:
    """Make a page of a few lines."""
    items = "".join(f"<p>{escape(line)}</p>" for line in lines)
    link = f'<p><a href="{PLACE}/">What has it done to the database?</a></p>'
    return Response(f'<link rel="icon" href="data:,"><h1>{title}</h1>{items}{link}')


def make_application(engine: Engine, key: str | None = None) -> WSGIApplication:
    """Build the application on the database of *engine*, and mount the inspector beside it."""
    recorder = Recorder(statements=True, server_timing=is_local)
    demo.Session.configure(bind=engine)
    create_tables(engine)
    application: WSGIApplication = SessionMiddleware(
        demo.reading_list, demo.Session, commit=on_unsafe_success, release_reads=True, recorder=recorder
    )
    application = demo.FailurePages(RetryMiddleware(application, is_retryable=demo.is_conflict), recorder)
    return Inspector(recorder, key=key).mounted(application, path=PLACE)


def create_tables(engine: Engine) -> None:
    """Create the tables and, in a new database, a few books with a note on each."""
    demo.create_tables(engine)
    with session_scope(demo.Session) as session:
        if session.scalar(select(func.count(Note.id))) == 0:
            books = [demo.Book(title=f"Volume {number}") for number in range(1, 10)]
            session.add_all(Note(text="to be read twice", book=book) for book in books)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="The reading list with its inspector, on this computer only.")
    parser.add_argument("--port", type=int, default=8000, help="0 is any that is free (default: %(default)s)")
    parser.add_argument("--database", default="inspected.db", help="an SQLite file (default: %(default)s)")
    options = parser.parse_args()
    key = secrets.token_hex(16)
    with demo.Server(("127.0.0.1", options.port), demo.RequestHandler) as server:
        server.set_app(make_application(create_engine(f"sqlite:///{options.database}"), key))
        print(f"http://127.0.0.1:{server.server_port}{PLACE}/?key={key}", flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
