"""The servers: how each is started on a port, how it is stopped, and what it does otherwise than the others.

A difference is one of the server's own: it is there without the middleware, too. It is explained here, by the line of
the server's source that it comes from. ``make servers`` finds out whether it is there; no test does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from . import apache
from .place import Place

APPLICATION = "tests.servers.application:application"
BIN = Path(sys.executable).parent


class Behaviour(StrEnum):
    """A column of the table."""

    LIST = "a list"
    GENERATOR = "a generator"
    FILE = "a file"
    HEAD = "HEAD"
    ERROR = "an error in the call"
    BROKEN = "an error in mid-stream"
    LEAVE = "a client that leaves"
    SLOW = "a slow client"
    KEEP = "keep-alive"
    PAIR = "two streams at once"
    STOP = "a graceful stop"


class Difference(StrEnum):
    """What a server may do otherwise than PEP 3333, or an application's author, has in mind."""

    NEVER_CLOSED = "`close()` of the body is not called"
    NO_WRAPPER = "there is no `wsgi.file_wrapper`"
    NO_SENDFILE = "the file of a `wsgi.file_wrapper` is read in Python, not sent by `sendfile`"
    BODY_OF_HEAD = "the body is sent in answer to HEAD, too"
    NO_ANSWER = "the connection is closed without an answer"
    HANGS = "the client waits for an answer that never comes"
    LOOKS_WHOLE = "the client cannot tell the broken response from a whole one"
    NOT_NOTICED = "the whole body is produced for a client that has left"
    CLOSES = "the connection is closed after each response"
    ONE_AT_A_TIME = "the second request waits for the first"
    CUT_AT_STOP = "the response that is being sent is cut"
    KILLED = "the process has to be killed"
    OTHER_BODY = "the client does not receive what the application has sent"


@dataclass(frozen=True, slots=True)
class Quirk:
    """A difference, where it shows, and the server's source that says so."""

    difference: Difference
    behaviours: tuple[Behaviour, ...]
    source: str
    """The file: below ``site-packages`` or the standard library for Python, in the sources for other languages."""
    line: str = ""
    """A line of it."""
    lacks: str = ""
    """Or a word that is not in it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a server is not the same with the middleware: a known limit of this package."""

    behaviour: Behaviour
    step: str
    """The step that is taken only with the middleware."""
    text: str
    source: str
    line: str


Command = Callable[[Place], Iterable[object]]
"""Returns what starts a server at a place."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server in one of its modes."""

    name: str
    command: Command
    system: str = ""
    """What `tests.machine` has to find, for those that pip alone does not install."""
    stop: str = "SIGTERM"
    """The signal that asks for a graceful stop."""
    quirks: tuple[Quirk, ...] = ()
    limits: tuple[Limit, ...] = ()

    def differences(self, behaviour: Behaviour) -> frozenset[Difference]:
        """Return how this server is known to differ."""
        return frozenset(quirk.difference for quirk in self.quirks if behaviour in quirk.behaviours)

    def limit(self, behaviour: Behaviour) -> Limit | None:
        """Return the known limit of a behaviour."""
        return next((limit for limit in self.limits if limit.behaviour is behaviour), None)


def _started(name: str) -> Command:
    return lambda at: [sys.executable, "-m", "tests.servers.start", name, at.port]


def gunicorn(application: str, *options: str) -> Command:
    """Start gunicorn."""
    return lambda at: [BIN / "gunicorn", "--bind", f"127.0.0.1:{at.port}", "--no-control-socket", *options, application]


def uwsgi(application: str, *options: str, stop: bool = True) -> Command:
    """Start uWSGI; with *stop*, SIGTERM asks for a graceful stop, else it means what it means to uWSGI."""
    graceful = ["--hook-master-start", "unix_signal:15 gracefully_kill_them_all"] if stop else []
    common = ["--master", "--single-interpreter", *graceful, *options]
    return lambda at: [BIN / "pyuwsgi", "--http-socket", f"127.0.0.1:{at.port}", "--module", application, *common]


def twisted(application: str) -> Command:
    """Start Twisted."""
    listen = "--listen=tcp:{}:interface=127.0.0.1"
    wsgi = f"--wsgi={application.replace(':', '.')}"
    return lambda at: [sys.executable, "-m", "twisted", "web", listen.format(at.port), wsgi]


def _uvicorn(adapter: str) -> Command:
    application = f"tests.servers.adapters:{adapter}"
    return lambda at: [BIN / "uvicorn", "--factory", application, "--port", at.port, "--no-access-log"]


B, D = Behaviour, Difference  # for lines that can be read at a glance
BODIES = (B.GENERATOR, B.FILE, B.HEAD, B.BROKEN, B.LEAVE, B.SLOW, B.KEEP, B.PAIR, B.STOP)


def _no_wrapper(source: str) -> Quirk:
    return Quirk(D.NO_WRAPPER, (B.FILE,), source, lacks="file_wrapper")


def _reads_file(source: str, line: str) -> Quirk:
    return Quirk(D.NO_SENDFILE, (B.FILE,), source, line)


def _sends_body_of_head(source: str, line: str) -> Quirk:
    return Quirk(D.BODY_OF_HEAD, (B.HEAD,), source, line)


def _closes(source: str, line: str) -> Quirk:
    return Quirk(D.CLOSES, (B.KEEP,), source, line)


def _one_at_a_time(source: str, line: str) -> Quirk:
    return Quirk(D.ONE_AT_A_TIME, (B.PAIR,), source, line)


def _cut_at_stop(source: str, line: str = "", lacks: str = "") -> tuple[Quirk, ...]:
    return tuple(Quirk(one, (B.STOP,), source, line, lacks) for one in (D.NEVER_CLOSED, D.CUT_AT_STOP))


UWSGI_ERROR = "uwsgi_manage_exception(wsgi_req, uwsgi.catch_exceptions);"
UWSGI = (
    _sends_body_of_head("plugins/python/wsgi_subhandler.c", "pychunk = PyIter_Next(wsgi_req->async_placeholder);"),
    Quirk(D.NO_ANSWER, (B.ERROR,), "plugins/python/wsgi_subhandler.c", UWSGI_ERROR),
    Quirk(D.LOOKS_WHOLE, (B.BROKEN,), "plugins/python/wsgi_subhandler.c", UWSGI_ERROR),
    _closes("core/uwsgi.c", "bind to the specified UNIX/TCP socket using HTTP protocol"),
)

A2WSGI = (
    _no_wrapper("a2wsgi/wsgi.py"),
    Quirk(D.NOT_NOTICED, (B.LEAVE,), "a2wsgi/wsgi.py", "for chunk in iterable:"),
)


def _never_closed(source: str, line: str) -> tuple[Quirk, ...]:
    return (
        _no_wrapper(source),
        Quirk(D.NEVER_CLOSED, BODIES, source, line),
        Quirk(D.NOT_NOTICED, (B.LEAVE,), source, line),
    )


TORNADO = (
    _no_wrapper("tornado/wsgi.py"),
    Quirk(
        D.HANGS, (B.ERROR, B.BROKEN), "tornado/wsgi.py", "IOLoop.current().spawn_callback(self.handle_request, request)"
    ),
    Quirk(D.CUT_AT_STOP, (B.STOP,), "tornado/httpserver.py", "await conn.close()"),
    Quirk(D.NOT_NOTICED, (B.LEAVE,), "tornado/wsgi.py", "await loop.run_in_executor(self.executor, next_chunk)"),
)

SERVERS = (
    Server(
        "wsgiref",
        _started("wsgiref"),
        quirks=(
            _reads_file("wsgiref/util.py", "data = self.filelike.read(self.blksize)"),
            _sends_body_of_head("wsgiref/handlers.py", "for data in self.result:"),
            Quirk(D.LOOKS_WHOLE, (B.BROKEN,), "wsgiref/handlers.py", 'http_version  = "1.0"'),
            _closes("wsgiref/handlers.py", 'http_version  = "1.0"'),
            _one_at_a_time("wsgiref/simple_server.py", "class WSGIServer(HTTPServer):"),
        ),
    ),
    Server(
        "Werkzeug",
        _started("werkzeug"),
        quirks=(
            _no_wrapper("werkzeug/serving.py"),
            _sends_body_of_head("werkzeug/serving.py", "for data in application_iter:"),
            _closes("werkzeug/serving.py", 'self.send_header("Connection", "close")'),
            *_cut_at_stop("werkzeug/serving.py", "daemon_threads = True"),
        ),
    ),
    Server(
        "waitress",
        _started("waitress"),
        quirks=(
            _reads_file("waitress/buffers.py", "res = file.read(numbytes)"),
            _sends_body_of_head("waitress/task.py", "for chunk in app_iter:"),
        ),
    ),
    Server(
        "gunicorn, sync",
        gunicorn(APPLICATION),
        quirks=(
            _closes("gunicorn/workers/sync.py", "resp.force_close()"),
            _one_at_a_time("gunicorn/workers/sync.py", "self.handle(listener, client, addr)"),
        ),
    ),
    Server("gunicorn, gthread", gunicorn(APPLICATION, "--worker-class=gthread", "--threads=4")),
    Server(
        "gunicorn, gevent",
        gunicorn(APPLICATION, "--worker-class=gevent"),
        quirks=(_reads_file("gevent/_socket3.py", "return self._sendfile_use_send(file, offset, count)"),),
    ),
    Server(
        "cheroot",
        _started("cheroot"),
        quirks=(
            _no_wrapper("cheroot/wsgi.py"),
            _sends_body_of_head("cheroot/wsgi.py", "for chunk in filter(None, response):"),
        ),
    ),
    Server(
        "gevent.pywsgi",
        _started("pywsgi"),
        quirks=(
            _no_wrapper("gevent/pywsgi.py"),
            _sends_body_of_head("gevent/pywsgi.py", "for data in self.result:"),
        ),
    ),
    Server(
        "eventlet",
        _started("eventlet"),
        quirks=(_no_wrapper("eventlet/wsgi.py"), _sends_body_of_head("eventlet/wsgi.py", "for data in result:")),
    ),
    Server("uWSGI, threads", uwsgi(APPLICATION, "--lazy-apps", "--threads=4"), system="uwsgi", quirks=UWSGI),
    Server(
        "uWSGI, async",
        uwsgi(APPLICATION, "--lazy-apps", "--async=8", "--ugreen"),
        system="uwsgi",
        quirks=(
            *UWSGI,
            *_cut_at_stop("core/uwsgi.c", "// still not found a way to gracefully reload in async mode"),
        ),
    ),
    Server(
        "uWSGI, gevent",
        uwsgi(APPLICATION, "--lazy-apps", "--gevent=8", "--gevent-monkey-patch"),
        system="uwsgi",
        quirks=UWSGI,
    ),
    Server(
        "mod_wsgi",
        apache.command,
        system="apache",
        stop="SIGWINCH",
        quirks=(Quirk(D.LOOKS_WHOLE, (B.BROKEN,), "src/server/mod_wsgi.c", "and just truncate the response."),),
    ),
    Server(
        "bjoern",
        _started("bjoern"),
        system="bjoern",
        quirks=(
            Quirk(D.BODY_OF_HEAD, (B.HEAD,), "bjoern/wsgi.c", lacks='"HEAD"'),
            *_cut_at_stop("bjoern/server.c", lacks="SIGTERM"),
        ),
    ),
    Server(
        "granian",
        lambda at: [
            BIN / "granian",
            "--interface=wsgi",
            "--host=127.0.0.1",
            f"--port={at.port}",
            "--blocking-threads=4",
            APPLICATION,
        ],
        quirks=(_no_wrapper("granian/wsgi.py"),),
    ),
    Server("uvicorn, a2wsgi", _uvicorn("a2wsgi"), quirks=A2WSGI),
    Server(
        "Hypercorn, a2wsgi",
        lambda at: [BIN / "hypercorn", f"--bind=127.0.0.1:{at.port}", "tests.servers.adapters:a2wsgi()"],
        quirks=A2WSGI,
    ),
    Server(
        "uvicorn, asgiref",
        _uvicorn("asgiref"),
        quirks=(
            *_never_closed("asgiref/wsgi.py", "for output in self.wsgi_application(environ, self.start_response):"),
            _one_at_a_time("asgiref/wsgi.py", "@sync_to_async"),
        ),
    ),
    Server(
        "uvicorn, Starlette",
        _uvicorn("starlette"),
        quirks=_never_closed("starlette/middleware/wsgi.py", "for chunk in self.app(environ, start_response):"),
    ),
    Server(
        "Twisted",
        twisted(APPLICATION),
        quirks=(
            _no_wrapper("twisted/web/wsgi.py"),
            Quirk(D.NEVER_CLOSED, (B.BROKEN,), "twisted/web/wsgi.py", 'close = getattr(appIterator, "close", None)'),
            *_cut_at_stop("twisted/web/wsgi.py", "blockingCallFromThread("),
            Quirk(D.KILLED, (B.STOP,), "twisted/web/wsgi.py", "blockingCallFromThread("),
        ),
    ),
    Server("Tornado", _started("tornado"), quirks=TORNADO),
    Server("Tornado, executor", _started("tornado_with_executor"), quirks=TORNADO),
)
"""The rows of the table, each started, compared and stopped for itself."""
