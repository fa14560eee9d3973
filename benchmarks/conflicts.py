"""What conflicts do to the clients of a framework that makes a 500 of every error.

    python -m benchmarks.conflicts

A Falcon application on PostgreSQL, SERIALIZABLE, with a `flush()` in its view: 200 transfers between three accounts, by
eight clients. `RetryMiddleware(..., attempts=5, exhausted=service_unavailable)` is around it, once as it is by default,
and once with ``retry_responses=False``, where the framework's 500 is final.

What the columns say: how many were answered with each status, how many lines there were in the log, and whether the sum
of the accounts is what it was, with as many transfers in the table as were answered with success.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import falcon
from sqlalchemy import URL, Engine, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from tests import postgresql
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    on_unsafe_success,
    service_unavailable,
)

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

ACCOUNTS, CLIENTS, TRANSFERS, START = 3, 8, 200, 1000


class Base(DeclarativeBase):
    """The tables."""


class Account(Base):
    """What somebody has."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Transfer(Base):
    """A transfer that was made."""

    __tablename__ = "transfer"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the transfers."""

    statuses: Counter[str]
    log_lines: int
    is_right: bool

    def __str__(self) -> str:
        """Say it in a line of the table."""
        others = sum(self.statuses.values()) - sum(self.statuses[one] for one in ("200", "500", "503"))
        counts = " ".join(f"{self.statuses[one]:>6}" for one in ("200", "503", "500"))
        return f"{counts} {others:>7} {self.log_lines:>10} {'yes' if self.is_right else 'NO':>6}"


class Transfers:
    """The resource that makes a transfer."""

    def __init__(self, registry: RequestScopedSession[Any]) -> None:
        """Take the registry."""
        self._session = registry

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Move an amount from one account to another."""
        source, target, amount = (request.get_param_as_int(name) or 0 for name in ("source", "target", "amount"))
        session = self._session()
        giver, taker = session.get_one(Account, source), session.get_one(Account, target)
        giver.balance -= amount
        taker.balance += amount
        session.add(Transfer(amount=amount))
        session.flush()
        response.text = "transferred"


def measure(url: URL, **options: Any) -> Outcome:
    """Make the transfers, with *options* of the `RetryMiddleware`."""
    with accounts(url) as engine, logged() as lines:
        registry = RequestScopedSession(sessionmaker(engine))
        app = falcon.App()
        app.add_route("/transfers", Transfers(registry))
        application = RetryMiddleware(
            SessionMiddleware(app, registry, commit=on_unsafe_success),
            attempts=5,
            exhausted=service_unavailable,
            **options,
        )
        chance = random.Random(7)
        asked = [(*chance.sample(range(1, ACCOUNTS + 1), 2), chance.randint(1, 9)) for _ in range(TRANSFERS)]
        with ThreadPoolExecutor(CLIENTS) as clients:
            statuses = Counter(clients.map(lambda transfer: post(application, *transfer), asked))
        with engine.connect() as connection:
            total = connection.scalar(select(func.sum(Account.balance)))
            made = connection.scalar(select(func.count(Transfer.id)))
    return Outcome(statuses, len(lines), total == ACCOUNTS * START and made == statuses["200"])


def post(application: WSGIApplication, source: int, target: int, amount: int) -> str:
    """Ask for a transfer, and return the status code of the answer."""
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/transfers",
        "QUERY_STRING": f"source={source}&target={target}&amount={amount}",
        "wsgi.input": BytesIO(),
        "wsgi.errors": _Nowhere(),
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []

    def start_response(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda data: None

    body: Iterable[bytes] = application(environ, start_response)
    list(body)
    if hasattr(body, "close"):
        body.close()
    return statuses[-1][:3]


class _Nowhere:
    """Where Falcon prints the traceback of each error."""

    def write(self, text: str) -> None:
        """Forget it."""

    def flush(self) -> None:
        """Do nothing."""


@contextmanager
def accounts(url: URL) -> Iterator[Engine]:
    """Make the accounts anew, and yield an engine for all clients."""
    engine = create_engine(url, isolation_level="SERIALIZABLE", pool_size=CLIENTS, max_overflow=0)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with sessionmaker(engine).begin() as session:
        session.add_all([Account(id=number, balance=START) for number in range(1, ACCOUNTS + 1)])
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect what the package logs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("wsgi_session")
    log.addHandler(handler)
    log.propagate = False
    try:
        yield lines
    finally:
        log.propagate = True
        log.removeHandler(handler)


def main() -> None:
    """Measure both, and print a line for each."""
    print(f"{'':22} {'200':>6} {'503':>6} {'500':>6} {'others':>7} {'log lines':>10} {'right':>6}")
    with postgresql.database() as url:
        print(f"{'by default':22} {measure(url)}")
        print(f"{'retry_responses=False':22} {measure(url, retry_responses=False)}")


if __name__ == "__main__":
    main()
