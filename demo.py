"""A reading list that shows what wsgi_session does: ``make demo`` serves it, with four experiments and the inspector.

::

    python demo.py --port 8123 --database reading-list.db

Every request has a session, which ``Session`` finds. No view below commits, rolls back or closes it: the middleware
does, and the page says what it did, as the recorder has seen it.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from html import escape
from inspect import getsource
from itertools import groupby
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sqlalchemy import URL, Engine, create_engine, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    is_retryable,
    on_unsafe_success,
    session_scope,
)
from wsgi_session.observe import OutcomeKind, Recorder, RequestRecord, is_local

try:
    from jinja2 import Environment
    from webob import Request, Response, exc  # type: ignore[import-untyped]

    from wsgi_session.inspector import Inspector
except ModuleNotFoundError as missing:
    sys.exit(f"demo.py needs {missing.name!r}: pip install 'wsgi-session[demo]'")

# --- The table, and the registry --------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Book(Base):
    """A book, and the page up to which it has been read."""

    __tablename__ = "books"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    page: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # a late UPDATE raises StaleDataError


Session = RequestScopedSession(sessionmaker())  # make_application() tells it the engine

# --- The application, from the inside out -----------------------------------------------------------------------------


def make_application(engine: Engine) -> WSGIApplication:
    """Build the application on the database of *engine*."""
    Session.configure(bind=engine)
    create_tables(engine)
    recorder = Recorder(statements=True)
    application: WSGIApplication = SessionMiddleware(
        reading_list, Session, commit=on_unsafe_success, release_reads=True, recorder=recorder
    )
    application = FailurePages(RetryMiddleware(application, is_retryable=is_conflict), recorder)
    return Inspector(recorder, allow=is_local).mounted(application)  # at /-/inspector


def create_tables(engine: Engine) -> None:
    """Create the table and, in a new database, a few books."""
    is_new = not inspect(engine).has_table(Book.__tablename__)
    Base.metadata.create_all(engine)
    if is_new:
        with session_scope(Session) as session:  # outside of a request: a block, which commits at its end
            session.add_all(Book(title=title) for title in ("Middlemarch", "Invisible Cities", "The Dispossessed"))


def is_conflict(error: BaseException) -> bool:
    """Say whether to repeat a request: another one has changed its row, or the database asks for it."""
    return isinstance(error, StaleDataError) or is_retryable(error)


View: TypeAlias = Callable[[Request], Response]


class Route(NamedTuple):
    """A view; one that is an experiment has a title and a button on the first page."""

    method: str
    path: str
    view: View
    title: str
    button: str


ROUTES: dict[str, Route] = {}


def route(name: str, title: str = "", button: str = "") -> Callable[[View], View]:
    """Put a view into the table, by its method and path."""

    def put(view: View) -> View:
        method, path = name.split()
        ROUTES[name] = Route(method, path, view, title, button)
        return view

    return put


def reading_list(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request. What a view raises goes out through the `SessionMiddleware`, which rolls back."""
    request = Request(environ)
    if request.headers.get("Origin", request.host_url) != request.host_url:
        raise exc.HTTPForbidden("This form was sent by a page of another site.")
    try:
        name, request.form = f"{request.method} {request.path_info}", read_form(request)
    except (ValueError, OSError) as error:  # no number, no UTF-8; or a client that has gone away
        raise exc.HTTPBadRequest("This request cannot be read: it is incomplete, too long, or not UTF-8.") from error
    found = ROUTES.get(name.replace("HEAD ", "GET "))
    if found is None:
        raise exc.HTTPNotFound(f"Nothing answers {name}.")
    response: WSGIApplication = found.view(request)
    return response(environ, start_response)


def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form, if it is UTF-8, short, and all there."""
    if not 0 <= (request.content_length or 0) <= 10_000:
        raise ValueError(f"a body of {request.content_length} bytes")
    return dict(parse_qsl(request.body.decode(), errors="strict"))


# --- The experiments: the first page shows their source ---------------------------------------------------------------


@route("POST /", "It commits", button="Add book")
def add_book(request: Request) -> Response:
    """A redirect is a success, so the middleware commits before it sends one. If COMMIT failed, you would get a 500."""
    title = request.form.get("title", "").strip()
    if not 0 < len(title) <= 200:
        raise exc.HTTPBadRequest("1 to 200 letters, please.")
    Session.add(Book(title=title))
    return exc.HTTPSeeOther(location="/")


@route("POST /fail", "It fails, and nothing is kept", button="Fail after an INSERT")
def fail(_request: Request) -> Response:
    """The view fails after its INSERT was sent. The middleware rolls back, and the list stays as it was."""
    Session.add(Book(title="A book that never was"))
    Session.flush()
    raise RuntimeError("This view fails on purpose.")


@route("GET /read-slowly", "A slow reader does not hold a connection", button="Read slowly")
def read_slowly(request: Request) -> Response:
    """The connection goes back to the pool before the first byte (release_reads=True). Others can use it meanwhile."""
    titles = Session.scalars(select(Book.title)).all()
    return Response(app_iter=slowly(titles, request.recorder))


@route("POST /conflict", "Two tabs in conflict: one is repeated", button="Read on in two tabs")
def read_on_in_two_tabs(request: Request) -> Response:
    """Another tab changes the row that this request has read. So it is repeated, and the pages of both tabs count."""
    book = find_book()
    if request.environ["retry.attempt"] == 0:
        read_on_in_another_tab(book.id)
    book.page += 10
    return exc.HTTPSeeOther(location="/")


def slowly(titles: Iterable[str], recorder: Recorder) -> Iterator[bytes]:
    """Yield a page, a line in half a second, as a reader with a slow connection gets it."""
    yield SLOW_PAGE.encode()
    for title in titles:
        time.sleep(0.5)
        yield f"<p>{escape(title)} ({len(recorder.holders())} connections in use)</p>".encode()
    yield b'<p><a href="/">Back to the list, and to what this request did</a></p>'


def read_on_in_another_tab(book_id: int) -> None:
    """Do in another thread what the request of another tab would do, and commit it."""

    @session_scope(Session)
    def read_on() -> None:
        find_book(Book.id == book_id).page += 10

    thread = Thread(target=read_on)
    thread.start()
    thread.join()


# --- The list ---------------------------------------------------------------------------------------------------------


@route("GET /")
def show_list(request: Request) -> Response:
    """Show the list and, above it, what the last request did."""
    return first_page(request.recorder)


@route("POST /read")
def read_on(request: Request) -> Response:
    """Note that ten more pages have been read."""
    find_book(Book.id == request.form.get("id")).page += 10
    return exc.HTTPSeeOther(location="/")


@route("POST /delete")
def delete_book(request: Request) -> Response:
    """Delete a book."""
    Session.delete(find_book(Book.id == request.form.get("id")))
    return exc.HTTPSeeOther(location="/")


def find_book(*conditions: Any) -> Book:
    """Return the first book for which the conditions are true, or refuse the request."""
    if book := Session.scalars(select(Book).where(*conditions)).first():
        return book
    raise exc.HTTPNotFound("There is no such book.")


def first_page(recorder: Recorder, status: int = 200, failure: str = "") -> Response:
    """Make the first page, which is also shown when a request has failed."""
    books = Session.scalars(select(Book).order_by(Book.id.desc())).all()
    records = recorder.records
    last = records[-1 - records[-1].attempt :] if records else ()  # each attempt has a record
    experiments = [one for one in ROUTES.values() if one.title]
    return Response(PAGE.render(books=books, last=last, experiments=experiments, failure=failure), status=status)


def steps(record: RequestRecord) -> str:
    """Say what a request did, such as ``POST / → INSERT → COMMIT before the first byte → 303``."""
    names = {"commit": "COMMIT before the first byte"}
    kinds = [kind for kind, _ in groupby(one.kind for one in record.statements) if kind != "end"]
    is_answered = record.status is not None and record.outcome.kind is not OutcomeKind.ROLLED_BACK
    answer = str(record.status) if is_answered else "an exception"
    return " → ".join([f"{record.method} {record.path}", *(names.get(kind, kind.upper()) for kind in kinds), answer])


def source(function: Callable[..., object]) -> str:
    """Return the lines of a function, but for its decorator and its docstring."""
    before, _docstring, after = getsource(function).split('"""')
    return before[before.index("def ") :].rstrip() + after


# --- The failure pages: outside of the middleware, so all is rolled back when they are made ---------------------------


class FailurePages:
    """Answer with the first page, and with the reason, when *app* raises.  Lives as long as the application."""

    def __init__(self, app: WSGIApplication, recorder: Recorder) -> None:
        """Wrap *app*, whose views find the *recorder* in their request."""
        self.app, self.recorder = app, recorder

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        request.recorder = self.recorder  # WebOb keeps it in the environ
        try:
            response = request.get_response(self.app)
        except Exception as error:
            status, reason = 500, f"The view has raised {type(error).__name__}. The log says more."
            if isinstance(error, exc.WSGIHTTPException):
                status, reason = error.code, str(error.detail)
            else:
                logging.exception("%s %r failed", request.method, request.path)
            with session_scope(Session, commit=False):  # that of the request has ended
                response = first_page(self.recorder, status, reason)
        body: Iterable[bytes] = response(environ, start_response)
        return body


# --- The program ------------------------------------------------------------------------------------------------------


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, so that one that is idle does not keep the others waiting."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet about a client that has gone away, or fallen asleep."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class RequestHandler(WSGIRequestHandler):
    """Waits for a client, but not for ever."""

    timeout = 30


def main() -> None:
    """Serve the reading list until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A reading list, on this computer only.")
    parser.add_argument("--port", type=int, default=8000, help="0 is any that is free (default: %(default)s)")
    parser.add_argument("--database", default="reading-list.db", help="an SQLite file (default: %(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    url = URL.create("sqlite", database=os.path.abspath(options.database))
    try:
        with Server(("127.0.0.1", options.port), RequestHandler) as server:
            server.set_app(make_application(create_engine(url)))
            print(f"Reading list on http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)  # noqa: T201
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    except DBAPIError as error:
        sys.exit(f"demo.py: cannot use the database {options.database!r}: {error.orig}")
    except (OSError, OverflowError) as error:
        sys.exit(f"demo.py: cannot listen on port {options.port}: {error}")


# --- The page ---------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --paper: #f6f2ea; --card: #fffdf9; --ink: #241e17; --soft: #655b4f; --line: #d8cdbb;
  --edge: #85796a; --accent: #0b6152; --on-accent: #fff; --alarm: #a3271c; }
@media (prefers-color-scheme: dark) { :root { --paper: #181512; --card: #231f1b; --ink: #eee7dc; --soft: #b6ab9c;
  --line: #3b342c; --edge: #8f8475; --accent: #7bd3bf; --on-accent: #06231d; --alarm: #ffa194; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 1.0625rem/1.5 system-ui, sans-serif; }
main { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.25rem; max-width: 72rem; margin-inline: auto;
  padding: clamp(1.25rem, 4vw, 3rem) 1rem; overflow-wrap: break-word; }
h1, h2, h3 { font-family: Georgia, serif; line-height: 1.25; }
h1 { font-size: clamp(1.75rem, 6vw, 2.5rem); margin-bottom: .5rem; }
h3 { font-size: 1.125rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
section, article { display: grid; grid-template-columns: minmax(0, 1fr); gap: .75rem; align-content: start; }
.card, article { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem 1.25rem; }
.last { border-left: .375rem solid var(--accent); }
.alarm { border-left: .375rem solid var(--alarm); }
pre { font: .78rem/1.5 ui-monospace, monospace; white-space: pre-wrap; padding: .625rem; background: var(--paper);
  border-radius: .5rem; }
.soft { color: var(--soft); }
form { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; }
button, input { font: inherit; color: inherit; min-height: 2.75rem; padding: .375rem .875rem; border-radius: .5rem; }
input { flex: 1; min-width: 8rem; background: var(--paper); border: 1px solid var(--edge); }
button { cursor: pointer; border: 0; background: var(--accent); color: var(--on-accent); font-weight: 600; }
.title { flex: 1; min-width: 8rem; }
li button { background: none; color: var(--soft); font-weight: 400; text-decoration: underline; padding: 0; }
ol, ul { list-style: none; padding: 0; }
li + li { border-top: 1px solid var(--line); padding-top: .5rem; margin-top: .5rem; }
.two { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.25rem; }
@media (min-width: 56rem) { .two { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""

HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
"""

SLOW_PAGE = f"{HEAD}<title>Slowly</title><style>{STYLE}</style><main><h1>Slowly</h1>"

PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
{{ head | safe }}
<title>{{ failure or "A reading list on wsgi_session" }}</title>
<style>{{ style }}</style>
<main>
<header>
<h1>A reading list on wsgi_session</h1>
<p>wsgi_session gives each request its own SQLAlchemy session. It commits before the client is told of a success, it
rolls back when a view fails, and it gives the connection back as soon as it can. The views below do none of that.</p>
</header>
{% if failure %}
<p class="card alarm" role="alert"><strong>{{ failure }}</strong> Nothing of it was saved.</p>
{% endif %}
<section class="card last">
<h2>What the last request did</h2>
<ol>
{% for record in last %}
<li><strong>{{ steps(record) }}</strong><br>
<span class="soft">{{ record.outcome }}. The connection was held for {{ "%.1f" % (1000 * record.held) }} ms of
{{ "%.1f" % (1000 * record.duration) }} ms.</span>
<a href="/-/inspector/requests/{{ record.number }}">Request {{ record.number }} in the inspector</a></li>
{% else %}
<li>There was none yet. Press a button.</li>
{% endfor %}
</ol>
</section>
<h2>Four experiments, and their source</h2>
<div class="two">
{% for one in experiments %}
<article>
<h3>{{ one.title }}</h3>
<p>{{ one.view.__doc__ }}</p>
<pre>{{ source(one.view) }}</pre>
<form method="{{ one.method | lower }}" action="{{ one.path }}">
{% if one.path == "/" %}
<label for="title">Title</label> <input id="title" name="title" required maxlength="200" autocomplete="off">
{% endif %}
<button>{{ one.button }}</button>
</form>
</article>
{% endfor %}
</div>
<section class="card">
<h2>The list</h2>
<ul>
{% for book in books %}
<li><form method="post"><input type="hidden" name="id" value="{{ book.id }}">
<span class="title"><strong>{{ book.title }}</strong> <span class="soft">read up to page {{ book.page }}</span></span>
<button formaction="/read" aria-label="Read ten pages of {{ book.title }}">Read on</button>
<button formaction="/delete" aria-label="Delete {{ book.title }}">Delete</button>
</form></li>
{% else %}
<li>No books yet. Which one is next?</li>
{% endfor %}
</ul>
</section>
<section class="card">
<h2>How it is put together</h2>
<pre>{{ source(make_application) }}</pre>
<p>The <a href="/-/inspector/">inspector</a> has all requests since the start.</p>
</section>
</main>
""")
PAGE.globals.update(head=HEAD, make_application=make_application, source=source, steps=steps, style=STYLE)

if __name__ == "__main__":
    main()
