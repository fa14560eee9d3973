"""The tests of the application after it moved: each runs in a block of `session_scope`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy.pool import StaticPool

from flask_sqlalchemy_after import Note, Session, create_app
from wsgi_session import session_scope


@pytest.fixture
def app() -> Iterator[Flask]:
    """Make the application, on a database in memory."""
    one_connection = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    config = {"TESTING": True, "SQLALCHEMY_DATABASE_URI": "sqlite://", "SQLALCHEMY_ENGINE_OPTIONS": one_connection}
    app = create_app(config)
    with app.app_context(), session_scope(Session, commit=False):
        yield app


def test_a_note_is_shown(app: Flask) -> None:
    """What the test has added, a request shows."""
    Session.add(Note(text="milk"))
    Session.commit()

    assert app.test_client().get("/notes").get_json()["notes"] == ["milk"]


def test_a_note_is_changed(app: Flask) -> None:
    """What a request has changed, the test finds."""
    Session.add(Note(text="milk"))
    Session.commit()

    app.test_client().put("/notes/1", json={"text": "bread"})

    Session.expire_all()
    assert Session.get_one(Note, 1).text == "bread"
