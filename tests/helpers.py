"""The verbs of the tests: a request, as a server makes it, and what is left behind it."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NoReturn
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from sqlalchemy import URL, Engine, ForeignKey, ForeignKeyConstraint, String, create_engine, event, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.pool import NullPool

from wsgi_session import SessionMiddleware

App = Callable[..., Iterable[bytes]]


def miss(what: str) -> NoReturn:
    """Skip a test because of what is missing here, or fail where a check that does not run is a failure."""
    if os.environ.get("REQUIRE") == "all":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def link_in(log: str) -> str:
    """Return the link to an inspector that is in the log, the last one if there are several."""
    return re.findall(r"Inspector: (http\S+)", log)[-1]


class Base(DeclarativeBase):
    """The tables of the tests."""


class Word(Base):
    """A word."""

    __tablename__ = "word"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))
    letters: Mapped[list[Letter]] = relationship()


class Letter(Base):
    """A letter of a word; that the word exists is checked by COMMIT, not before."""

    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    word_id: Mapped[int] = mapped_column(ForeignKey("word.id", deferrable=True, initially="DEFERRED"))


@compiles(ForeignKeyConstraint, "mysql")
@compiles(ForeignKeyConstraint, "mariadb")
def _without_deferring(constraint: ForeignKeyConstraint, compiler: Any, **options: Any) -> str:
    """Leave out what MariaDB does not have: there, the statement fails, not COMMIT."""
    ddl: str = compiler.visit_foreign_key_constraint(constraint, **options)
    return ddl.replace(" DEFERRABLE INITIALLY DEFERRED", "")


def enforce_foreign_keys(connection: Any, record: object) -> None:
    """Have SQLite check foreign keys."""
    connection.execute("PRAGMA foreign_keys = ON")


def orphan() -> Letter:
    """Make a row that COMMIT refuses."""
    return Letter(word_id=12345)


def words(engine: Engine) -> list[str]:
    """Read what has been committed, on a connection that is not the pool's."""
    with beside(engine).connect() as connection:
        return list(connection.scalars(select(Word.text).order_by(Word.id)))


def beside(engine: Engine) -> Engine:
    """Return an engine on the same database that keeps no connections."""
    return _unpooled(engine.url)


@lru_cache(maxsize=8)
def _unpooled(url: URL) -> Engine:
    return create_engine(url, poolclass=NullPool)


def is_clean(engine: Engine) -> bool:
    """Say whether every connection is back in the pool, and in no transaction."""
    if engine.pool.checkedout():  # type: ignore[attr-defined]
        return False
    connection = engine.raw_connection()
    try:
        return not _IN_TRANSACTION[engine.driver](connection.driver_connection)
    finally:
        connection.close()


def _ask_mariadb(connection: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@in_transaction")
        return bool(cursor.fetchone()[0])


_IN_TRANSACTION: dict[str, Callable[[Any], Any]] = {
    "mysqldb": _ask_mariadb,
    "pg8000": lambda connection: connection._in_transaction,
    "psycopg": lambda connection: connection.info.transaction_status,
    "psycopg2": lambda connection: connection.info.transaction_status,
    "pymysql": _ask_mariadb,
    "pysqlite": lambda connection: connection.in_transaction,
}
"""How each driver's connection is asked whether it is in a transaction."""


def new_environ(method: str = "GET", path: str = "/", **more: Any) -> dict[str, Any]:
    """Make the environ of a request, as a server does."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        **more,
    }
    setup_testing_defaults(environ)
    return environ


class Exchange:
    """One request to an application, step by step, as a server makes it.  Lives as long as the test.

    ``log`` has what the server saw, in order: the status, the chunks, ``"close"``.
    """

    def __init__(self, app: App, method: str = "GET", path: str = "/", log: list[str] | None = None, **environ: Any):
        """Call *app*."""
        self.log: list[str] = [] if log is None else log
        self.environ = environ.pop("environ", None) or new_environ(method, path, **environ)
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.result: Any = app(self.environ, self._start_response)
        self._iterator: Iterator[bytes] | None = None

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        if self.chunks and exc_info is not None:
            raise exc_info[1].with_traceback(exc_info[2])
        assert self.status is None or exc_info is not None
        self.status, self.headers = status, headers
        self.log.append(status)
        return self._write

    def _write(self, chunk: bytes) -> None:
        assert self.status is not None, "bytes before start_response()"
        self.chunks.append(chunk)
        self.log.append(repr(chunk))

    def step(self) -> bytes | None:
        """Take the next chunk; None at the end."""
        if self._iterator is None:
            self._iterator = iter(self.result)
        try:
            chunk = next(self._iterator)
        except StopIteration:
            return None
        if chunk:
            self._write(chunk)
        return chunk

    def read(self) -> Exchange:
        """Take all chunks."""
        while self.step() is not None:
            pass
        assert self.status is not None
        return self

    def close(self) -> Exchange:
        """Do what a server does at the end of every response."""
        self._iterator = None
        if hasattr(self.result, "close"):
            self.result.close()
        self.log.append("close")
        return self

    def drop(self) -> None:
        """Forget the response without closing it, as some servers do."""
        self.result = self._iterator = None

    @property
    def body(self) -> bytes:
        """What was sent."""
        return b"".join(self.chunks)


def request(app: App, method: str = "GET", path: str = "/", **environ: Any) -> Exchange:
    """Make a whole request: call, read, close, also when that fails."""
    exchange = Exchange(app, method, path, **environ)
    try:
        exchange.read()
    finally:
        exchange.close()
    return exchange


def in_child(work: Callable[[], object]) -> None:
    """Run *work* in a forked child, and fail if it fails there."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "failed in the child"


def both_ways(app: App, registry: Any, **options: Any) -> list[App]:
    """Wrap *app* twice: bare, and with PEP 3333 checked on both sides of the middleware."""
    return [
        SessionMiddleware(app, registry, **options),
        validator(SessionMiddleware(validator(app), registry, **options)),  # type: ignore[arg-type]
    ]


def answer(start_response: Any, status: str = "200 OK", *headers: tuple[str, str]) -> None:
    """Begin a plain-text response."""
    no_body = status[:3] in ("204", "304")
    start_response(status, list(headers) if no_body else [("Content-Type", "text/plain"), *headers])


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Collect what is sent to the database in the block: statements, COMMIT and ROLLBACK."""
    sent: list[str] = []

    def on_statement(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        sent.append(statement)

    def on_commit(connection: Any) -> None:
        sent.append("COMMIT")

    def on_rollback(connection: Any) -> None:
        sent.append("ROLLBACK")

    listeners = [("before_cursor_execute", on_statement), ("commit", on_commit), ("rollback", on_rollback)]
    for name, listener in listeners:
        event.listen(engine, name, listener)
    try:
        yield sent
    finally:
        for name, listener in listeners:
            event.remove(engine, name, listener)


def log_commits(engine: Engine, log: list[str]) -> None:
    """Put ``"COMMIT"`` into *log* when one is sent."""

    def on_commit(connection: Any) -> None:
        log.append("COMMIT")

    event.listen(engine, "commit", on_commit)


def add_words(session: Any, *texts: str) -> None:
    """Add words to a session."""
    session.add_all([Word(text=text) for text in texts])


def all_words(session: Any) -> list[str]:
    """Read all words through a session."""
    return list(session.scalars(select(Word.text).order_by(Word.id)))
