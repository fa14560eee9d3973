"""Requests over gunicorn and PostgreSQL, a connection of which is ended every 65 ms: what was a success is there, once.

``POST /?number=3&kind=deadlock`` writes both halves of a mark. Some handle an error on their way, some meet each other
in the wrong order, some fail.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from sqlalchemy import URL, create_engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from benchmarks import gunicorn
from tests import postgresql
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    TransactionLostError,
    on_unsafe_success,
    service_unavailable,
)

VARIABLE = "KILLED"
"""The variable of the environment with the server's address."""

CLIENTS, WORKERS, THREADS = 12, 2, 8
ACCOUNTS = 3
KINDS = ("plain", "plain", "plain", "savepoint", "handled", "deadlock", "deadlock", "raise", "status")


class Base(DeclarativeBase):
    """The tables."""


class Account(Base):
    """What two requests want in another order."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Mark(Base):
    """Half of what a request has written."""

    __tablename__ = "mark"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    half: Mapped[int]


Session = RequestScopedSession(sessionmaker())


# The application


def application() -> Any:
    """Make the application."""
    engine = create_engine(os.environ[VARIABLE], pool_size=THREADS, max_overflow=0, pool_timeout=2)
    Session.configure(bind=engine)
    inner = SessionMiddleware(mark, Session, commit=on_unsafe_success)
    return answered(RetryMiddleware(inner, attempts=5, retry_disconnects=True, exhausted=service_unavailable))


def mark(environ: Any, start_response: Any) -> Any:
    """Write both halves, and between them what the kind says."""
    asked = dict(parse_qsl(environ["QUERY_STRING"]))
    number, kind = int(asked["number"]), asked["kind"]
    Session.execute(insert(Mark).values(number=number, half=0))
    if kind == "savepoint":
        with suppress(DBAPIError), Session.begin_nested():
            Session.execute(text("SELECT 1/0"))
    elif kind == "handled":
        with suppress(DBAPIError):
            Session.execute(text("SELECT 1/0"))
            raise AssertionError
    elif kind == "deadlock":
        for account in random.sample(range(ACCOUNTS), 2):
            Session.execute(update(Account).where(Account.id == account).values(balance=Account.balance + 1))
    elif kind == "raise":
        raise LookupError
    if kind != "handled":
        Session.execute(insert(Mark).values(number=number, half=1))
    start_response("409 Conflict" if kind == "status" else "201 Created", [("Content-Length", "0")])
    return []


def answered(app: Any) -> Any:
    """Answer 500 to what fails, and say where nobody knows what became of a COMMIT."""

    def answer(environ: Any, start_response: Any) -> Any:
        try:
            return app(environ, start_response)
        except LookupError:
            outcome = "raised"
        except TransactionLostError:
            outcome = "lost"
        except SQLAlchemyError as error:
            is_gone = isinstance(error, DBAPIError) and error.connection_invalidated
            outcome = "unknown" if is_gone else type(error).__name__
        start_response("500 Internal Server Error", [("Content-Length", "0"), ("X-Outcome", outcome)])
        return []

    return answer


# The clients


class Answer(NamedTuple):
    """What a client was told."""

    status: int
    outcome: str


@dataclass(slots=True)
class Report:
    """What came of it."""

    requests: int
    seconds: float = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    """By the number of the request."""

    kills: int = 0
    missing: int = 0
    """Successes that are not there whole, and once."""

    unwanted: int = 0
    """Traces of what was no success, but where that is not known."""

    in_doubt: Counter[bool] = field(default_factory=Counter)
    """Whether what was lost in COMMIT is there."""

    @property
    def is_right(self) -> bool:
        """Whether everything was as it should be."""
        return not (self.missing or self.unwanted) and len(self.answers) == self.requests

    @property
    def counts(self) -> Counter[str]:
        """How many answers there were of each kind."""
        return Counter(" ".join(filter(None, (str(one.status), one.outcome))) for one in self.answers.values())

    def __str__(self) -> str:
        """Say it in a few lines."""
        counts = ", ".join(f"{said}: {count}" for said, count in sorted(self.counts.items()))
        return (
            f"killed: {self.requests} requests in {self.seconds:.0f} s, {self.kills} connections ended; missing"
            f" {self.missing}, unwanted {self.unwanted}\n"
            f"        {counts}; of those in doubt {self.in_doubt[True]} are there"
        )


def run(requests: int, seed: int, log: Path) -> Report:
    """Make so many *requests*; the log of gunicorn is *log*."""
    with ExitStack() as stack:
        server = stack.enter_context(postgresql.server(deadlock_timeout="20ms"))
        prepare(server.url)
        variables = {VARIABLE: server.url.render_as_string(hide_password=False)}
        target = "tests.soak.killed:application()"
        output = stack.enter_context(log.open("wb"))
        port = stack.enter_context(
            gunicorn.served(target, workers=WORKERS, threads=THREADS, output=output, **variables)
        )
        report = Report(requests)
        ask(port, -1, "plain")  # until a worker is there
        began = time.monotonic()
        with killing(server.url, report):
            chance = random.Random(seed)
            kinds = [chance.choice(KINDS) for _ in range(requests)]
            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(lambda number: clients_work(port, number, kinds, report), range(CLIENTS)))
        report.seconds = time.monotonic() - began
        compare(server.url, report)
    return report


def clients_work(port: int, first: int, kinds: list[str], report: Report) -> None:
    """Make the requests of one client."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for number in range(first, len(kinds), CLIENTS):
            report.answers[number] = asked(connection, number, kinds[number])


def ask(port: int, number: int, kind: str) -> Answer:
    """Make one request, on a connection of its own."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        return asked(connection, number, kind)


def asked(connection: HTTPConnection, number: int, kind: str) -> Answer:
    """Make one request."""
    try:
        connection.request("POST", f"/?number={number}&kind={kind}")
        response = connection.getresponse()
        response.read()
    except (OSError, HTTPException) as error:
        connection.close()
        return Answer(0, repr(error))
    return Answer(response.status, response.headers.get("X-Outcome", ""))


def prepare(url: URL) -> None:
    """Make the tables."""
    engine = create_engine(url, poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Account), [{"id": number, "balance": 0} for number in range(ACCOUNTS)])


@contextmanager
def killing(url: URL, report: Report) -> Iterator[None]:
    """End one of the application's connections every 65 ms, for as long as the block lasts."""
    is_over = threading.Event()
    one = text(
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type ="
        " 'client backend' AND pid <> pg_backend_pid() ORDER BY state = 'idle', random() LIMIT 1) AS chosen"
    )

    def kill() -> None:
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            while not is_over.wait(0.065):
                report.kills += connection.scalar(one) or 0

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        is_over.set()
        killer.join()


def compare(url: URL, report: Report) -> None:
    """Compare what was answered with what is there."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        stored = Counter(map(tuple, connection.execute(select(Mark.number, Mark.half))))
    for number, (status, outcome) in report.answers.items():
        halves = [stored[number, half] for half in (0, 1)]
        if 200 <= status < 300:
            report.missing += halves != [1, 1]
        elif outcome == "unknown":
            report.in_doubt[halves == [1, 1]] += 1
            report.unwanted += halves not in ([0, 0], [1, 1])
        else:
            report.unwanted += halves != [0, 0]
