"""Money: transfers from many threads over HTTP, with faults at every step.  Nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from cheroot import wsgi
from sqlalchemy import URL, Engine, create_engine, func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from tests.client import asked
from tests.cutting_proxy import AFTER, BEFORE, cutting_proxy
from tests.helpers import answer, is_clean
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    TransactionLostError,
    is_retryable,
    on_commit,
    on_unsafe_success,
)

ACCOUNTS, START, THREADS = 4, 1000, 8
REQUESTS = 2500 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 250


class Bank(DeclarativeBase):
    """The tables of the bank."""


class Account(Bank):
    """What somebody has."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class Transfer(Bank):
    """A transfer that was made; a number that is there twice was made twice."""

    __tablename__ = "transfer"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    source: Mapped[int]
    target: Mapped[int]
    amount: Mapped[int]


STEPS = ["begun", "read", "taken", "given", "flushed", "answered"]
"""The steps of a transfer."""

FAULTS = ["raise", "kill", "handle", "conflict"]
"""What happens in one: the application fails, or the server ends its connection; a statement fails, and the application
handles that and goes on; the same with a conflict, in the first attempt that comes so far."""

IN_COMMIT = {"before": BEFORE, "after": AFTER}
"""When the connection is lost in COMMIT: before the server has it, or after."""


def bank(Session: Any, killer: Engine, receipts: list[int]) -> Any:
    """Make the application: a transfer, with a fault at one of its steps if it is asked for one."""
    conflicted: set[int] = set()

    def app(environ: Any, start_response: Any) -> Any:
        asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        number, source, target, amount = (int(asked[name]) for name in ("number", "source", "target", "amount"))
        session = Session()

        def at(step: str) -> None:
            if asked.get("fault") == f"raise {step}":
                raise RuntimeError("a fault")
            if asked.get("fault") == f"kill {step}":
                process = session.scalar(select(func.pg_backend_pid()))
                with killer.connect() as connection:
                    connection.execute(text(f"SELECT pg_terminate_backend({process}, 5000)"))
            if asked.get("fault") == f"handle {step}":
                handled(session, "22012")
            if asked.get("fault") == f"conflict {step}" and number not in conflicted:
                conflicted.add(number)
                handled(session, "40001")

        at("begun")
        first, second = session.get(Account, source), session.get(Account, target)
        at("read")
        first.balance -= amount
        at("taken")
        second.balance += amount
        at("given")
        session.add(Transfer(number=number, source=source, target=target, amount=amount))
        session.flush()
        at("flushed")
        if cut := IN_COMMIT.get(asked.get("fault", "")):
            session.execute(text(f"SELECT '{cut.decode()}'"))
        on_commit(session, lambda: receipts.append(number))
        answer(start_response, "201 Created")
        at("answered")
        return [b"transferred"]

    return app


def handled(session: Any, code: str) -> None:
    """Have a statement fail, and go on."""
    with suppress(DBAPIError):
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"))


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve *app* on a port, for as long as the block lasts."""
    server = wsgi.Server(("127.0.0.1", 0), app, numthreads=THREADS)
    server.error_log = lambda *message, **_: None  # an error is what is asked for
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.bind_addr[1]
    finally:
        server.stop()
        thread.join(timeout=30)


def transfers(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Make the transfers of a run; every fourth has a fault."""
    faults = [f"{fault} {step}" for fault in FAULTS for step in STEPS] + [*IN_COMMIT]
    for number in range(REQUESTS):
        source, target = chance.sample(range(1, ACCOUNTS + 1), 2)
        transfer = {"number": number, "source": source, "target": target, "amount": chance.randint(1, 9)}
        yield transfer | ({"fault": faults[number // 4 % len(faults)]} if number % 4 == 0 else {})


def ask(port: int) -> Callable[[dict[str, Any]], int]:
    """Return a function that asks for a transfer, and returns the status of the answer."""

    def post(transfer: dict[str, Any]) -> int:
        return asked(port, f"/?{urlencode(transfer)}", "POST").status

    return post


@pytest.mark.system("postgresql")
def test_money(postgresql_url: URL) -> None:
    """The sum is kept; what was answered with success is there once, and of everything else there is nothing.

    Except where nobody could know: a connection that was lost when COMMIT had reached the server. Then the client has
    seen an error, and the transfer is there once.
    """
    direct = create_engine(postgresql_url)
    Bank.metadata.drop_all(direct)
    Bank.metadata.create_all(direct)
    with sessionmaker(direct).begin() as session:
        session.add_all([Account(id=number, balance=START) for number in range(1, ACCOUNTS + 1)])
    receipts: list[int] = []
    conflicts: list[Any] = []
    asked = list(transfers(random.Random(1729)))

    with cutting_proxy(str(postgresql_url.host), int(postgresql_url.port or 5432)) as proxy:
        engine = create_engine(
            postgresql_url.set(host="127.0.0.1", port=proxy, query={"sslmode": "disable", "gssencmode": "disable"}),
            isolation_level="SERIALIZABLE",
            pool_size=THREADS,
            max_overflow=0,
        )
        Session = RequestScopedSession(sessionmaker(engine))
        app = SessionMiddleware(bank(Session, direct, receipts), Session, commit=on_unsafe_success)
        app_ = RetryMiddleware(app, attempts=50, wait=0.002, max_wait=0.1, on_failed_attempt=conflicts.append)
        with served(app_) as port, ThreadPoolExecutor(THREADS) as clients:
            statuses = list(clients.map(ask(port), asked))
        assert is_clean(engine)
        engine.dispose()

    with direct.connect() as connection:
        made = Counter(connection.scalars(select(Transfer.number)).all())
        balances = {row.id: row.balance for row in connection.execute(select(Account.id, Account.balance))}
        rows = connection.execute(select(Transfer.source, Transfer.target, Transfer.amount)).all()
    direct.dispose()
    expected = dict.fromkeys(range(1, ACCOUNTS + 1), START)
    for source, target, amount in rows:
        expected[source] -= amount
        expected[target] += amount
    answers = {
        transfer["number"]: (status, transfer.get("fault")) for transfer, status in zip(asked, statuses, strict=True)
    }

    assert sum(balances.values()) == ACCOUNTS * START
    assert balances == expected
    for number, (status, fault) in answers.items():
        assert status == (201 if fault is None or fault.startswith("conflict") else 500)
        assert made[number] == (1 if status == 201 or fault == "after" else 0)
    assert Counter(receipts) == Counter(number for number, (status, _) in answers.items() if status == 201)
    assert all(is_retryable(failed.error) for failed in conflicts if not failed.obstacle)
    assert any(isinstance(failed.error, TransactionLostError) for failed in conflicts)
    assert len(conflicts) > REQUESTS // 20


@pytest.mark.system("mariadb")
def test_money_with_handled_deadlocks(mariadb_url: URL) -> None:
    """On MariaDB a deadlock undoes everything, and the statement after it begins anew: there is no half of a transfer.

    The view handles each error of the database, and goes on as if nothing had happened.
    """
    engine = create_engine(mariadb_url, pool_size=THREADS, max_overflow=0)
    Bank.metadata.drop_all(engine)
    Bank.metadata.create_all(engine)
    with sessionmaker(engine).begin() as session:
        session.add_all([Account(id=number, balance=START) for number in range(1, ACCOUNTS + 1)])
    lost: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        asked = {name: int(values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items() if name != "fault"}
        session = environ["sqlalchemy.session"]
        for name, amount in (("source", -asked["amount"]), ("target", asked["amount"])):
            with suppress(DBAPIError):
                owner = Account.id == asked[name]
                session.execute(update(Account).where(owner).values(balance=Account.balance + amount))
        session.add(Transfer(**{name: asked[name] for name in ("number", "source", "target", "amount")}))
        answer(start_response, "201 Created")
        return [b"transferred"]

    Session = RequestScopedSession(sessionmaker(engine))
    app_ = SessionMiddleware(app, Session, commit=on_unsafe_success)
    app_ = RetryMiddleware(app_, attempts=50, wait=0.002, max_wait=0.1, on_failed_attempt=lost.append)
    asked = list(transfers(random.Random(1729)))
    with served(app_) as port, ThreadPoolExecutor(THREADS) as clients:
        statuses = set(clients.map(ask(port), asked))

    with engine.connect() as connection:
        made = Counter(connection.scalars(select(Transfer.number)).all())
        total = connection.scalar(select(func.sum(Account.balance)))
    assert statuses == {201}
    assert made == Counter(transfer["number"] for transfer in asked)
    assert total == ACCOUNTS * START
    assert {type(failed.error) for failed in lost} == {TransactionLostError}
    assert is_clean(engine)
    engine.dispose()
