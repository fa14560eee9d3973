"""The application that every server serves: a path for each behaviour, bare and wrapped, and a journal of what it saw.

It runs in the server's process. ``/bare/...`` is the application alone, ``/default/...`` and ``/rule/...`` are the same
behind a `SessionMiddleware` without and with a commit rule. What the client sees is the same for all three. What the
client cannot see goes to the journal.
"""

from __future__ import annotations

import gc
import io
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any
from wsgiref.util import shift_path_info

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from wsgi_session import (
    NoScopeError,
    RequestScopedSession,
    Scope,
    SessionMiddleware,
    current_environ,
    current_scope,
    on_unsafe_success,
)

from .journal import FOLDER, PATIENCE, note, wait

KEY = "sqlalchemy.session"
PATIENCE_OF_TWO = float(os.environ.get("SERVED_PATIENCE", PATIENCE))
"""How long, in seconds, one of two requests waits for the other to begin."""

Registry = RequestScopedSession[Session]


def is_outside() -> bool:
    """Say whether no scope is current."""
    try:
        current_scope()
    except NoScopeError:
        return True
    return False


class Request:
    """One request, as the application sees it.  Lives as long as its body."""

    def __init__(self, environ: dict[str, Any], registry: Registry | None) -> None:
        """Take the name that the client has given to it.

        Args:
            environ: The environ.
            registry: The sessions, or None for the bare application.
        """
        self.environ = environ
        self.name = environ["QUERY_STRING"]
        self.registry = registry

    def touch(self, step: str) -> None:
        """Use the session, and log whether it is this request's own."""
        if self.registry is None:
            note(self.name, step, is_outside() and KEY not in self.environ)
            return
        session = self.registry()
        right = (
            session is self.environ[KEY]
            and current_environ() is self.environ
            and session.info.setdefault("name", self.name) == self.name
            and session.scalar(text("SELECT count(*) FROM word")) == session.info.get("rows", 0)
        )
        note(self.name, step, right)

    def write(self) -> None:
        """Write a row that nobody commits."""
        if self.registry is not None:
            session = self.registry()
            session.info["rows"] = 1
            session.execute(text("INSERT INTO word VALUES (:name)"), {"name": self.name})

    def lose(self) -> None:
        """Be ready for what was written to be rolled back."""
        if self.registry is not None:
            self.registry().info["rows"] = 0


class Body:
    """A body with a ``close()`` of its own."""

    def __init__(self, request: Request, chunks: Generator[bytes]) -> None:
        """Send *chunks*."""
        self.request = request
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Use the session a last time."""
        self.request.touch("close")
        self._chunks.close()


class WatchedFile(io.FileIO):
    """A real file, which logs that it was read in Python: a server that has ``sendfile`` does not."""

    name_of_request = ""
    is_read = False

    def read(self, size: int | None = -1) -> bytes:
        """Read."""
        if not self.is_read:
            self.is_read = True
            note(self.name_of_request, "read")
        return super().read(-1 if size is None else size)


Behaviour = Callable[[Request, Any], Iterable[bytes]]


def start(start_response: Any, *headers: tuple[str, str]) -> None:
    """Begin a plain-text response."""
    start_response("200 OK", [("Content-Type", "text/plain"), *headers])


def a_list(request: Request, start_response: Any) -> Iterable[bytes]:
    """Return a list."""
    request.touch("call")
    start(start_response, ("X-Path", request.environ["SCRIPT_NAME"].rpartition("/")[2]))
    return [b"one,", b"two"]


def a_list_of_one(request: Request, start_response: Any) -> Iterable[bytes]:
    """Return a list of one chunk, whose length a server can tell."""
    request.touch("call")
    start(start_response)
    return [b"one,two"]


def a_generator(request: Request, start_response: Any) -> Iterable[bytes]:
    """Return a generator that uses the session at every chunk, and when it is done."""
    request.touch("call")
    start(start_response)
    return _chunks(request)


def an_object(request: Request, start_response: Any) -> Iterable[bytes]:
    """Return an object with a ``close()``, without a length."""
    request.touch("call")
    start(start_response)
    return Body(request, _chunks(request))


def a_measured_object(request: Request, start_response: Any) -> Iterable[bytes]:
    """Return an object with a ``close()``, and declare its length."""
    request.touch("call")
    start(start_response, ("Content-Length", "50"))
    return Body(request, _chunks(request))


def _chunks(request: Request) -> Generator[bytes]:
    try:
        for number in range(5):
            request.touch(f"chunk {number}")
            yield b"0123456789"
    finally:
        request.touch("done")


def a_file(request: Request, start_response: Any) -> Iterable[bytes]:
    """Return a file in the server's file wrapper, or as PEP 3333 recommends where there is none."""
    request.touch("call")
    file = WatchedFile(FOLDER / "file")
    file.name_of_request = request.name
    start(start_response, ("Content-Length", str(os.fstat(file.fileno()).st_size)))
    if wrapper := request.environ.get("wsgi.file_wrapper"):
        return wrapper(file, 65536)  # type: ignore[no-any-return]
    note(request.name, "no wrapper")
    return Body(request, (block for block in iter(partial(file.read, 65536), b"")))


def an_error(request: Request, start_response: Any) -> Iterable[bytes]:
    """Write, and raise."""
    request.touch("call")
    request.write()
    raise RuntimeError("in the call, on purpose")


def a_broken_body(request: Request, start_response: Any) -> Iterable[bytes]:
    """Send two chunks, write, wait for the client to have read them, and raise."""

    def chunks() -> Generator[bytes]:
        request.touch("chunk 0")
        yield b"0123456789" * 10
        request.touch("chunk 1")
        request.write()
        yield b"0123456789" * 10
        request.touch("chunk 2")
        request.lose()
        wait(request.name)
        raise RuntimeError("in mid-stream, on purpose")

    request.touch("call")
    start(start_response)
    return Body(request, chunks())


def a_body_that_nobody_reads(request: Request, start_response: Any) -> Iterable[bytes]:
    """Send a chunk, wait for the client to leave, and send a lot more."""

    def chunks() -> Generator[bytes]:
        try:
            request.touch("chunk")
            yield b"." * 50_000
            wait(request.name)
            for _ in range(40):
                request.touch("chunk")
                yield b"." * 50_000
                time.sleep(0.005)
            note(request.name, "all was produced")
        finally:
            note(request.name, "over")

    request.touch("call")
    start(start_response)
    return Body(request, chunks())


def a_large_body(request: Request, start_response: Any) -> Iterable[bytes]:
    """Send more than fits into the buffers of two sockets."""

    def chunks() -> Generator[bytes]:
        for number in range(12):
            request.touch(f"chunk {number}")
            yield b"." * 524_288

    request.touch("call")
    start(start_response)
    return Body(request, chunks())


def one_of_two(request: Request, start_response: Any) -> Iterable[bytes]:
    """Send a stream that goes on until the other one has begun, and a little longer."""
    other = FOLDER / (request.name[:-1] + {"a": "b", "b": "a"}[request.name[-1]])

    def chunks() -> Generator[bytes]:
        deadline = time.monotonic() + PATIENCE_OF_TWO
        remaining = 3
        while remaining:
            request.touch("chunk")
            (FOLDER / request.name).touch()
            yield b"0123456789"
            time.sleep(0.005)
            remaining -= other.exists() or time.monotonic() > deadline

    request.touch("call")
    start(start_response)
    return Body(request, chunks())


def a_body_during_a_stop(request: Request, start_response: Any) -> Iterable[bytes]:
    """Send a chunk, wait for the client to have the server stopped, and send the rest."""

    def chunks() -> Generator[bytes]:
        request.touch("chunk 0")
        yield b"0123456789"
        wait(request.name)
        for number in range(1, 4):
            request.touch(f"chunk {number}")
            yield b"0123456789"
            time.sleep(0.01)

    request.touch("call")
    start(start_response)
    return Body(request, chunks())


def a_report(request: Request, start_response: Any) -> Iterable[bytes]:
    """Say what the request before has left: connections that are out, uncommitted rows, a session that is not new."""
    if request.environ["REQUEST_METHOD"] == "POST":
        gc.collect()
    assert request.registry is not None
    out = checked_out()
    session = request.registry()
    left = {
        "connections": out,
        "is new": not session.info.get("name") and not session.in_transaction(),
        "rows": session.scalar(text("SELECT count(*) FROM word")),
    }
    start(start_response)
    return [json.dumps(left).encode()]


BEHAVIOURS: dict[str, Behaviour] = {
    "list": a_list,
    "list-of-one": a_list_of_one,
    "generator": a_generator,
    "object": an_object,
    "measured": a_measured_object,
    "file": a_file,
    "error": an_error,
    "broken": a_broken_body,
    "leave": a_body_that_nobody_reads,
    "large": a_large_body,
    "pair": one_of_two,
    "stop": a_body_during_a_stop,
    "report": a_report,
}


def behave(registry: Registry | None, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Do what the path says."""
    return BEHAVIOURS[str(shift_path_info(environ))](Request(environ, registry), start_response)


def new_engine(name: str, connections: int) -> Engine:
    """Make an engine whose pool has no connection to spare: what is left out is missed by the next request."""
    return create_engine(f"sqlite:///{FOLDER}/{name}.db", pool_size=connections, max_overflow=0, pool_timeout=1)


def checked_out() -> int:
    """Count the connections that have not been given back."""
    return sum(engine.pool.checkedout() for engine in (_one, _two))  # type: ignore[attr-defined]


def _wrapped(engine: Engine, **options: Any) -> SessionMiddleware:
    registry = RequestScopedSession(sessionmaker(engine))
    wrapped = SessionMiddleware(partial(behave, registry), registry, **options)

    @wrapped.on_request_end
    def note_end(scope: Scope) -> None:
        note((scope.environ or {}).get("QUERY_STRING", "?"), "end", current_scope() is scope)

    return wrapped


_one, _two = new_engine("one", 1), new_engine("two", 2)
for _engine in (_one, _two):
    with _engine.begin() as _connection:
        _connection.execute(text("CREATE TABLE IF NOT EXISTS word (name VARCHAR)"))

VARIANTS: dict[str, Any] = {
    "bare": partial(behave, None),
    "default": _wrapped(_one),
    "rule": _wrapped(_one, commit=on_unsafe_success),
    "default-two": _wrapped(_two),
    "rule-two": _wrapped(_two, commit=on_unsafe_success),
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer as the variant that the path begins with; the server must have called outside of every scope."""
    name = environ["QUERY_STRING"]
    if not is_outside() or KEY in environ:
        note(name, "called in another request's scope", right=False)
    try:
        body: Iterable[bytes] = VARIANTS[str(shift_path_info(environ))](environ, start_response)
        return body
    finally:
        if not is_outside():
            note(name, "left its scope behind", right=False)
