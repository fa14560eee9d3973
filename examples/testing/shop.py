"""The application under test: it takes orders, shows them, and exports them as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker

from wsgi_session import RequestScopedSession, SessionMiddleware, on_commit, on_unsafe_success

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///shop.db"))
Shop = RequestScopedSession(sessionmaker(engine))


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Customer(Base):
    """A customer."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Base):
    """What a customer wants."""

    __tablename__ = "customer_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship(back_populates="orders")


def send_receipt() -> None:
    """Tell the customer that the order is taken."""


def take_order(session: Session, name: str) -> Iterable[bytes]:
    """Take an order; the receipt is sent when it is committed."""
    customer = session.scalars(select(Customer).where(Customer.name == name)).one()
    session.add(Order(customer=customer))
    on_commit(session, send_receipt)
    return [b"taken"]


def show_orders(session: Session, _name: str) -> Iterable[bytes]:
    """Show who has ordered; for each order its customer is loaded, which is one statement too many."""
    return [", ".join(order.customer.name for order in session.scalars(select(Order))).encode()]


def export_orders(session: Session, _name: str) -> Iterator[bytes]:
    """Export the orders, line by line."""
    for number in session.scalars(select(Order.id)):
        yield f"{number}\n".encode()


VIEWS = {("POST", "orders"): take_order, ("GET", "orders"): show_orders, ("GET", "export"): export_orders}


def shop(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request."""
    _, view, *name = environ["PATH_INFO"].split("/")
    body = VIEWS[environ["REQUEST_METHOD"], view](environ["sqlalchemy.session"], "".join(name))
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return body


application = SessionMiddleware(shop, Shop, commit=on_unsafe_success)
