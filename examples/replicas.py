"""The reading list of ``demo.py`` over a PostgreSQL and two standbys, and a page that shows where each request went.

::

    make replicas        # or, in the folder of demo.py: python -m examples.replicas --port 8123

It starts all three servers in temporary folders, and ends them with itself. Open ``/replicas``, add a book, and see
which server the page was read from; then have a standby stand still, or both, and do it again.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from jinja2 import Environment
from sqlalchemy import Engine, create_engine, func, select, text
from webob import Request, Response, exc  # type: ignore[import-untyped]

import demo
from tests import machine, replication
from wsgi_session import RetryMiddleware, SessionMiddleware, on_unsafe_success
from wsgi_session.inspector import Inspector
from wsgi_session.observe import Recorder, is_local
from wsgi_session.replicas import Replicas

KEY = "examples.replicas"
"""Where the site is in the environ, and where a request went."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Where a request went."""

    request: str
    server: str
    reason: str
    waited: float
    """The seconds until it was known."""


@dataclass(frozen=True, slots=True)
class Standby:
    """How a standby is, asked now."""

    number: int
    is_paused: bool
    missing: int
    """The bytes of the log that it has not replayed yet."""

    late: float
    """The seconds since the last change that it has replayed; 0 if it lacks none."""


@dataclass(slots=True)
class Site:
    """The servers, and where requests went.  Lives as long as the program."""

    servers: list[replication.Member]
    """The primary first."""

    engines: list[Engine]
    """Of each."""

    replicas: Replicas
    visits: deque[Visit] = field(default_factory=lambda: deque(maxlen=12))

    def choose(self, environ: WSGIEnvironment) -> Engine:
        """Have `Replicas` choose, and note what it has chosen."""
        began = time.monotonic()
        engine = self.replicas(environ)
        waited = time.monotonic() - began
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        server = self.name_of(engine)
        self.visits.appendleft(Visit(request, server, reason(environ, server), waited))
        return engine

    def is_retryable(self, error: BaseException, environ: WSGIEnvironment | None, engine: Engine | None) -> bool:
        """Say whether to repeat a request, here or on the primary."""
        return demo.is_conflict(error) or self.replicas.is_retryable(error, environ, engine)

    def name_of(self, engine: Engine) -> str:
        """Say which server an engine is of."""
        number = self.engines.index(engine)
        return f"standby {number}" if number else "primary"

    def standbys(self) -> list[Standby]:
        """Ask each standby how it is."""
        with self.engines[0].connect() as connection:
            position = connection.scalar(text("SELECT pg_current_wal_insert_lsn()"))
        return [self._asked(number, position) for number in (1, 2)]

    def _asked(self, number: int, position: str) -> Standby:
        with self.engines[number].connect() as connection:
            is_paused, missing, late = connection.execute(HOW_LATE, {"position": position}).one()
        return Standby(number, is_paused, max(0, int(missing)), float(late or 0) if missing > 0 else 0.0)


HOW_LATE = text(
    "SELECT pg_is_wal_replay_paused(), pg_wal_lsn_diff(CAST(:position AS pg_lsn), pg_last_wal_replay_lsn()),"
    " extract(epoch FROM now() - pg_last_xact_replay_timestamp())"
)


def reason(environ: WSGIEnvironment, server: str) -> str:
    """Say why a request went to a *server*."""
    if server != "primary":
        return "it has what this browser has seen"
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return "it may write"
    return "no standby has what this browser has seen, or is up"


# --- The pages -------------------------------------------------------------------------------------------------------


@demo.route("GET /replicas")
def show_replicas(request: Request) -> Response:
    """Count the books, which is a read that goes somewhere, and show where it went."""
    site: Site = request.environ[KEY]
    count = demo.Session.scalar(select(func.count(demo.Book.id)))
    page = PAGE.render(
        count=count,
        server=site.name_of(demo.Session().get_bind().engine),
        visits=list(site.visits),
        standbys=site.standbys(),
        gauges=site.replicas.gauges(),
    )
    return Response(page)


@demo.route("POST /replicas/book")
def add_book(_request: Request) -> Response:
    """Add a book, and send the browser on to a page that must show it."""
    demo.Session.add(demo.Book(title=f"Written at {time.strftime('%H:%M:%S')}"))
    return exc.HTTPSeeOther(location="/replicas")


@demo.route("POST /replicas/pause")
def pause(request: Request) -> Response:
    """Have a standby stand still."""
    standby_of(request).pause()
    return exc.HTTPSeeOther(location="/replicas")


@demo.route("POST /replicas/resume")
def resume(request: Request) -> Response:
    """Have a standby go on."""
    standby_of(request).resume()
    return exc.HTTPSeeOther(location="/replicas")


def standby_of(request: Request) -> replication.Member:
    """Return the standby that a form names."""
    site: Site = request.environ[KEY]
    standbys = dict(zip("12", site.servers[1:], strict=True))
    try:
        return standbys[request.form.get("standby")]
    except KeyError:
        raise exc.HTTPNotFound("There is no such standby.") from None


PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
{{ head | safe }}
<title>Where each request went</title>
<style>{{ style }}</style>
<main>
<header>
<h1>Where each request went</h1>
<p>This page has counted <strong>{{ count }} books</strong>. It was read from the <strong>{{ server }}</strong>.</p>
</header>
<section class="card">
<h2>Write</h2>
<p>The primary adds a book. This page comes next, and has to count it.</p>
<form method="post" action="/replicas/book"><button>Add a book</button></form>
</section>
<section class="card">
<h2>Servers</h2>
<ul>
<li>primary <span class="soft">requests: {{ gauges.servers[0].requests }}</span></li>
{% for standby in standbys %}
{% set verb = "Resume" if standby.is_paused else "Pause" %}
<li><form method="post" action="/replicas/{{ verb | lower }}">
<input type="hidden" name="standby" value="{{ standby.number }}">
<span class="title">standby {{ standby.number }}
<span class="soft">requests: {{ gauges.servers[standby.number].requests }};
{% if standby.missing %}late by {{ "%.1f" | format(standby.late) }} s, {{ standby.missing }} bytes
{% else %}not late
{% endif %}</span></span>
<button aria-label="{{ verb }} standby {{ standby.number }}">{{ verb }}</button>
</form></li>
{% endfor %}
</ul>
</section>
<section class="card">
<h2>Requests, the last one first</h2>
<ul>
{% for visit in visits %}
<li><strong>{{ visit.server }}</strong> {{ visit.request }}
<span class="soft">because {{ visit.reason }}; after {{ "%.0f" | format(1000 * visit.waited) }} ms</span></li>
{% endfor %}
</ul>
</section>
<p><a href="/replicas">Read again</a> · <a href="/">The reading list</a> ·
<a href="/-/inspector/pools">The inspector</a></p>
</main>
""")
PAGE.globals.update(head=demo.HEAD, style=demo.STYLE)


# --- The application -------------------------------------------------------------------------------------------------


def make_application(servers: list[replication.Member]) -> WSGIApplication:
    """Build the application over the servers, of which the first is the primary."""
    primary, *standbys = engines = [create_engine(server.url, connect_args=TIMEOUT) for server in servers]
    replicas = Replicas(primary, standbys, wait=0.3)
    site = Site(servers, engines, replicas)
    demo.Session.configure(bind=primary)
    demo.create_tables(primary)
    while any(standby.missing for standby in site.standbys()):
        time.sleep(0.05)
    recorder = Recorder(statements=True)
    application: WSGIApplication = SessionMiddleware(
        demo.reading_list, demo.Session, commit=on_unsafe_success, bind=site.choose, recorder=recorder
    )
    application = replicas.middleware(application, secret=secrets.token_hex())
    application = demo.FailurePages(RetryMiddleware(application, is_retryable=site.is_retryable), recorder)
    application = Inspector(recorder, allow=is_local).mounted(application)  # at /-/inspector

    def with_site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[KEY] = site
        return application(environ, start_response)

    return with_site


TIMEOUT = {"connect_timeout": 2}


@contextmanager
def undisturbed() -> Iterator[None]:
    """End what was started, however often somebody presses Ctrl-C."""
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def serve(port: int) -> None:
    """Start the servers, and serve until Ctrl-C."""
    address = ("127.0.0.1", port)
    with (
        replication.postgresql(2) as (primary, standbys),
        undisturbed(),
        demo.Server(address, demo.RequestHandler) as server,
    ):
        server.set_app(make_application([primary, *standbys]))
        place = f"http://127.0.0.1:{server.server_port}/replicas"
        print(f"A primary and two standbys: {place} (Ctrl-C ends them)", flush=True)  # noqa: T201
        server.serve_forever()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="The reading list over three servers, on this computer only.")
    parser.add_argument("--port", type=int, default=8000, help="0 is any that is free (default: %(default)s)")
    options = parser.parse_args()
    if machine.postgresql_binaries() is None:
        sys.exit("This example needs PostgreSQL's server programs, and found none: apt install postgresql")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        serve(options.port)
    except KeyboardInterrupt:
        pass
    except (OSError, OverflowError) as error:
        sys.exit(f"This example cannot listen on port {options.port}: {error}")


if __name__ == "__main__":
    main()
