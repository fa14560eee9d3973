"""The measured views, in each framework; what it is given beside them is how sessions get into its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from .work import Work

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask

Framework: TypeAlias = Callable[..., Any]
"""Takes work, and extensions; returns a WSGI application."""


def wsgi(work: Work) -> WSGIApplication:
    """Use none: a list for what is whole, a generator for a stream."""
    views = {f"/{name}": view for name, view in work.views().items()}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = views[environ["PATH_INFO"]](environ)
        if isinstance(body, bytes):
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
            return [body]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    return app


def flask(work: Work, *extensions: Any) -> Flask:
    """Use Flask.

    Args:
        work: For the views.
        extensions: Flask's own, each with an ``init_app``.
    """
    from flask import Flask, Response, request

    app = Flask(__name__)
    for name, view in work.views().items():
        app.add_url_rule(f"/{name}", name, lambda view=view: Response(view(request)), methods=["GET", "POST"])
    for extension in extensions:
        extension.init_app(app)
    return app


def django(work: Work) -> WSGIApplication:
    """Use Django, without its middleware, which has its own to do."""
    import django as package
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def view_of(view: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def respond(request: Any) -> Any:
            body = view(request)
            return HttpResponse(body) if isinstance(body, bytes) else StreamingHttpResponse(body)

        return respond

    urls = tuple(path(name, view_of(view)) for name, view in work.views().items())
    settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
    package.setup()
    handler: WSGIApplication = WSGIHandler()
    return handler


def pyramid(work: Work, *includes: Callable[[Any], None]) -> WSGIApplication:
    """Use Pyramid.

    Args:
        work: For the views.
        includes: For ``config.include``.
    """
    from pyramid.config import Configurator
    from pyramid.response import Response

    def respond(request: Any) -> Any:
        body = views[request.matched_route.name](request)
        return Response(body) if isinstance(body, bytes) else Response(app_iter=body)

    views = work.views()
    config = Configurator()
    for include in includes:
        config.include(include)
    for name in views:
        config.add_route(name, f"/{name}")
        config.add_view(respond, route_name=name)
    app: WSGIApplication = config.make_wsgi_app()
    return app


def falcon(work: Work, *middleware: Any) -> WSGIApplication:
    """Use Falcon.

    Args:
        work: For the views.
        middleware: Falcon's own.
    """
    from falcon import App, Request, Response

    class Resource:
        def __init__(self, view: Callable[[Any], Any]) -> None:
            self._view = view

        def on_get(self, request: Request, response: Response) -> None:
            body = self._view(request)
            if isinstance(body, bytes):
                response.data = body
            else:
                response.stream = body

        on_post = on_get

    app: Any = App(middleware=list(middleware))
    for name, view in work.views().items():
        app.add_route(f"/{name}", Resource(view))
    return app  # type: ignore[no-any-return]


def bottle(work: Work, *plugins: Any) -> WSGIApplication:
    """Use Bottle, whose views are given what they ask for by name: only those ask that use a session.

    Args:
        work: For the views.
        plugins: Bottle's own.
    """
    from bottle import Bottle

    views = work.views()
    app = Bottle()
    for plugin in plugins:
        app.install(plugin)
    for name in ("untouched", "stream"):
        app.route(f"/{name}", ["GET", "POST"], lambda view=views[name]: view(None))
    for name in ("select", "rows", "insert"):
        app.route(f"/{name}", ["GET", "POST"], lambda db=None, view=views[name]: view(db))
    return app  # type: ignore[no-any-return]
