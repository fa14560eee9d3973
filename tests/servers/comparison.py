"""A server compared with itself: each behaviour bare, then wrapped; a cell of the table for each.

Servers do some things by chance.  So what was seen with the middleware is looked for among several looks without it.
"""

from __future__ import annotations

import itertools
import json
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.client import NEVER, NOTHING, Answer, Client

from .process import FILE, NotStartedError, Process, running, wait_until
from .recipes import Behaviour, Difference, Server

BARE = "bare"
WRAPPED = ("default", "rule")

LOOKS = 6
"""How often a behaviour is looked at, on each side, before what was seen on one side alone counts as a difference."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client has seen of a behaviour, and the application of the server.  Two are compared by ``==``."""

    answers: tuple[Answer, ...]
    steps: tuple[tuple[str, ...], ...]
    """What the server has done with each response: its steps, in order."""
    differences: frozenset[Difference] = frozenset()
    """In what the server is otherwise than an application's author may expect."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of comparing one behaviour of one server."""

    server: str
    behaviour: str
    differences: tuple[str, ...] = ()
    """How the server differs, without the middleware too, each time."""
    at_times: tuple[str, ...] = ()
    """How it differs, without the middleware too, in some of several looks."""
    failures: tuple[str, ...] = ()
    """What is otherwise with the middleware, or was not as it has to be."""
    is_limited: bool = False
    """Whether it is otherwise by a known limit, and by that alone."""
    trouble: str = ""
    """Why the server could not be compared: it has not started."""


Cells = dict[tuple[str, str], Cell]
"""Cells by server and behaviour."""

Checked = tuple[Seen, list[str]]
"""What was seen with the middleware, and what was wrong."""
Action = Callable[["Exchange"], Seen]
"""Does something, and says what was seen of it."""
Processes = Iterator[AbstractContextManager[Process]]
"""Processes of one server, to be stopped one after the other."""
Look = Callable[[], Seen]
"""Looks at a behaviour once, without the middleware."""
CheckedLook = Callable[[], Checked]
"""Looks at a behaviour once, with the middleware."""
CheckedAction = Callable[["Exchange"], Seen]
"""Does something, and says what was seen of it."""
Look = Callable[[], Checked]
"""Looks at a behaviour once, with the middleware."""

TENS = b"0123456789"
EXPECTED = {
    Behaviour.LIST: [b"one,two"] * 2,
    Behaviour.GENERATOR: [TENS * 5] * 3,
    Behaviour.FILE: [FILE],
    Behaviour.SLOW: [b"." * 12 * 524_288],
    Behaviour.KEEP: [b"one,two", TENS * 5, b"one,two"],
    Behaviour.PAIR: [TENS * 3] * 2,
}
"""What a client reads when it gets all that the application has sent."""

MISSING = {Difference.NO_ANSWER: NOTHING, Difference.HANGS: NEVER}
"""What a client gets from a server that does not answer."""


class Exchange:
    """Requests to one variant of the application on one server.  Lives as long as one behaviour."""

    def __init__(self, process: Process, behaviour: Behaviour, variant: str) -> None:
        """Prepare to ask."""
        self.process = process
        self.variant = variant
        self.names: list[str] = []
        self._declared = process.server.differences(behaviour)

    def path(self, behaviour: str, name: str = "") -> str:
        """Make up the path of a new request, and its name."""
        name = name or f"{self.variant}.{behaviour}.{next(_numbers)}"
        self.names.append(name)
        return f"/{self.variant}/{behaviour}?{name}"

    def client(self, **options: int) -> Client:
        """Connect, with little patience where the server is known to let a client wait for ever."""
        return Client(self.process.port, self.patience(Difference.HANGS), **options)

    def ask(self, behaviour: str, *last: str, method: str = "GET", **headers: str) -> Answer:
        """Make a request on a connection of its own, and return the answer.

        The connection is closed when the *last* steps are taken: a server may give up where a client has gone.
        """
        with self.client() as client:
            client.send(self.path(behaviour), method, headers=headers)
            answer = self.read(client, method)
            for step in last:
                self.has_step(step)
        return answer

    def read(self, client: Client, method: str = "GET") -> Answer:
        """Read an answer, also if there is none."""
        try:
            return client.answer(method)
        except TimeoutError:
            return NEVER

    def has_step(self, step: str, name: str = "") -> bool:
        """Wait for a step of a request, by default the last, and say whether it was taken."""
        patience = self.patience(Difference.NEVER_CLOSED) if step == "close" else 10.0
        return self.process.has_step(name or self.names[-1], step, patience)

    def seen(self, answers: Iterable[Answer], *differences: Difference) -> Seen:
        """Return what was seen of all requests, and what is unusual about it."""
        return Seen(tuple(answers), tuple(self.steps(name) for name in self.names), frozenset(differences))

    def steps(self, name: str) -> tuple[str, ...]:
        """Return the steps of a request, without repetitions, and without the end of its scope."""
        return tuple(step for step, _ in itertools.groupby(self.process.steps(name)) if step != "end")

    def unclosed(self, name: str = "") -> list[Difference]:
        """Wait for the ``close()`` of a body, by default the last one; if it does not come, that is a difference."""
        return [] if self.has_step("close", name) else [Difference.NEVER_CLOSED]

    def patience(self, difference: Difference) -> float:
        """Return how long to wait for what does not come if the server has a difference."""
        return 0.3 if difference in self._declared else 10.0


def run(servers: Iterable[Server], behaviours: Iterable[Behaviour], folder: Path, looks: int = 1) -> list[Cell]:
    """Compare *behaviours* on *servers*, some servers at a time, each with *looks* or more without the middleware."""
    wanted = frozenset(behaviours)

    def compare(numbered: tuple[int, Server]) -> list[Cell]:
        number, server = numbered
        try:
            return compare_all(server, wanted, folder / str(number), looks)
        except NotStartedError as error:
            return [Cell(server.name, behaviour, trouble=str(error)) for behaviour in wanted]
        except Exception:
            failure = traceback.format_exc()
            return [Cell(server.name, behaviour, failures=(failure,)) for behaviour in wanted]

    with ThreadPoolExecutor(6) as pool:
        return [cell for cells in pool.map(compare, enumerate(servers)) for cell in cells]


def compare_all(server: Server, behaviours: frozenset[Behaviour], folder: Path, looks: int) -> list[Cell]:
    """Start *server* and compare each of *behaviours* on it; how it stops comes last, with a process for each look."""
    cells = []
    with running(server, folder / "one") as process:
        for behaviour, action in ACTIONS.items():
            if behaviour in behaviours:
                bare = partial(_bare, process, behaviour, action)
                wrapped = [partial(_checked, process, behaviour, action, variant) for variant in WRAPPED]
                cells.append(compared(server, behaviour, bare, wrapped, looks))
        if Behaviour.STOP in behaviours:
            others = (running(server, folder / f"stopped-{number}") for number in itertools.count())
            processes = itertools.chain([nullcontext(process)], others)
            bare, checked = partial(_bare_stop, processes), partial(_checked_stop, processes)
            cells.append(compared(server, Behaviour.STOP, bare, [checked], looks))
    return cells


def compared(server: Server, behaviour: Behaviour, bare: Look, wrapped: Iterable[CheckedLook], looks: int = 1) -> Cell:
    """Look at a behaviour without and with the middleware, and again where the two are not the same."""
    without = [bare() for _ in range(looks)]
    limit = server.limit(behaviour)
    failures: list[str] = []
    are_limited = []
    for look in wrapped:
        seen, faults = look()
        failures += faults
        is_limited = limit is not None and seen not in without and _without(seen, limit.step) in without
        are_limited.append(is_limited)
        if not is_limited:
            failures += _otherwise(seen, look, without, bare)
    always = frozenset.intersection(*(seen.differences for seen in without))
    ever = frozenset.union(*(seen.differences for seen in without))
    return Cell(
        server.name, behaviour, tuple(sorted(always)), tuple(sorted(ever - always)), tuple(failures), all(are_limited)
    )


def _otherwise(seen: Seen, look: CheckedLook, without: list[Seen], bare: Look) -> list[str]:
    """List what is otherwise with the middleware: what was seen there, and is not seen without it, however often.

    Once may be the chance of a busy machine, so it is looked for again.  The looks *without* it get more.
    """
    while seen not in without and len(without) < LOOKS:
        without.append(bare())
    if seen in without:
        return []
    again = [look() for _ in range(LOOKS - 1)]
    faults = [fault for _, faults in again for fault in faults]
    others = {other for other, _ in again if other not in without}
    if not others:
        return faults
    return [
        *faults,
        *(f"wrapped: {_shown(other)}" for other in others),
        *(f"bare: {_shown(one)}" for one in {*without}),
    ]


def _without(seen: Seen, left_out: str) -> Seen:
    steps = tuple(tuple(step for step in steps if step != left_out) for steps in seen.steps)
    return replace(seen, steps=steps, differences=seen.differences - {Difference.NO_SENDFILE})


def _shown(seen: Seen) -> str:
    answers = [(one.status_line, one.headers, one.framing, one.body[:200], one.is_whole) for one in seen.answers]
    return f"{answers}, steps {seen.steps}, {sorted(seen.differences)}"


def _bare(process: Process, behaviour: Behaviour, action: Action) -> Seen:
    return _look(Exchange(process, behaviour, BARE), behaviour, action)


def _look(exchange: Exchange, behaviour: Behaviour, action: Action) -> Seen:
    """Do something; where it cannot be done, or has not come out whole, that is a difference, too."""
    try:
        seen = action(exchange)
    except OSError as error:
        return exchange.seen([], Difference.HANGS if isinstance(error, TimeoutError) else Difference.NO_ANSWER)
    if behaviour in EXPECTED and [one.body for one in seen.answers if one.is_whole] != EXPECTED[behaviour]:
        return replace(seen, differences=seen.differences | {Difference.OTHER_BODY})
    return seen


def _checked(process: Process, behaviour: Behaviour, action: Action, variant: str) -> Checked:
    """Do something, and list what is wrong with its scopes: sessions, ends, and what the next request finds."""
    exchange = Exchange(process, behaviour, variant)
    seen = _look(exchange, behaviour, action)
    faults = [*_left_behind(exchange), *_wrong_steps(exchange)]
    for name in exchange.names:
        ends = process.steps(name).count("end")
        if ends != 1:
            faults.append(f"the scope of {name} has ended {ends} times")
    return seen, faults


def _bare_stop(processes: Processes) -> Seen:
    with next(processes) as process:
        return _look(Exchange(process, Behaviour.STOP, BARE), Behaviour.STOP, stop)


def _checked_stop(processes: Processes) -> Checked:
    """Stop the server; where it calls ``close()``, the scope has ended before the process has."""
    with next(processes) as process:
        exchange = Exchange(process, Behaviour.STOP, "default")
        seen = _look(exchange, Behaviour.STOP, stop)
        faults = _wrong_steps(exchange)
        steps = process.steps(exchange.names[0])
    if "close" in steps and steps.count("end") != 1:
        faults.append(f"the scope has not ended once: {steps}")
    return seen, faults


def _wrong_steps(exchange: Exchange) -> list[str]:
    """List the steps in which the session, or anything else, was not what it has to be."""
    events = exchange.process.log(*exchange.names, "?")
    return [f"wrong in {event['name']}: {event['step']}" for event in events if not event["right"]]


def _left_behind(exchange: Exchange) -> list[str]:
    """Ask the next request what it finds; collect garbage where a server never calls ``close()``."""
    names = [name for name in exchange.names if "call" in exchange.process.steps(name)]

    def all_have_ended() -> bool:
        return all("end" in exchange.process.steps(name) for name in names)

    wait_until(all_have_ended, exchange.patience(Difference.NEVER_CLOSED))
    found = _report(exchange.process, exchange.variant, "GET")
    if not all_have_ended():
        _report(exchange.process, exchange.variant, "POST")
        wait_until(all_have_ended, 10)
    expected = {"connections": 0, "is new": True, "rows": 0}
    return [] if found == expected else [f"the next request finds {found}"]


def _report(process: Process, variant: str, method: str) -> object:
    with Client(process.port) as client:
        client.send(f"/{variant}/report?report.{next(_numbers)}", method)
        answer = client.answer()
    return json.loads(answer.body) if answer.status == 200 else answer


def a_list(exchange: Exchange) -> Seen:
    """Ask for a list of two chunks, and of one."""
    return exchange.seen([exchange.ask("list"), exchange.ask("list-of-one")])


def a_generator(exchange: Exchange) -> Seen:
    """Ask for a generator, and for objects with a ``close()`` without and with a declared length."""
    answers = [exchange.ask("generator", "done")]
    answers += [exchange.ask(behaviour, "done", "close") for behaviour in ("object", "measured")]
    return exchange.seen(answers, *exchange.unclosed())


def a_file(exchange: Exchange) -> Seen:
    """Ask for a file, in the server's wrapper if it has one."""
    answer = exchange.ask("file")
    steps = exchange.steps(exchange.names[0])
    if "no wrapper" in steps:
        return exchange.seen([answer], Difference.NO_WRAPPER, *exchange.unclosed())
    return exchange.seen([answer], *([Difference.NO_SENDFILE] if "read" in steps else []))


def head(exchange: Exchange) -> Seen:
    """Ask for the headers alone."""
    answer = exchange.ask("measured", "close", method="HEAD", Connection="close")
    with_body = [Difference.BODY_OF_HEAD] if answer.body else []
    return Seen((answer,), (), frozenset([*with_body, *exchange.unclosed()]))  # granian gives up sooner or later


def an_error(exchange: Exchange) -> Seen:
    """Ask for an error in the call."""
    answer = exchange.ask("error")
    return exchange.seen([answer], *_missing(answer))


def a_broken_body(exchange: Exchange) -> Seen:
    """Read what comes, and have the stream broken off when nothing more does: what was sent before does not vary."""
    with exchange.client() as client:
        client.send(exchange.path("broken"))
        name = exchange.names[0]
        exchange.process.has_step(name, "waits")
        client.listen(0.2)
        (exchange.process.folder / name).touch()
        answer = exchange.read(client)
        unclosed = exchange.unclosed()
    looks_whole = [Difference.LOOKS_WHOLE] if answer.status == 200 and answer.is_whole else []
    return exchange.seen([answer], *_missing(answer), *looks_whole, *unclosed)


def _missing(answer: Answer) -> list[Difference]:
    return [difference for difference, missing in MISSING.items() if answer == missing]


def a_leaving_client(exchange: Exchange) -> Seen:
    """Leave when the first chunk is there, or the server would send it only with later ones."""
    with exchange.client() as client:
        client.send(exchange.path("leave"))
        name = exchange.names[0]
        exchange.process.has_step(name, "waits")
        client.peek(0.2)
        client.leave()
    (exchange.process.folder / name).touch()
    exchange.has_step("over")
    unclosed = exchange.unclosed()
    not_noticed = [Difference.NOT_NOTICED] if "all was produced" in exchange.steps(name) else []
    return exchange.seen([], *unclosed, *not_noticed)


def a_slow_client(exchange: Exchange) -> Seen:
    """Read nothing until the server has stopped producing, then all."""
    with exchange.client(receive_buffer=65536) as client:
        client.send(exchange.path("large"))
        name = exchange.names[0]
        exchange.has_step("chunk 0")
        while wait_until(_more_steps(exchange.process, name), 0.1):
            pass
        answer = client.answer()
        unclosed = exchange.unclosed()
    return exchange.seen([answer], *unclosed)


def _more_steps(process: Process, name: str) -> Callable[[], bool]:
    produced = len(process.steps(name))
    return lambda: len(process.steps(name)) > produced


def keep_alive(exchange: Exchange) -> Seen:
    """Make three requests on one connection, or on three where the server closes it."""
    client = exchange.client()
    answers: list[Answer] = []
    closes = False
    unclosed: list[Difference] = []
    for behaviour in ("list-of-one", "measured", "list-of-one"):
        path = exchange.path(behaviour)
        answer = _asked_again(client, path, answers)
        if answer is None:
            closes = True
            client.leave()
            client = exchange.client()
            client.send(path)
            answer = client.answer()
        answers.append(answer)
        if behaviour == "measured":
            exchange.has_step("done")
            unclosed += exchange.unclosed()  # asgiref, alone too, fails in a request that comes earlier
    client.leave()
    return exchange.seen(answers, *unclosed, *([Difference.CLOSES] if closes else []))


def _asked_again(client: Client, path: str, answers: list[Answer]) -> Answer | None:
    """Ask on the same connection; None if the server has closed it."""
    if answers and answers[-1].is_last:
        return None
    try:
        client.send(path)
        answer = client.answer()
    except ConnectionError:
        return None
    return None if answer == NOTHING else answer


def two_streams(exchange: Exchange) -> Seen:
    """Ask for a stream that goes on until another one has begun, and for that other one."""
    if exchange.variant != BARE:
        exchange.variant += "-two"
    pair = f"{exchange.variant}.pair.{next(_numbers)}"
    unclosed: list[Difference] = []
    with exchange.client() as first:
        first.send(exchange.path("pair", pair + "a"))
        exchange.process.has_step(pair + "a", "call")
        second = exchange.client()
        second.send(exchange.path("pair", pair + "b"))
        answers = [exchange.read(first)]
        unclosed += exchange.unclosed(pair + "a")
    with second:
        answers.append(exchange.read(second))
        unclosed += exchange.unclosed(pair + "b")
    one_at_a_time = [] if _in_turns(exchange.process, pair + "a", pair + "b") else [Difference.ONE_AT_A_TIME]
    return exchange.seen(map(_unmeasured, answers), *unclosed, *one_at_a_time)


def _in_turns(process: Process, first: str, second: str) -> bool:
    """Say whether the first of two streams went on after the second had begun."""
    chunks = [event["name"] for event in process.log(first, second) if event["step"] == "chunk"]
    return second in chunks and first in chunks[chunks.index(second) :]


def _unmeasured(answer: Answer) -> Answer:
    """Forget how long a stream was, for that depends on when the other one began; it was all tens."""
    headers = tuple(pair for pair in answer.headers if pair[0] != "content-length")
    is_whole = answer.is_whole and len(answer.body) % 10 == 0
    return replace(answer, headers=headers, body=answer.body[:30], is_whole=is_whole)


def stop(exchange: Exchange) -> Seen:
    """Have the server stopped while it sends a response."""
    process = exchange.process
    with exchange.client() as client:
        client.send(exchange.path("stop"))
        name = exchange.names[0]
        process.has_step(name, "waits")
        client.peek(0.2)
        process.stop()
        process.has_ended(0.3)
        (process.folder / name).touch()
        answer = client.answer()
    ended = process.has_ended(exchange.patience(Difference.KILLED))
    differences = [] if answer.is_whole and len(answer.body) == 40 else [Difference.CUT_AT_STOP]
    differences += [] if ended else [Difference.KILLED]
    differences += [] if "close" in exchange.steps(name) else [Difference.NEVER_CLOSED]
    return Seen((answer,), (), frozenset(differences))


ACTIONS: dict[Behaviour, Action] = {
    Behaviour.LIST: a_list,
    Behaviour.GENERATOR: a_generator,
    Behaviour.FILE: a_file,
    Behaviour.HEAD: head,
    Behaviour.ERROR: an_error,
    Behaviour.BROKEN: a_broken_body,
    Behaviour.LEAVE: a_leaving_client,
    Behaviour.SLOW: a_slow_client,
    Behaviour.KEEP: keep_alive,
    Behaviour.PAIR: two_streams,
}
