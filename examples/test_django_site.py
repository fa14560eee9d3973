"""The tests of the reading list in Django."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from django.test import LiveServerTestCase
from sqlalchemy import create_engine, orm
from webtest import TestApp

from django_site import Base, Book, Session, application
from wsgi_session import RetryMiddleware


@pytest.fixture(scope="session", autouse=True)
def wsgi_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetryMiddleware]:
    """Return the application, on an empty database; all tests have it, also those with a live server."""
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('database')}/books_test.db")
    Base.metadata.create_all(engine)
    Session.configure(bind=engine)
    yield application
    engine.dispose()


def test_a_book_is_added(wsgi_client: TestApp) -> None:
    """What is posted is on the list, and in the export."""
    form = wsgi_client.get("/books/new").form
    form["title"] = "Emma"
    form.submit()

    assert "Emma" in wsgi_client.get("/").text
    assert wsgi_client.get("/export").text == "Emma\n"


def test_a_form_that_is_not_right_changes_nothing(wsgi_client: TestApp, wsgi_session: orm.Session) -> None:
    """The form is shown again, and the book is as it was."""
    wsgi_session.add(Book(id=1, title="Emma"))
    wsgi_session.commit()

    form = wsgi_client.get("/books/1").form
    form["title"] = ""
    form.submit(status=422)

    assert "Emma" in wsgi_client.get("/").text


@pytest.mark.wsgi_session(mode="commit")
def test_the_count(wsgi_client: TestApp, wsgi_session: orm.Session) -> None:
    """Django runs an ``async`` view on a thread of its own, so its test commits for real."""
    wsgi_session.add(Book(title="Emma"))
    wsgi_session.commit()

    assert wsgi_client.get("/count").text == "1"


class LiveTests(LiveServerTestCase):
    """Tests with a browser, which need a server: Django's serves what its ``static_handler`` returns."""

    databases: frozenset[str] = frozenset()  # of Django's
    static_handler = staticmethod(lambda handler: application)

    def test_the_server_has_a_session(self) -> None:
        """A request over a socket goes through the middleware."""
        with urlopen(f"{self.live_server_url}/count") as answer:
            assert answer.read().isdigit()
