"""A reading list: what wsgi_session does for an application, in one file.

::

    python demo.py --port 8123 --database reading-list.db
    python -m examples.inspector        # the same, with pages that show what each request did to the database

Every request has a session: ``Session`` finds it. The pages below never commit, roll back or close it: the middleware
commits before the first byte of an answer is sent, if a POST succeeded, and ends the session when the answer is out.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import csv
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any, TypeAlias, cast
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sqlalchemy import URL, Engine, QueuePool, create_engine, func, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from wsgi_session import RequestScopedSession, Scope, SessionMiddleware, current_scope, on_unsafe_success, session_scope

try:
    from jinja2 import DictLoader, Environment
    from webob import Request, Response, exc  # type: ignore[import-untyped]
except ModuleNotFoundError as missing:
    sys.exit(f"demo.py needs {missing.name!r}: pip install 'wsgi-session[demo]'")

# --- The model: plain SQLAlchemy -------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    """What the tables are declared on."""


class Book(Base):
    """A book to read, or one that has been read."""

    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author: Mapped[str] = mapped_column(default="")
    is_read: Mapped[bool] = mapped_column(default=False)


SAMPLES = [
    ("A Wizard of Earthsea", "Ursula K. Le Guin", True),
    ("Invisible Cities", "Italo Calvino", False),
    ("Middlemarch", "George Eliot", False),
]

# --- The registry: made here, where everybody can import it; make_application() tells it the engine ------------------

Session = RequestScopedSession(sessionmaker())

# --- The application: finds the page for a request -------------------------------------------------------------------

Page: TypeAlias = Callable[..., Response]

ROUTES: dict[str, dict[str, Page]] = {}
"""The pages, by the pattern of their path and their method."""

BODY_LIMIT = 100_000
"""The longest form that is read, in bytes."""

log = logging.getLogger("demo")


def make_application(engine: Engine) -> WSGIApplication:
    """Build the application from the inside out, on the database of *engine*."""
    Session.configure(bind=engine)
    create_tables(engine)
    middleware = SessionMiddleware(reading_list, Session, commit=on_unsafe_success)
    middleware.on_request_end(count_request)
    return FailurePages(middleware)


def create_tables(engine: Engine) -> None:
    """Create the tables and, in a new database, a few books."""
    is_new = not inspect(engine).has_table(Book.__tablename__)
    Base.metadata.create_all(engine)
    if is_new:
        with session_scope(Session) as session:  # outside of a request: a block, which commits at its end
            session.add_all(Book(title=title, author=author, is_read=is_read) for title, author, is_read in SAMPLES)


def route(method: str, pattern: str) -> Callable[[Page], Page]:
    """Put a page into the table; the groups of *pattern* are the page's arguments after the request."""

    def put(page: Page) -> Page:
        ROUTES.setdefault(pattern, {})[method] = page
        return page

    return put


def reading_list(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a request; what a page raises goes out through the `SessionMiddleware`, which rolls back."""
    request = Request(environ)
    page, arguments = find_page(request)
    response: WSGIApplication = page(request, *arguments)
    return response(environ, start_response)


def find_page(request: Request) -> tuple[Page, tuple[str, ...]]:
    """Look the request up in the table, and read its input.

    Raises:
        webob.exc.HTTPException: If there is no such page, or the request is not one to answer.
    """
    if request.method not in ("GET", "HEAD") and is_from_elsewhere(request):
        raise exc.HTTPForbidden("This form was sent by a page of another site.")
    try:
        path, request.form = request.path_info, read_form(request)
    except (ValueError, OSError) as error:  # no number, no UTF-8; or a client that has gone away
        raise exc.HTTPBadRequest("This request cannot be read: it is incomplete, too long, or not UTF-8.") from error
    for pattern, pages in ROUTES.items():
        if match := re.fullmatch(pattern, path):
            method = "GET" if request.method == "HEAD" else request.method
            if method in pages:
                return pages[method], match.groups()
            allowed = ", ".join([*pages, "HEAD"] if "GET" in pages else pages)
            raise exc.HTTPMethodNotAllowed(f"This page does not answer {request.method}.", headers={"Allow": allowed})
    raise exc.HTTPNotFound("There is no such page.")


def read_form(request: Request) -> dict[str, str]:
    """Return the fields of the query and of the body.

    Raises:
        ValueError: If they are not UTF-8, or their length is not one to read.
        OSError: If the body ends too early.
    """
    if not 0 <= (request.content_length or 0) <= BODY_LIMIT:
        raise ValueError(f"a body of {request.content_length} bytes")
    texts = (request.query_string.encode("latin-1").decode(), request.body.decode())
    return {name: value for text in texts for name, value in parse_qsl(text, errors="strict")}


def is_from_elsewhere(request: Request) -> bool:
    """Say whether another site's page sent this form: a server on this computer is reachable from all of them."""
    origin = request.headers.get("Origin", request.host_url)
    return bool(request.headers.get("Sec-Fetch-Site") == "cross-site" or origin != request.host_url)


# --- The pages: they use the session, and leave its end to the middleware --------------------------------------------

TEXT_LIMIT = 200
"""The longest title, and the longest author, in characters."""


@route("GET", "/")
def show_list(request: Request, mistakes: dict[str, str] | None = None) -> Response:
    """Show the books, newest first, and the form for another one."""
    books = Session.scalars(select(Book).order_by(Book.id.desc())).all()
    status = 400 if mistakes else 200
    return render("list", status, books=books, form=request.form, mistakes=mistakes or {})


@route("POST", "/")
def add_book(request: Request) -> Response:
    """Add a book; the answer 303 is a success, so it is committed."""
    title, author = (" ".join(request.form.get(name, "").split()) for name in ("title", "author"))
    if mistakes := find_mistakes(title=title, author=author):
        return show_list(request, mistakes)  # 400 is none
    book = Book(title=title, author=author)
    Session.add(book)
    Session.flush()  # for the id
    return see_other(f"/#book-{book.id}")


@route("POST", "/books/([0-9]{1,18})/tick")
def tick_book(_request: Request, number: str) -> Response:
    """Tick a book off, or untick it."""
    book = find_book(number)
    book.is_read = not book.is_read
    return see_other(f"/#book-{book.id}")


@route("POST", "/books/([0-9]{1,18})/delete")
def delete_book(_request: Request, number: str) -> Response:
    """Delete a book."""
    Session.delete(find_book(number))
    return see_other("/#books")


@route("POST", "/fail")
def fail(_request: Request) -> Response:
    """Fail on purpose, after an INSERT: all that was written is rolled back."""
    before = count_books()
    Session.add(Book(title="A book that never was"))
    Session.flush()
    raise FailedOnPurposeError(
        f"There were {before} books, the INSERT made that {count_books()}, and then the page failed."
    )


@route("GET", "/export.csv")
def export(_request: Request) -> Response:
    """Send the books as CSV, each while the next is still in the database: the session lives until the last one."""
    return Response(
        app_iter=csv_lines(),
        content_type="text/csv",
        charset="utf-8",
        content_disposition='attachment; filename="reading-list.csv"',
    )


@route("GET", "/scope")
def show_scope(request: Request) -> Response:
    """Show what the scope of this very request is doing, step by step."""
    session, scope = Session(), current_scope()
    pool = cast("QueuePool", session.get_bind().engine.pool)
    steps = [("At first", session.in_transaction(), pool.checkedout())]
    count_books()
    steps.append(("After a query", session.in_transaction(), pool.checkedout()))
    scope.release()
    steps.append(("After release()", session.in_transaction(), pool.checkedout()))
    is_shared = request.environ["sqlalchemy.session"] is session
    return render("scope", scope=scope, steps=steps, is_shared=is_shared, ended=ended)


class FailedOnPurposeError(Exception):
    """What the page raises that fails on purpose."""


ended = 0
"""How many requests have ended."""
ended_lock = threading.Lock()


def count_request(_scope: Scope) -> None:
    """Count one more: an end hook, called on any thread."""
    global ended
    with ended_lock:
        ended += 1


def find_book(number: str) -> Book:
    """Return a book by its id, or refuse the request."""
    if book := Session.get(Book, int(number)):
        return book
    raise exc.HTTPNotFound("There is no such book; perhaps it has been deleted.")


def count_books() -> int:
    """Count the books, as the session sees them that belongs here."""
    return Session.scalar(select(func.count(Book.id))) or 0


def find_mistakes(**fields: str) -> dict[str, str]:
    """Say what is wrong with the fields of the form, by their name."""
    mistakes = {
        name: f"At most {TEXT_LIMIT} characters, please: this has {len(text)}."
        for name, text in fields.items()
        if len(text) > TEXT_LIMIT
    }
    return mistakes if fields["title"] else {**mistakes, "title": "A book needs a title."}


def csv_lines() -> Iterator[bytes]:
    """Yield a line for each book; the rows are fetched while the lines are sent."""
    writer = csv.writer(Echo())
    yield writer.writerow(["Title", "Author", "Read"]).encode()
    for book in Session.scalars(select(Book).order_by(Book.id).execution_options(yield_per=100)):
        cells = [without_formula(book.title), without_formula(book.author), "yes" if book.is_read else "no"]
        yield writer.writerow(cells).encode()


class Echo:
    """A file for `csv.writer`, whose ``writerow()`` returns what the file's ``write()`` does."""

    def write(self, line: str) -> Any:
        """Return *line*."""
        return line


def without_formula(text: str) -> str:
    """Keep a spreadsheet from running *text*."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def see_other(location: str) -> Response:
    """Send the browser on to *location*, with a GET."""
    return Response(status=303, location=location)


def render(template: str, status: int = 200, **values: object) -> Response:
    """Make a page out of a template; what is put in is escaped."""
    return Response(TEMPLATES.get_template(template).render(values), status=status)


# --- The failure pages: outside of the middleware, so that all is rolled back when they are made ---------------------

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'"
HEADERS = [
    ("Content-Security-Policy", f"{POLICY}; frame-ancestors 'none'"),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
]


class FailurePages:
    """Answer with a page when *app* raises.  Lives as long as the application."""

    def __init__(self, app: WSGIApplication) -> None:
        """Wrap *app*."""
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        try:
            response = request.get_response(self.app)
        except exc.WSGIHTTPException as refusal:
            response = render("failure", refusal.code, title=refusal.title, reason=refusal.detail)
            response.allow = refusal.allow
        except FailedOnPurposeError as error:
            response = render("failure", 500, title="Failed on purpose", reason=error, count=count_again())
        except Exception:
            log.exception("%s %r failed", request.method, request.path)
            reason = "This page has failed. The log says why."
            response = render("failure", 500, title="Internal Server Error", reason=reason, count=count_again())
        response.headers.update(HEADERS)
        body: Iterable[bytes] = response(environ, start_response)
        return body


def count_again() -> int | None:
    """Count the books in a session of its own: the request's has ended."""
    try:
        with session_scope(Session, commit=False):
            return count_books()
    except DBAPIError:  # perhaps that is why the page failed
        return None


# --- The program -----------------------------------------------------------------------------------------------------


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
    try:
        serve(options.port, Path(options.database).absolute())
    except KeyboardInterrupt:
        pass
    except DBAPIError as error:
        sys.exit(f"demo.py: cannot use the database {options.database!r}: {error.orig}")
    except (OSError, OverflowError) as error:
        sys.exit(f"demo.py: cannot listen on port {options.port}: {error}")


def serve(port: int, database: Path) -> None:
    """Serve the books of *database* on *port*."""
    with Server(("127.0.0.1", port), RequestHandler) as server:
        server.set_app(make_application(create_engine(URL.create("sqlite", database=str(database)))))
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"Reading list on {address} (Ctrl-C ends it)", flush=True)  # noqa: T201
        server.serve_forever()


# --- The templates, and the looks ------------------------------------------------------------------------------------

BASE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{% block title %}{% endblock %}</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E
%3Cpath fill='%230b6152' d='M3 1h10v14l-5-4-5 4z'/%3E%3C/svg%3E">
<style>{% include "style" %}</style>
</head>
<body>
<main>{% block main %}{% endblock %}</main>
</body>
</html>
"""

LIST = """\
{% extends "base" %}
{% macro field(name, label) %}
<p class="field">
<label for="{{ name }}">{{ label }}</label>
<input id="{{ name }}" name="{{ name }}" value="{{ form[name] }}" autocomplete="off" {{ caller() }}
  {%- if name in mistakes %} autofocus aria-invalid="true" aria-describedby="{{ name }}-mistake"{% endif %}>
{% if name in mistakes %}<span class="mistake" id="{{ name }}-mistake">{{ mistakes[name] }}</span>{% endif %}
</p>
{% endmacro %}
{% block title %}{{ "Not added" if mistakes else "Reading list" }}{% endblock %}
{% block main %}
<a class="skip" href="#books">Skip to the books</a>
<header>
<h1>Reading list</h1>
{% set done = books | selectattr("is_read") | list | length %}
<p>{{ books | length - done }} to read, {{ done }} read</p>
</header>
{% if mistakes %}
<div class="card alarm" role="alert">
<p><strong>The book was not added.</strong> Nothing was committed: an answer of 400 or more never is.</p>
<p><a href="/">Back to the list</a></p>
</div>
{% endif %}
<form class="card add" method="post" action="/">
{% call field("title", "Title") %}required{% endcall %}
{% call field("author", "Author (optional)") %}{% endcall %}
<button class="main">Add book</button>
</form>
<ul id="books" aria-label="Books" role="list" tabindex="-1">
{% for book in books %}
<li id="book-{{ book.id }}" class="{{ "read" if book.is_read }}">
<form method="post" action="/books/{{ book.id }}/tick">
<button class="tick" aria-label="{{ "Untick" if book.is_read else "Tick off" }} {{ book.title }}">
<span>{{ "✓" if book.is_read }}</span></button>
</form>
<div><h2>{{ book.title }}</h2>
<p>{{ book.author }}{{ " · " if book.author and book.is_read }}{{ "read" if book.is_read }}</p></div>
<form method="post" action="/books/{{ book.id }}/delete">
<button class="quiet" aria-label="Delete {{ book.title }}">Delete</button>
</form>
</li>
{% else %}
<li class="empty">No books yet. Which one is next?</li>
{% endfor %}
</ul>
<footer>
<a href="/export.csv">Export as CSV</a>
<a href="/scope">Look into the scope</a>
<form method="post" action="/fail"><button class="quiet">Fail on purpose</button></form>
</footer>
{% endblock %}
"""

FAILURE = """\
{% extends "base" %}
{% block title %}{{ title }}{% endblock %}
{% block main %}
<header><h1>{{ title }}</h1><p>{{ reason }}</p></header>
<div class="card alarm">
<h2>In the database</h2>
{% if count is undefined %}
<p>Nothing was committed: this left the application as an exception, so the middleware rolled back.</p>
{% elif count is none %}
<p>Nothing was committed. How many books there are cannot be said: the database does not answer.</p>
{% else %}
<p>Nothing was committed: what was written, such as an INSERT, was rolled back.
A fresh session counts <strong>{{ count }} {{ "book" if count == 1 else "books" }}</strong>.</p>
{% endif %}
</div>
<p><a href="/">Back to the list</a></p>
{% endblock %}
"""

SCOPE = """\
{% extends "base" %}
{% block title %}The scope of this request{% endblock %}
{% block main %}
<header><h1>The scope of this request</h1><p><code>{{ scope }}</code></p></header>
<dl class="card">
<dt>Its state</dt><dd>{{ scope.state.value }}</dd>
<dt><code>Session() is environ["sqlalchemy.session"]</code></dt><dd>{{ is_shared }}</dd>
<dt>Requests that have ended</dt><dd>{{ ended }}</dd>
</dl>
<div class="card"><table>
<thead><tr><th scope="col">When</th><th scope="col">Transaction</th><th scope="col">Connections</th></tr></thead>
<tbody>
{% for step, in_transaction, connections in steps %}
<tr><th scope="row">{{ step }}</th><td>{{ "open" if in_transaction else "none" }}</td><td>{{ connections }}</td></tr>
{% endfor %}
</tbody>
</table></div>
<p>A session takes a connection when it is first needed, and keeps it for one transaction.
<code>release()</code> gives it back before the request ends: before a slow call, for example.</p>
<p><a href="/">Back to the list</a></p>
{% endblock %}
"""

STYLE = """
:root { color-scheme: light dark; --paper: #f6f2ea; --card: #fffdf9; --ink: #241e17; --soft: #655b4f; --line: #e0d7c8;
  --edge: #85796a; --accent: #0b6152; --on-accent: #fff; --alarm: #a3271c; }
@media (prefers-color-scheme: dark) { :root { --paper: #181512; --card: #231f1b; --ink: #eee7dc; --soft: #b6ab9c;
  --line: #3b342c; --edge: #8f8475; --accent: #7bd3bf; --on-accent: #06231d; --alarm: #ffa194; } }
* { box-sizing: border-box; margin: 0; }
html { scroll-padding-block: 35vh; }
body { background: var(--paper); color: var(--ink); font: 1.0625rem/1.5 system-ui, sans-serif; }
main { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1.5rem; max-width: 46rem; margin-inline: auto;
  padding: clamp(1.5rem, 6vw, 4rem) 1rem; overflow-wrap: break-word; }
h1, h2 { font: 600 1.125rem/1.35 Georgia, serif; }
h1 { font-size: clamp(2rem, 8vw, 2.75rem); line-height: 1.15; margin-bottom: .5rem; }
header p, li p, .empty { color: var(--soft); }
a { color: var(--accent); text-underline-offset: .2em; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.skip:not(:focus) { position: absolute; clip-path: inset(50%); }
button, input { font: inherit; color: inherit; min-height: 2.75rem; padding: .5rem .75rem; border-radius: .5rem; }
button { cursor: pointer; border: 0; background: none; }
.main { background: var(--accent); color: var(--on-accent); font-weight: 600; }
.quiet { padding-inline: 0; color: var(--soft); text-decoration: underline; text-underline-offset: .2em; }
.quiet:hover, .mistake { color: var(--alarm); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1.25rem; }
.alarm { border-left: .375rem solid var(--alarm); }
.add { display: grid; gap: 1rem; }
.field { display: grid; gap: .25rem; }
label, dd, td { font-weight: 600; }
input { width: 100%; background: var(--paper); border: 1px solid var(--edge); }
ul { list-style: none; padding: 0; }
li { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: .75rem; padding-block: .75rem; }
li + li, footer, tr > * { border-top: 1px solid var(--line); }
li > div { align-self: center; }
.tick { display: grid; place-items: center; width: 2.75rem; margin-left: -.5rem; padding: 0; border-radius: 50%; }
.tick span { width: 1.75rem; height: 1.75rem; border: 2px solid var(--edge); border-radius: 50%; line-height: 1.5rem; }
.tick:hover span { border-color: var(--accent); }
.read .tick span { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.read h2 { color: var(--soft); text-decoration: line-through; }
footer { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem 1.5rem; padding-top: 1rem; }
dl { display: grid; gap: .25rem 1.5rem; }
dd { margin-bottom: .5rem; }
table { width: 100%; border-spacing: 0; }
th, td { text-align: left; vertical-align: top; padding: .625rem .75rem .625rem 0; }
th { font-weight: 400; }
thead th { border: 0; color: var(--soft); }
@media (min-width: 40rem) {
  .add { grid-template-columns: 1fr 1fr auto; align-items: start; }
  .add button { margin-top: 1.85rem; }
  dl { grid-template-columns: 1fr auto; }
}
"""

TEMPLATES = Environment(
    loader=DictLoader({"base": BASE, "list": LIST, "failure": FAILURE, "scope": SCOPE, "style": STYLE}),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)

if __name__ == "__main__":
    main()
