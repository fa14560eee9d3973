"""A reading list in Pyramid, whole, in one file: a factory for ``.ini`` files, a form, exception views and a job.

``commit=on_unsafe_success``: no view commits. ::

    waitress-serve --listen 127.0.0.1:8000 --call pyramid_site:main
"""

from __future__ import annotations

import sys
from typing import Any

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config
from sqlalchemy import create_engine, orm, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    on_unsafe_success,
    session_of,
    session_scope,
)

Session = RequestScopedSession(sessionmaker())


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Book(Base):
    """A book; the database refuses to have two of one title."""

    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(unique=True)


def dbsession(request: Request) -> orm.Session:
    """Let views write ``request.dbsession``."""
    return session_of(request.environ, Session)


FORM = '<p>{error}<form method="post"><input name="title"><button>Send</button></form>'


@view_config(route_name="index", renderer="json")
def index(request: Request) -> list[str]:
    """Show all titles."""
    return list(request.dbsession.scalars(select(Book.title).order_by(Book.title)))


@view_config(route_name="new", request_method="GET")
@view_config(route_name="edit", request_method="GET")
def show_form(request: Request, error: str = "", status: int = 200) -> Response:
    """Show the form; with status 422 what the request has changed is rolled back."""
    return Response(FORM.format(error=error), status=status)


@view_config(route_name="new", request_method="POST")
@view_config(route_name="edit", request_method="POST")
def edit(request: Request) -> Response:
    """Add a book or change one."""
    book_id = request.matchdict.get("book_id")
    book = Book() if book_id is None else request.dbsession.get(Book, int(book_id))
    if book is None:
        raise HTTPNotFound
    book.title = request.POST["title"].strip()
    if not book.title:
        return show_form(request, "A book needs a title.", 422)
    request.dbsession.add(book)
    request.dbsession.flush()  # an error of the database comes here, where the exception view sees it
    return HTTPSeeOther(request.route_url("index"))


@exception_view_config(IntegrityError)
def refuse(error: IntegrityError, request: Request) -> Response:
    """Say that the database has refused something; a status from 400 on is rolled back."""
    return Response("There is one of that title already.", status=409)


def main(global_config: dict[str, str] | None = None, **settings: Any) -> RetryMiddleware:
    """Make the application; ``use = call:pyramid_site:main`` in an ``.ini`` file calls this, too."""
    engine = create_engine(settings.get("sqlalchemy.url", "sqlite:///books.db"))
    Session.configure(bind=engine)
    Base.metadata.create_all(engine)  # once there are users, Alembic does this
    with Configurator(settings=settings) as config:
        config.add_request_method(dbsession, reify=True)
        config.add_route("index", "/")
        config.add_route("new", "/books/new")
        config.add_route("edit", r"/books/{book_id:\d+}")
        config.scan(__name__)
        application = SessionMiddleware(config.make_wsgi_app(), Session, commit=on_unsafe_success)
    return RetryMiddleware(application)


@session_scope(Session)
def insert(titles: list[str]) -> None:
    """Add books, by ``python pyramid_site.py Emma Evelina``."""
    Session.add_all(Book(title=title) for title in titles)


if __name__ == "__main__":
    main()
    insert(sys.argv[1:])
