"""The tests of the shop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from factories import CustomerFactory
from shop import Customer, Order, send_receipt
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from webtest import TestApp

if TYPE_CHECKING:
    from wsgi_session.testing import StatementBudget


def test_an_order_is_kept(wsgi_client: TestApp, wsgi_session: Session) -> None:
    """What a POST has committed, the next request sees, and so does the test."""
    ada = Customer(name="ada")
    wsgi_session.add(ada)
    wsgi_session.commit()

    wsgi_client.post("/orders/ada")

    assert wsgi_client.get("/orders").text == "ada"
    assert len(ada.orders) == 1


def test_the_next_test_starts_empty(wsgi_client: TestApp, wsgi_session: Session) -> None:
    """Nothing is left of the test before."""
    assert wsgi_client.get("/orders").text == ""
    assert wsgi_session.scalar(select(func.count(Order.id))) == 0


def test_one_customer_is_one_statement_more(
    wsgi_client: TestApp, wsgi_session: Session, wsgi_statements: type[StatementBudget]
) -> None:
    """The list needs a statement for the orders, and one for each customer."""
    wsgi_session.add(Customer(name="ada", orders=[Order(), Order()]))
    wsgi_session.commit()

    with wsgi_statements(at_most=2):
        wsgi_client.get("/orders")


def test_the_receipt_is_sent(wsgi_client: TestApp, wsgi_session: Session, wsgi_commits: list[Any]) -> None:
    """It is sent when the order is committed."""
    customer = CustomerFactory()

    wsgi_client.post(f"/orders/{customer.name}")

    assert wsgi_commits == [send_receipt]


@pytest.mark.wsgi_session(mode="commit")
def test_orders_at_the_same_time(wsgi_app: Callable[..., Any], wsgi_session: Session) -> None:
    """Two customers may order at the same time: with threads, commits have to be real."""
    customers = [CustomerFactory().name, CustomerFactory().name]
    threads = [threading.Thread(target=order, args=(wsgi_app, name)) for name in customers]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wsgi_session.scalar(select(func.count(Order.id))) == 2


def order(app: Callable[..., Any], name: str) -> None:
    """Order something, as a client of its own."""
    TestApp(app).post(f"/orders/{name}")
