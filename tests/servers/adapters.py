"""The application behind each adapter from WSGI to ASGI, for the ASGI servers: a factory each."""

from __future__ import annotations

from typing import Any

from .application import application


def a2wsgi() -> Any:
    """Adapt by a2wsgi: a pool of threads, one of which takes all the steps of a response."""
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(application)  # type: ignore[arg-type]


def asgiref() -> Any:
    """Adapt by asgiref: one thread for all requests."""
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(application)  # type: ignore[no-untyped-call]


def starlette() -> Any:
    """Adapt by Starlette: a pool of threads."""
    from starlette.middleware.wsgi import WSGIMiddleware

    return WSGIMiddleware(application)
