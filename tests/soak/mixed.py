"""Requests of every kind in one process, by raw WSGI: what they wrote is there, and of all else nothing is left.

Each is made of a commit rule, of what its application does, and of how its client ends it, all three by chance.
"""

from __future__ import annotations

import gc
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from tests.helpers import Base, Exchange, Letter, Word, answer, enforce_foreign_keys
from wsgi_session import (
    RequestScopedSession,
    RetryMiddleware,
    SessionMiddleware,
    current_scope,
    never,
    on_commit,
    on_success,
    on_unsafe_success,
    session_scope,
    until_close,
)
from wsgi_session.observe import Recorder

RULES = {"never": never, "on_success": on_success, "on_unsafe_success": on_unsafe_success, "until_close": until_close}

RETRIED = ("never", "on_success")
"""The rules that a `RetryMiddleware` is around."""


class Again(Exception):  # noqa: N818
    """Asks for another attempt."""


class Fault(Exception):  # noqa: N818
    """What an application fails with."""


class Interrupt(BaseException):
    """What strikes a worker from outside."""


class Context:
    """What one request is made of.  Lives as long as the request."""

    __slots__ = ("Session", "attempts", "is_by_rule", "number", "told")

    def __init__(self, number: int, registry: Any, is_by_rule: bool, told: Counter[str]) -> None:
        """Know which request this is, and whether a rule commits it."""
        self.Session = registry
        self.attempts = 0
        self.is_by_rule = is_by_rule
        self.number = number
        self.told = told

    def add(self) -> None:
        """Write what the request is known by."""
        self.Session.add(Word(text=str(self.number)))

    def end(self) -> None:
        """Commit, where no rule does it."""
        self.Session.flush()
        if not self.is_by_rule:
            self.Session.commit()


Work = Callable[[Context, Any], Iterable[bytes]]


def untouched(context: Context, start_response: Any) -> Iterable[bytes]:
    """Do without the session."""
    answer(start_response)
    return [b"nothing"]


def read(context: Context, start_response: Any) -> Iterable[bytes]:
    """Read only."""
    context.Session.get(Word, context.number)
    answer(start_response)
    return [b"read"]


def write(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write, and be committed."""
    context.add()
    context.end()
    answer(start_response, "201 Created")
    return [b"written"]


def write_by_callable(context: Context, start_response: Any) -> Iterable[bytes]:
    """Send the body by ``write()``."""
    context.add()
    context.end()
    start_response("200 OK", [("Content-Type", "text/plain")])(b"written")
    return []


def write_in_block(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write in a block of its own."""
    with session_scope(context.Session) as session:
        session.add(Word(text=str(context.number)))
    answer(start_response)
    return [b"written"]


def write_and_tell(context: Context, start_response: Any) -> Iterable[bytes]:
    """Have a function called after the COMMIT."""
    on_commit(context.Session(), lambda: context.told.update(["callback"]))
    return write(context, start_response)


def write_after_savepoint(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write after an error that a savepoint has absorbed."""
    with suppress(IntegrityError), context.Session.begin_nested():
        context.Session.execute(insert(Word).values(id=0, text="there already"))
    return write(context, start_response)


def write_after_handled_error(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write after an error that was handled without one, which SQLite lets pass."""
    with suppress(IntegrityError):
        context.Session.execute(insert(Word).values(id=0, text="there already"))
    return write(context, start_response)


def write_again(context: Context, start_response: Any) -> Iterable[bytes]:
    """Ask for another attempt at first."""
    context.attempts += 1
    context.add()
    context.Session.flush()
    if context.attempts == 1:
        raise Again
    context.end()
    answer(start_response)
    return [b"written"]


def write_and_stream(context: Context, start_response: Any) -> Iterator[bytes]:
    """Write before the first chunk, and read for the others."""
    context.add()
    context.end()
    answer(start_response)
    yield b"written"
    for _ in range(3):
        yield str(context.Session.scalar(select(Word.id).limit(1))).encode()


def write_and_fail_later(context: Context, start_response: Any) -> Iterator[bytes]:
    """Do so, and fail at the end."""
    yield from write_and_stream(context, start_response)
    raise Fault


def fail(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write, and raise."""
    context.add()
    context.Session.flush()
    raise Fault


def fail_by_status(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write, and answer 500."""
    context.add()
    answer(start_response, "500 Internal Server Error")
    return [b"failed"]


def fail_in_commit(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write what COMMIT refuses."""
    context.Session.add(Letter(word_id=-1))  # which no number of words makes valid
    return write(context, start_response)


def fail_from_outside(context: Context, start_response: Any) -> Iterable[bytes]:
    """Be struck by what is no `Exception`."""
    context.add()
    context.Session.flush()
    raise Interrupt


def doom(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write, and have that rolled back."""
    context.add()
    current_scope().doom()
    answer(start_response)
    return [b"doomed"]


def lose(context: Context, start_response: Any) -> Iterable[bytes]:
    """Write, and throw that away."""
    context.add()
    context.Session.flush()
    context.Session.remove()
    answer(start_response)
    return [b"lost"]


WRITING: tuple[Work, ...] = (
    write,
    write_by_callable,
    write_in_block,
    write_and_tell,
    write_after_savepoint,
    write_after_handled_error,
    write_again,
)
"""What is written once, however the client ends."""

STREAMING: tuple[Work, ...] = (write_and_stream, write_and_fail_later)
"""What is written once its first chunk was taken."""

WRITING_NOTHING: tuple[Work, ...] = (
    untouched,
    read,
    fail,
    fail_by_status,
    fail_in_commit,
    fail_from_outside,
    doom,
    lose,
)

WORKS = WRITING + STREAMING + WRITING_NOTHING

ENDS = ("read", "read", "left early", "left at once", "dropped", "closed twice")
"""How a client ends: it reads all, leaves after the first chunk or before it; some servers close nothing, or twice."""


@dataclass(slots=True)
class Report:
    """What came of it."""

    requests: int
    seconds: float = 0
    kinds: Counter[str] = field(default_factory=Counter)
    blocks: list[int] = field(default_factory=list)
    """Blocks of memory that Python has allocated, after each tenth."""

    resident: list[int] = field(default_factory=list)
    """Kilobytes of the process that are in memory, after each tenth."""

    out: int = 0
    """Connections that were out after a request."""

    missing: int = 0
    """Writes that should be there, and are not."""

    unwanted: int = 0
    """Writes that should not be there, or that are there twice."""

    kept: int = 0
    """Sessions that are kept at the end, of the unbuilt ones, too."""

    @property
    def is_right(self) -> bool:
        """Whether everything was as it should be, the memory aside."""
        return not (self.out or self.missing or self.unwanted or self.kept)

    @property
    def is_flat(self) -> bool:
        """Whether no more memory was taken after the first tenth."""
        return (
            self.blocks[-1] - self.blocks[0] < self.requests / 100 and self.resident[-1] - self.resident[0] < MAX_GROWTH
        )

    def __str__(self) -> str:
        """Say it in a few lines."""
        return (
            f"mixed: {self.requests} requests in {self.seconds:.0f} s; missing {self.missing}, unwanted"
            f" {self.unwanted}, connections out {self.out}, sessions kept {self.kept}\n"
            f"       blocks {self.blocks[0]} after the first tenth, {self.blocks[-1]} at the end;"
            f" resident {self.resident[0]} KB, {self.resident[-1]} KB"
        )


MAX_GROWTH = 4096
"""The kilobytes by which a process may grow after the first tenth: the system's allocator takes them as it likes."""


def run(folder: Path, requests: int, seed: int) -> Report:
    """Make so many *requests*, on a database in *folder*."""
    report, chance, told = Report(requests), random.Random(seed), Counter[str]()
    expected, before = bytearray(requests), kept()
    with quiet(), database(folder) as engine:
        registries = {name: RequestScopedSession(sessionmaker(engine)) for name in RULES}
        apps = {name: wrapped(name, registries[name]) for name in RULES}
        names = list(RULES)
        began = time.monotonic()
        for number in range(requests):
            work, name, end = chance.choice(WORKS), chance.choice(names), chance.choice(ENDS)
            context = Context(number, registries[name], name.startswith("on_"), told)
            is_begun = ask(apps[name], work, context, end)
            expected[number] = is_expected(work, name, is_begun)
            report.kinds[work.__name__] += 1
            report.out += engine.pool.checkedout()  # type: ignore[attr-defined]
            if (number + 1) % max(1, requests // 10) == 0:
                measure(report)
        report.seconds = time.monotonic() - began
        del apps, registries, context
        report.kept = kept() - before
        compare(engine, expected, report)
    return report


def ask(app: Any, work: Work, context: Context, end: str) -> bool:
    """Make one request, and say whether its first chunk was taken."""
    exchange, is_begun = None, False
    try:
        exchange = Exchange(app, "POST", "/", **{"soak.work": work, "soak.context": context})
        if end != "left at once":
            is_begun = True
            exchange.step()
        if end in ("read", "closed twice"):
            exchange.read()
    except (Fault, Again, Interrupt, IntegrityError, RuntimeError):
        pass
    finally:
        if exchange is not None:
            (exchange.drop if end == "dropped" else exchange.close)()
            if end == "closed twice":
                exchange.close()
    return is_begun


def is_expected(work: Work, name: str, is_begun: bool) -> bool:
    """Say whether a request should have written: `RetryMiddleware` takes the first chunk itself."""
    if work is write_again:
        return name in RETRIED
    return work in WRITING or (work in STREAMING and (is_begun or name in RETRIED))


def application(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Do what the request is made of."""
    work: Work = environ["soak.work"]
    return work(environ["soak.context"], start_response)


def wrapped(name: str, registry: Any) -> Any:
    """Wrap the application in a rule; one of them records, one gives back early, and two are repeated."""
    recorder = Recorder(keep=10, statements=True) if name == "never" else None
    release_reads = name == "on_success"
    inner = SessionMiddleware(application, registry, commit=RULES[name], recorder=recorder, release_reads=release_reads)
    if name not in RETRIED:
        return inner
    return RetryMiddleware(inner, wait=0, is_retryable=lambda error: isinstance(error, Again))


@contextmanager
def database(folder: Path) -> Iterator[Engine]:
    """Make an engine with a pool of one: a connection that is kept is missed by the next request."""
    engine = create_engine(f"sqlite:///{folder}/soak.db", pool_size=1, max_overflow=0, pool_timeout=0.5)
    event.listen(engine, "connect", enforce_foreign_keys)
    event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA synchronous = OFF"))
    event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA journal_mode = MEMORY"))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Word).values(id=0, text="there already"))
    yield engine
    engine.dispose()


@contextmanager
def quiet() -> Iterator[None]:
    """Have the package log to nobody, for most of these requests fail on purpose."""
    log = logging.getLogger("wsgi_session")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


def measure(report: Report) -> None:
    """Note how much memory there is in use."""
    gc.collect()
    report.blocks.append(sys.getallocatedblocks())
    report.resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4)


def kept() -> int:
    """Count the sessions that there are."""
    gc.collect()
    return sum(isinstance(one, SQLAlchemySession) for one in gc.get_objects())


def compare(engine: Engine, expected: bytearray, report: Report) -> None:
    """Compare what is there with what should be."""
    with engine.connect() as connection:
        for text in connection.execution_options(yield_per=10_000).scalars(select(Word.text).where(Word.id > 0)):
            if expected[int(text)]:
                expected[int(text)] = False
            else:
                report.unwanted += 1
    report.missing = sum(expected)
