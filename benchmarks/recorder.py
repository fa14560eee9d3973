"""What the recorder costs, in CPU time: a request without one, with one, and with one that records statements, too.

    python -m benchmarks.recorder [ROUNDS]

Listeners stay, so each level has processes of its own, in several layouts (`benchmarks.layout`). All of them run at the
same time and are asked in turn, round after round: a machine that becomes slower does so for all. A figure is the
difference to the process of the same layout without a recorder, in the same round; of all those, the median.

Two stand beside them. *listeners* are the two to statements with which everybody begins, which do nothing but take the
time. *floor* is the least that a recorder can do.
"""

from __future__ import annotations

import gc
import io
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, ForeignKey, create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import QueuePool

from wsgi_session import SessionMiddleware
from wsgi_session.observe import Recorder

from . import cpu_time

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SELECTS = 30
"""How many statements a page sends that sends many."""

LAYOUTS = 4
ROUNDS = 25
TIMES = {"untouched": 400, "checkout": 60, "text": 15, "ORM": 6}
"""How often each request is made in a round."""


class Base(DeclarativeBase):
    """Of the one table."""


class Word(Base):
    """A row."""

    __tablename__ = "words"

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("words.id"))
    word: Mapped[str]


def _listen_only() -> None:
    """Listen to statements as everybody begins to, with functions that do next to nothing."""

    def begin(connection: object, cursor: object, statement: str, parameters: object, context: Any, many: bool) -> None:
        context.began = time.perf_counter()

    def end(connection: object, cursor: object, statement: str, parameters: object, context: Any, many: bool) -> None:
        context.took = time.perf_counter() - context.began

    event.listen(Engine, "before_cursor_execute", begin)
    event.listen(Engine, "after_cursor_execute", end)


class Floor(Recorder):
    """The least that a recorder of statements has to do: what it has to hear of, and nothing of what it says.

    The moments of each request, of each connection and of each statement, and a list of them.
    """

    def __init__(self) -> None:  # not as a recorder does, which listens
        """Begin with nothing."""
        self.notes: deque[Any] = deque(maxlen=100)
        self.out: dict[int, float] = {}

    def watch(self, *engines: Engine) -> None:
        """Take the time of what *engines* do."""
        (engine,) = engines
        connect, execute, clock = engine.pool.connect, engine.dialect.do_execute, time.perf_counter
        event.listen(engine.pool, "checkin", lambda connection, entry: self.out.pop(id(connection)))
        event.listen(Session, "after_begin", lambda session, transaction, connection: None)

        def timed_connect() -> Any:
            asked = clock()
            proxied = connect()
            self.out[id(proxied.dbapi_connection)] = clock() - asked
            return proxied

        def timed_execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            began = clock()
            execute(cursor, statement, parameters, context)
            self.notes.append((began, clock() - began, statement))

        engine.pool.connect = timed_connect  # type: ignore[method-assign]
        engine.dialect.do_execute = timed_execute  # type: ignore[method-assign]

    def watching(self, app: WSGIApplication) -> WSGIApplication:
        """Take the time of each request, and its status."""

        def watched(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            began = time.perf_counter()
            said = ""

            def start(status: str, headers: Any, *exc_info: Any) -> Any:
                nonlocal said
                said = status
                return start_response(status, headers, *exc_info)

            body = app(environ, start)
            self.notes.append((began, time.perf_counter(), environ["PATH_INFO"], said))
            return body

        return watched


LEVELS: dict[str, Callable[[], Recorder | None]] = {
    "off": lambda: None,
    "listeners": _listen_only,
    "floor": Floor,
    "pool": Recorder,
    "statements": lambda: Recorder(statements=True),
}


def _nothing(_session: Session) -> None:
    """Leave the session alone."""


def _text(session: Session) -> None:
    for _ in range(SELECTS):
        session.execute(SELECT)


def _checkout(session: Session) -> None:
    session.connection()


def _orm(session: Session) -> None:
    for number in range(SELECTS):
        session.scalars(select(Word).where(Word.id == number)).all()


VIEWS: dict[str, Callable[[Session], None]] = {
    "untouched": _nothing,
    "checkout": _checkout,
    "text": _text,
    "ORM": _orm,
}
SELECT = text("SELECT 1")


def request_of(level: str) -> Callable[[str, int], None]:
    """Return what makes so many requests for a view."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        VIEWS[environ["PATH_INFO"]](environ["sqlalchemy.session"])
        start_response("200 OK", [])
        return []

    engine = create_engine("sqlite://", poolclass=QueuePool)
    recorder = LEVELS[level]()
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": number, "word": f"word {number}"} for number in range(SELECTS)]
        connection.execute(Word.__table__.insert(), rows)  # type: ignore[attr-defined]
    application = SessionMiddleware(app, sessionmaker(engine), recorder=recorder)

    def request(view: str, times: int) -> None:
        for _ in range(times):
            environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": view, "wsgi.input": io.BytesIO()}
            environ["wsgi.errors"] = sys.stderr
            application(environ, lambda *start: lambda data: None)

    return request


def serve(level: str) -> None:
    """Measure a view as often as its name comes in."""
    request = request_of(level)
    for view in VIEWS:
        request(view, 200)
    gc.collect()
    gc.freeze()
    cpu_time.serve({view: partial(request, view) for view in VIEWS}, TIMES)


def measured(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Measure every view at every level, in microseconds; figures at one place belong to one round and one layout."""
    found: dict[str, dict[str, list[float]]] = {level: {view: [] for view in VIEWS} for level in LEVELS}
    for layout in range(LAYOUTS):
        with ExitStack() as stack:
            start = [sys.executable, "-m", "benchmarks.layout", str(layout), "benchmarks.recorder"]
            programs = {level: cpu_time.Program([*start, level], stack) for level in LEVELS}
            for _ in range(rounds):
                for view in VIEWS:
                    for level, program in programs.items():
                        found[level][view].append(program.ask(view) / 1000)
    return found


def report(found: dict[str, dict[str, list[float]]]) -> str:
    """Say what each level adds to each view, and what that is for a checkout and for a statement."""
    plain = found["off"]
    lines = [f"{'µs of CPU time':26}" + "".join(f"{view:>22}" for view in VIEWS)]
    lines += [f"{'off':26}" + "".join(f"{median(plain[view]):>22.2f}" for view in VIEWS)]
    for level in [level for level in LEVELS if level != "off"]:
        cells = []
        for view, each in found[level].items():
            more = median(one - without for one, without in zip(each, plain[view], strict=True))
            ratio = median(one / without for one, without in zip(each, plain[view], strict=True))
            cells.append(f"{more:+.2f} (x{ratio:.2f})")
        lines.append(f"{level:26}" + "".join(f"{cell:>22}" for cell in cells))
    for level in [level for level in LEVELS if level != "off"]:
        added = {view: [a - b for a, b in zip(found[level][view], plain[view], strict=True)] for view in VIEWS}
        checkout = median(a - b for a, b in zip(added["checkout"], added["untouched"], strict=True))
        of_text = median(a - b for a, b in zip(added["text"], added["checkout"], strict=True)) / SELECTS
        of_orm = median(a - b for a, b in zip(added["ORM"], added["checkout"], strict=True)) / SELECTS
        lines.append(f"{level}: a checkout {checkout:.2f}, a text {of_text:.2f}, an ORM SELECT {of_orm:.2f}")
    return "\n".join(lines)


def main(*arguments: str) -> None:
    """Measure and print; with the name of a level, serve it."""
    if arguments and arguments[0] in LEVELS:
        serve(arguments[0])
        return
    print(report(measured(int(arguments[0]) if arguments else ROUNDS)))


if __name__ == "__main__":
    main(*sys.argv[1:])
