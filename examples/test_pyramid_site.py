"""The tests of the reading list in Pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import orm
from webtest import TestApp

from pyramid_site import Book, main

if TYPE_CHECKING:
    from wsgi_session import RetryMiddleware


@pytest.fixture(scope="session")
def wsgi_app(tmp_path_factory: pytest.TempPathFactory) -> RetryMiddleware:
    """Return the application, on an empty database."""
    return main({}, **{"sqlalchemy.url": f"sqlite:///{tmp_path_factory.mktemp('database')}/test.db"})


def test_a_book_is_added(wsgi_client: TestApp) -> None:
    """What is posted is on the list."""
    wsgi_client.post("/books/new", {"title": "Emma"}, status=303)

    assert wsgi_client.get("/").json == ["Emma"]


def test_a_form_that_is_not_right_changes_nothing(wsgi_client: TestApp, wsgi_session: orm.Session) -> None:
    """The form is shown again, and the book is as it was."""
    wsgi_session.add(Book(id=1, title="Emma"))
    wsgi_session.commit()

    wsgi_client.post("/books/1", {"title": " "}, status=422)

    assert wsgi_client.get("/").json == ["Emma"]


def test_a_book_is_there_once(wsgi_client: TestApp) -> None:
    """A title that is taken is refused."""
    wsgi_client.post("/books/new", {"title": "Emma"})

    wsgi_client.post("/books/new", {"title": "Emma"}, status=409)


def test_a_book_that_is_not_there(wsgi_client: TestApp) -> None:
    """Nobody can change it."""
    wsgi_client.post("/books/7", {"title": "Emma"}, status=404)
