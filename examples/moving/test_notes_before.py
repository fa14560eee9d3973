"""The tests of the application before it moved: each runs in an application context."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from flask_sqlalchemy_before import Note, create_app, db


@pytest.fixture
def app() -> Iterator[Flask]:
    """Make the application, on a database in memory."""
    app = create_app({"TESTING": True, "SQLALCHEMY_DATABASE_URI": "sqlite://"})
    with app.app_context():
        yield app


def test_a_note_is_shown(app: Flask) -> None:
    """What the test has added, a request shows."""
    db.session.add(Note(text="milk"))
    db.session.commit()

    assert app.test_client().get("/notes").get_json()["notes"] == ["milk"]


def test_a_note_is_changed(app: Flask) -> None:
    """What a request has changed, the test finds."""
    db.session.add(Note(text="milk"))
    db.session.commit()

    app.test_client().put("/notes/1", json={"text": "bread"})

    db.session.expire_all()
    assert db.session.get_one(Note, 1).text == "bread"
