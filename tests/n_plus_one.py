"""What requests do to a database: real N+1s, and innocents that look like one.

`KNOWN` are those that the rules of `wsgi_session.observe._findings` were made for. `FOOLING` were written to fool them,
and what the rules make of those is recorded, not mended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment
from sqlalchemy import ForeignKey, String, delete, func, insert, select, text, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
    undefer,
)

Scenario = Callable[[Session], object]

KNOWN: dict[str, tuple[Scenario, bool]] = {}
"""Each with whether it is an N+1."""

FOOLING: dict[str, tuple[Scenario, bool]] = {}


class Base(DeclarativeBase):
    """The tables of a shop."""


class Customer(Base):
    """Who has ordered."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    email: Mapped[str] = mapped_column(String(50))
    notes: Mapped[str] = mapped_column(String(50), deferred=True)
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Base):
    """An order of a customer."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    state: Mapped[str] = mapped_column(String(20), default="new")
    customer: Mapped[Customer] = relationship(back_populates="orders")
    lines: Mapped[list[Line]] = relationship(back_populates="order")


class Line(Base):
    """A line of an order."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship()


class Product(Base):
    """What a line is about."""

    __tablename__ = "product"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Folder(Base):
    """A folder in a folder."""

    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("folder.id"))
    folders: Mapped[list[Folder]] = relationship()


def fill(session: Session) -> None:
    """Put eight customers with two orders of two lines each into the database, and seven folders."""
    session.add_all(Product(id=number, name=f"product {number}") for number in range(1, 5))
    for number in range(1, 9):
        lines = [[Line(product_id=1 + (number + place) % 4) for place in range(2)] for _ in range(2)]
        orders = [Order(lines=one) for one in lines]
        session.add(Customer(id=number, name=f"c{number}", email=f"{number}@x", notes="-", orders=orders))
    session.add_all(Folder(id=number, parent_id=number // 2 or None) for number in range(1, 8))
    session.commit()


def real(where: dict[str, tuple[Scenario, bool]] = KNOWN) -> Callable[[Scenario], Scenario]:
    """Add a real N+1."""
    return lambda scenario: where.setdefault(scenario.__name__, (scenario, True))[0]


def innocent(where: dict[str, tuple[Scenario, bool]] = KNOWN) -> Callable[[Scenario], Scenario]:
    """Add an innocent."""
    return lambda scenario: where.setdefault(scenario.__name__, (scenario, False))[0]


@real()
def lazy_many_to_one(session: Session) -> None:
    """List orders with the names of their customers."""
    for order in session.scalars(select(Order)):
        _ = order.customer.name


@real()
def lazy_one_to_many(session: Session) -> None:
    """List customers with the number of their orders."""
    for customer in session.scalars(select(Customer)).all():
        _ = len(customer.orders)


@real()
def lazy_with_three_rows(session: Session) -> None:
    """Do so with a table of three rows, as a developer's."""
    for customer in session.scalars(select(Customer).limit(3)).all():
        _ = len(customer.orders)


@real()
def lazy_nested(session: Session) -> None:
    """Go down two levels."""
    for customer in session.scalars(select(Customer).options(selectinload(Customer.orders))).all():
        for order in customer.orders:
            _ = len(order.lines)


@real()
def lazy_from_two_lines(session: Session) -> None:
    """Load one relationship at two places."""
    for customer in session.scalars(select(Customer).limit(4)).all():
        if customer.id % 2:
            assert customer.orders
        else:
            _ = customer.orders[0]


@real()
def get_in_a_loop(session: Session) -> None:
    """Get one object after another by its key."""
    for number in range(1, 9):
        session.get(Customer, number)


def _name_of(session: Session, number: int) -> Any:
    return session.scalar(select(Customer.name).where(Customer.id == number))


@real()
def helper_in_a_loop(session: Session) -> None:
    """Call a helper that asks for one row."""
    for number in range(1, 9):
        _name_of(session, number)


@real()
def core_text_in_a_loop(session: Session) -> None:
    """Send SQL of one's own."""
    for number in range(1, 9):
        session.execute(text("SELECT name FROM customer WHERE id = :id"), {"id": number}).all()


@real()
def literals_in_a_loop(session: Session) -> None:
    """Write the value into the SQL."""
    for number in range(1, 9):
        session.execute(text(f"SELECT name FROM customer WHERE id = {number}")).all()


@real()
def refresh_of_expired(session: Session) -> None:
    """Read objects after a commit."""
    customers = session.scalars(select(Customer)).all()
    session.commit()
    for customer in customers:
        _ = customer.name


@real()
def deferred_column(session: Session) -> None:
    """Read a column that was not loaded."""
    for customer in session.scalars(select(Customer)).all():
        _ = customer.notes


@real()
def count_in_a_loop(session: Session) -> None:
    """Count for each row."""
    for customer in session.scalars(select(Customer)).all():
        session.scalar(select(func.count()).select_from(Order).where(Order.customer_id == customer.id))


@real()
def flush_for_each_row(session: Session) -> None:
    """Insert row by row."""
    for number in range(8):
        session.add(Product(name=f"new {number}"))
        session.flush()


@innocent()
def selectin_of_1200_parents(session: Session) -> None:
    """Load in three batches of 500."""
    session.execute(insert(Order), [{"customer_id": 1} for _ in range(1200)])
    session.scalars(select(Order).options(selectinload(Order.lines))).all()


@innocent()
def subquery_load(session: Session) -> None:
    """Load by a subquery."""
    for customer in session.scalars(select(Customer).options(subqueryload(Customer.orders))).all():
        _ = len(customer.orders)


@innocent()
def joined_load(session: Session) -> None:
    """Load by a join."""
    for order in session.scalars(select(Order).options(joinedload(Order.customer))).all():
        _ = order.customer.name


@innocent()
def insert_of_5000_rows(session: Session) -> None:
    """Add many objects, and have their keys returned."""
    session.add_all(Product(name=f"new {number}") for number in range(5000))
    session.flush()


@innocent()
def lists_cut_by_hand(session: Session) -> None:
    """Ask for keys by tens."""
    for start in range(0, 80, 10):
        session.scalars(select(Order).where(Order.id.in_(range(start, start + 10)))).all()


@innocent()
def pages_by_key(session: Session) -> None:
    """Read page after page."""
    last = 0
    while orders := session.scalars(select(Order).where(Order.id > last).order_by(Order.id).limit(2)).all():
        last = orders[-1].id


@innocent()
def helper_called_twice(session: Session) -> None:
    """Compare two rows."""
    _name_of(session, 1)
    _name_of(session, 2)


@innocent()
def same_setting_four_times(session: Session) -> None:
    """Read one setting where it is needed."""
    for _ in range(4):
        _name_of(session, 1)


@innocent()
def polling(session: Session) -> None:
    """Wait for something to change."""
    for _ in range(8):
        session.scalar(select(Order.state).where(Order.id == 1))
        session.rollback()


@innocent()
def savepoints(session: Session) -> None:
    """Try several things, each in a savepoint."""
    for name in ("a", "b", "c"):
        with session.begin_nested():
            session.execute(update(Customer).where(Customer.id == 1).values(name=name))


@innocent()
def two_parents(session: Session) -> None:
    """Load for two parents: there are just two."""
    for customer in session.scalars(select(Customer).limit(2)).all():
        _ = len(customer.orders)


@innocent()
def form_with_six_lookups(session: Session) -> None:
    """Check what a form refers to, field by field."""
    for table in (Customer, Order, Line, Product, Folder):
        session.scalar(select(table.id).where(table.id == 1))
    session.scalar(select(Customer.id).where(Customer.email == "1@x"))


@innocent()
def many_rows_in_one_statement(session: Session) -> None:
    """Pass a list of rows."""
    session.execute(insert(Product), [{"name": f"new {number}"} for number in range(50)])
    session.execute(delete(Product).where(Product.name.like("new%")))


@innocent()
def known_by_the_session(session: Session) -> None:
    """Get what has been loaded."""
    customers = session.scalars(select(Customer)).all()
    assert all(session.get(Customer, customer.id) is customer for customer in customers)


@innocent()
def undeferred_column(session: Session) -> None:
    """Read a deferred column that was asked for."""
    for customer in session.scalars(select(Customer).options(undefer(Customer.notes))).all():
        _ = customer.notes


@real(FOOLING)
def get_of_four(session: Session) -> None:
    """Get one after another, with little data."""
    for number in range(1, 5):
        session.get(Customer, number)


@real(FOOLING)
def last_order_of_each(session: Session) -> None:
    """Ask for the last order of each customer."""
    for number in range(1, 9):
        session.scalars(select(Order).where(Order.customer_id == number).order_by(Order.id.desc()).limit(1)).all()


@real(FOOLING)
def list_for_each_row(session: Session) -> None:
    """Ask for the products of each order by their keys."""
    for number in range(1, 9):
        session.scalars(select(Product).where(Product.id.in_([number % 4, number % 3]))).all()


@real(FOOLING)
def lazy_in_a_template(session: Session) -> None:
    """Load while a template is rendered."""
    template = Environment().from_string("{% for order in orders %}\n{{ order.customer.name }}\n{% endfor %}")
    template.render(orders=session.scalars(select(Order)).all())


@real(FOOLING)
def walk_through_a_tree(session: Session) -> None:
    """Go down from folder to folder."""
    waiting = [session.get_one(Folder, 1)]
    while waiting:
        waiting += waiting.pop().folders


@real(FOOLING)
def lazy_of_fresh_identities(session: Session) -> None:
    """Load for rows that are read one by one and forgotten."""
    for number in session.scalars(select(Order.id)).all():
        order = session.scalars(select(Order).where(Order.id == number)).one()
        _ = len(order.lines)
        session.expunge_all()


@innocent(FOOLING)
def helper_called_from_six_lines(session: Session) -> None:
    """Fill in a page with six things that have nothing to do with each other."""
    _name_of(session, 1)
    _name_of(session, 2)
    _name_of(session, 3)
    _name_of(session, 4)
    _name_of(session, 5)
    _name_of(session, 6)


@innocent(FOOLING)
def three_unrelated_lazy_loads(session: Session) -> None:
    """Look at three customers for three reasons."""
    buyer, seller, agent = (session.get_one(Customer, number) for number in (1, 2, 3))
    _ = len(buyer.orders)
    if seller.orders:
        _ = agent.orders[0]


@innocent(FOOLING)
def jobs_committed_one_by_one(session: Session) -> None:
    """Mark each job as done when it is done, for the next may fail."""
    for number in range(1, 7):
        session.execute(update(Order).where(Order.id == number).values(state="done"))
        session.commit()


@innocent(FOOLING)
def pages_by_fetch_in_text(session: Session) -> None:
    """Read page after page by SQL of one's own, in small letters."""
    for last in range(0, 16, 2):
        session.execute(text("select id from orders where id > :last order by id limit 2"), {"last": last}).all()
