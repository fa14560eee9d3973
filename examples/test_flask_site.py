"""The tests of the reading list, with Flask's own test client."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, orm, select
from werkzeug.security import generate_password_hash

from flask_site import Base, Book, User, create_app
from wsgi_session.testing import Isolation


@pytest.fixture(scope="session")
def wsgi_app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """Return the application, on an empty database."""
    url = f"sqlite:///{tmp_path_factory.mktemp('database')}/test.db"
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()
    return create_app({"TESTING": True, "DATABASE_URL": url})


@pytest.fixture
def client(wsgi_app: Flask, wsgi_isolation: Isolation) -> FlaskClient:
    """Return Flask's client; what its requests commit is undone after the test."""
    return wsgi_app.test_client()


@pytest.fixture
def ada(client: FlaskClient, wsgi_session: orm.Session) -> None:
    """Let ada log in."""
    wsgi_session.add(User(name="ada", password=generate_password_hash("engine")))
    wsgi_session.commit()
    client.post("/login", data={"name": "ada", "password": "engine"})


def test_a_book_is_added(client: FlaskClient, ada: None) -> None:
    """What is posted is on the list."""
    answer = client.post("/books/new", data={"title": "Emma"}, follow_redirects=True)

    assert "Emma" in answer.text


def test_a_book_needs_a_title(client: FlaskClient, ada: None, wsgi_session: orm.Session) -> None:
    """A form that is not right is shown again, and nothing of it is kept."""
    wsgi_session.add(Book(title="Emma"))
    wsgi_session.commit()

    answer = client.post("/books/1", data={"title": " "})

    assert answer.status_code == 422
    assert wsgi_session.scalars(select(Book.title)).all() == ["Emma"]


def test_a_book_is_there_once(client: FlaskClient, ada: None) -> None:
    """A title that is taken is refused."""
    client.post("/books/new", data={"title": "Emma"})

    assert client.post("/books/new", data={"title": "Emma"}).status_code == 409


def test_only_users_change_the_list(client: FlaskClient) -> None:
    """Who is not logged in is asked to."""
    assert client.get("/books/new").headers["Location"].startswith("/login")
