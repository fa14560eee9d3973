"""Applications to be measured: each does one SELECT in its handler and answers with the body that its path has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from wsgi_session import SessionMiddleware, current_scope, on_unsafe_success, until_close

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Flask

SELECT = text("SELECT 1")
CHUNK = 64 * 1024

Options: TypeAlias = dict[str, Any]
"""What `create_engine` is called with."""

Bodies: TypeAlias = dict[str, bytes]
"""What is sent for each path."""

Setup: TypeAlias = "Callable[[Options, Bodies], WSGIApplication]"


def application(name: str, url: str, pool_timeout: float, sizes: dict[str, int]) -> WSGIApplication:
    """Return the setup *name* with a pool of five; a request that finds the pool empty for too long is a 503.

    Args:
        name: Of a function in this module.
        url: Of the database.
        pool_timeout: In seconds.
        sizes: Of the body for each path, in bytes.
    """
    options = {"url": url, "pool_size": 5, "max_overflow": 0, "pool_timeout": pool_timeout}
    measured = SETUPS[name](options, {path: bytes(size) for path, size in sizes.items()})

    def with_503(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return measured(environ, start_response)
        except PoolTimeoutError:
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []

    return with_503


def by_hand(options: Options, bodies: Bodies) -> WSGIApplication:
    """Open a session in the view, and close it before the body is sent."""
    engine = create_engine(**options)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with Session(engine) as session:
            session.execute(SELECT)
        body = bodies[environ["PATH_INFO"]]
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app


def lists(options: Options, bodies: Bodies) -> WSGIApplication:
    """Answer with a list."""
    return SessionMiddleware(_plain(_of_environ, bodies), create_engine(**options))


def stream(options: Options, bodies: Bodies) -> WSGIApplication:
    """Answer with a stream that calls `release()`."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        _of_environ(environ).execute(SELECT)
        body = bodies[environ["PATH_INFO"]]
        start_response("200 OK", [("Content-Length", str(len(body)))])
        current_scope().release()
        for begin in range(0, len(body), CHUNK):
            yield body[begin : begin + CHUNK]

    return SessionMiddleware(app, create_engine(**options))


def flask(options: Options, bodies: Bodies) -> WSGIApplication:
    """Use Flask under a rule: its bodies are objects, with a Content-Length."""
    return SessionMiddleware(_flask(_of_environ, bodies), create_engine(**options), commit=on_unsafe_success)


def flask_by_default(options: Options, bodies: Bodies) -> WSGIApplication:
    """Use Flask as it is by default: its views commit."""
    return SessionMiddleware(_flask(_of_environ, bodies), create_engine(**options))


def flask_chunks(options: Options, bodies: Bodies) -> WSGIApplication:
    """Use Flask under a rule, with bodies of several chunks and no Content-Length, and give reads back early."""
    app = _flask(_of_environ, bodies, in_chunks=True)
    return SessionMiddleware(app, create_engine(**options), commit=on_unsafe_success, release_reads=True)


def generator_after_a_select(options: Options, bodies: Bodies) -> WSGIApplication:
    """Use a body that is made as it is read, after a SELECT in the handler, and give reads back early."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        _of_environ(environ).execute(SELECT)
        body = bodies[environ["PATH_INFO"]]
        start_response("200 OK", [])
        return (body[begin : begin + CHUNK] for begin in range(0, len(body), CHUNK))

    return SessionMiddleware(app, create_engine(**options), release_reads=True)


def flask_until_close(options: Options, bodies: Bodies) -> WSGIApplication:
    """Use Flask with ``commit=until_close``, which is not for it, for a body may still want its transaction."""
    return SessionMiddleware(_flask(_of_environ, bodies), create_engine(**options), commit=until_close)


def django(options: Options, bodies: Bodies) -> WSGIApplication:
    """Use Django under a rule, with its CommonMiddleware, which sets Content-Length."""
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import re_path

    def view(request: HttpRequest) -> HttpResponse:
        _of_environ(request.META).execute(SELECT)
        return HttpResponse(bodies[request.path])

    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DEBUG_PROPAGATE_EXCEPTIONS=True,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        ROOT_URLCONF=(re_path("", view),),
        SECRET_KEY="-",
    )
    return SessionMiddleware(get_wsgi_application(), create_engine(**options), commit=on_unsafe_success)


def thread_local(options: Options, bodies: Bodies) -> WSGIApplication:
    """Follow the documented recipe: a thread-local `scoped_session`, removed when the response is closed."""
    from werkzeug.wsgi import ClosingIterator

    registry = scoped_session(sessionmaker(create_engine(**options)))
    measured = _plain(lambda environ: registry, bodies)

    def removing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return ClosingIterator(measured(environ, start_response), registry.remove)
        except BaseException:
            registry.remove()
            raise

    return removing


def flask_sqlalchemy(options: Options, bodies: Bodies) -> WSGIApplication:
    """Use Flask-SQLAlchemy, which removes its session when the view has returned, before the body is sent."""
    from flask_sqlalchemy import SQLAlchemy

    database = SQLAlchemy(engine_options=options)
    app = _flask(lambda environ: database.session, bodies)
    database.init_app(app)
    return app


SETUPS: dict[str, Setup] = {
    setup.__name__: setup
    for setup in (
        by_hand,
        lists,
        stream,
        flask,
        flask_by_default,
        flask_chunks,
        generator_after_a_select,
        django,
        flask_until_close,
        thread_local,
        flask_sqlalchemy,
    )
}


def _plain(session_of: Callable[[WSGIEnvironment], Any], bodies: Bodies) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session_of(environ).execute(SELECT)
        body = bodies[environ["PATH_INFO"]]
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return app


def _flask(session_of: Callable[[WSGIEnvironment], Any], bodies: Bodies, *, in_chunks: bool = False) -> Flask:
    from flask import Flask, Response, request

    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get("/<path:_>")
    def view(_: str) -> Response:
        session_of(request.environ).execute(SELECT)
        body = bodies[request.path]
        return Response([body[begin : begin + CHUNK] for begin in range(0, len(body), CHUNK)] if in_chunks else body)

    return app


def _of_environ(environ: WSGIEnvironment) -> Any:
    return environ["sqlalchemy.session"]
