"""Conflicts in frameworks that make a response of every error: Flask, Django and Falcon between the two middlewares."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker

from tests.conflicts import Meeting, increment
from tests.helpers import Word, is_clean, request, words
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    current_environ,
    on_unsafe_success,
)

View = Callable[[Any], str]
"""Takes the session, and returns the body."""


def flask_app(view: View, registry: Any) -> Any:
    """Make a Flask application with one view."""
    from flask import Flask

    app = Flask("conflicts")
    app.add_url_rule("/<path:path>", "view", lambda path: view(registry()), methods=["POST"])
    return app


def django_app(view: View, registry: Any) -> Any:
    """Make a Django application with one view."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import re_path

    if not settings.configured:
        settings.configure(SECRET_KEY="of the tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=Urls, LOGGING_CONFIG=None)
    Urls.urlpatterns = [re_path("", lambda request: HttpResponse(view(registry())))]
    from django.urls import clear_url_caches

    clear_url_caches()
    return get_wsgi_application()


class Urls:
    """Django's module of patterns."""

    urlpatterns: list[Any] = []  # noqa: RUF012


def falcon_app(view: View, registry: Any) -> Any:
    """Make a Falcon application with one resource."""
    import falcon

    class Resource:
        def on_post(self, req: Any, resp: Any) -> None:
            resp.text = view(registry())

    app = falcon.App()
    app.add_sink(lambda req, resp, **_: Resource().on_post(req, resp), "/")
    return app


FRAMEWORKS = [flask_app, django_app, falcon_app]


@pytest.fixture
def two(engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with two connections on PostgreSQL, SERIALIZABLE, and the word 0."""
    engine = engine_by("postgresql+psycopg", pool_size=2, pool_timeout=20, isolation_level="SERIALIZABLE")
    with sessionmaker(engine).begin() as session:
        session.add(Word(id=1, text="0"))
    return engine


@pytest.mark.system("postgresql")
@pytest.mark.parametrize("in_framework", FRAMEWORKS)
def test_a_swallowed_conflict(in_framework: Any, two: Engine) -> None:
    """Two requests that have read the same number count to two, whatever the framework makes of the error."""
    meeting = Meeting()
    told: list[Any] = []

    def view(session: Any) -> str:
        session.get(Word, 1)
        meeting.wait(current_environ()["retry.attempt"])
        increment(session, 1)
        session.flush()
        return "done"

    registry = RequestScopedSession(sessionmaker(two))
    app = SessionMiddleware(in_framework(view, registry), registry, commit=on_unsafe_success)
    app_ = RetryMiddleware(app, retry_responses=True, on_failed_attempt=told.append)
    with ThreadPoolExecutor(2) as threads:
        exchanges = list(threads.map(lambda path: request(app_, "POST", path), ["/1", "/2"]))

    assert [(exchange.status[:3], exchange.body) for exchange in exchanges] == [("200", b"done")] * 2
    assert len(told) == 1
    assert words(two) == ["2"]
    assert is_clean(two)


@pytest.mark.system("postgresql")
@pytest.mark.parametrize("in_framework", FRAMEWORKS)
def test_a_conflict_that_a_savepoint_has_absorbed(in_framework: Any, two: Engine) -> None:
    """A lock that was not to be had in a savepoint, and then a 500 for another reason: the view runs once."""
    runs: list[int] = []

    def view(session: Any) -> str:
        runs.append(current_environ()["retry.attempt"])
        with pytest.raises(DBAPIError), session.begin_nested():
            session.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$"))
        raise KeyError("another reason")

    registry = RequestScopedSession(sessionmaker(two))
    app = SessionMiddleware(in_framework(view, registry), registry, commit=on_unsafe_success)

    exchange = request(RetryMiddleware(app, retry_responses=True), "POST", "/1")

    assert exchange.status[:3] == "500"
    assert runs == [0]
    assert is_clean(two)
