"""The search for the middleware of an application."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.words_application import shop
from wsgi_session import RetryMiddleware, SessionMiddleware
from wsgi_session.testing import registry_of


def test_the_middleware_is_found_where_others_are_around_it(Session: Any) -> None:
    """Middlewares keep the next application under one of the usual names."""
    flask = Flask("shop")
    flask.wsgi_app = SessionMiddleware(flask.wsgi_app, Session)  # type: ignore[method-assign]

    for app in (shop(Session), RetryMiddleware(shop(Session)), ProxyFix(shop(Session)), flask):
        assert registry_of(app) is Session


def test_an_application_without_one_is_an_error(Session: Any) -> None:
    """Nor is one found that is out of sight."""
    flask = Flask("shop")
    flask.app = flask  # type: ignore[attr-defined]

    for app in (flask, lambda environ, start_response: shop(Session)(environ, start_response)):
        with pytest.raises(LookupError, match="No SessionMiddleware was found"):
            registry_of(app)


def test_only_an_application_is_searched() -> None:
    """An application is callable."""
    with pytest.raises(TypeError, match="'shop' is not"):
        registry_of("shop")
