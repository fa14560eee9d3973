"""How a server is compared with itself: what it does by chance is no difference; what the middleware does is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import chain, repeat

from tests.client import NOTHING, Answer

from . import table
from .comparison import LOOKS, Cell, Checked, Seen, compared
from .recipes import SERVERS, Behaviour, Difference, Quirk, Server

SERVER = Server("a server", lambda at: [])
WHOLE = Seen((Answer("HTTP/1.1 200 OK", (), "chunked", b"one", True),), (("call", "close"),))
CUT = Seen((NOTHING,), (("call", "close"),), frozenset({Difference.NO_ANSWER}))


def looking(*looks: Seen) -> Callable[[], Seen]:
    """Return what sees these, one after the other, and the last one from then on."""
    remaining = chain(looks, repeat(looks[-1]))
    return lambda: next(remaining)


def checking(*looks: Seen, faults: Iterable[str] = ()) -> Callable[[], Checked]:
    """Return what sees these with the middleware, and each time the same faults."""
    look = looking(*looks)
    return lambda: (look(), list(faults))


def compare(bare: Callable[[], Seen], *wrapped: Callable[[], Checked], looks: int = 1) -> Cell:
    """Compare an error in mid-stream on a server that is not there."""
    return compared(SERVER, Behaviour.BROKEN, bare, wrapped, looks)


def test_what_is_the_same_is_looked_at_once() -> None:
    """Where the first looks agree there is no other."""
    cell = compare(looking(WHOLE, CUT), checking(WHOLE, CUT), checking(WHOLE, CUT))

    assert cell == Cell("a server", Behaviour.BROKEN)


def test_what_a_server_does_anyway_is_recorded() -> None:
    """A difference that is there without the middleware, too, is no failure."""
    cell = compare(looking(CUT), checking(CUT))

    assert cell.differences == (Difference.NO_ANSWER,)
    assert not cell.failures


def test_what_a_server_does_by_chance_is_no_failure() -> None:
    """With the middleware it may do by chance what it does by chance without it; both are recorded."""
    cell = compare(looking(WHOLE, WHOLE, CUT), checking(CUT), checking(WHOLE))

    assert not cell.failures
    assert cell.differences == ()
    assert cell.at_times == (Difference.NO_ANSWER,)


def test_what_is_seen_once_and_never_again_is_no_failure() -> None:
    """A busy machine may let a client wait too long, once."""
    assert not compare(looking(WHOLE), checking(CUT, WHOLE)).failures


def test_a_difference_with_the_middleware_is_a_failure() -> None:
    """What is seen with the middleware, and not without it in several looks, fails, and both are shown."""
    cell = compare(looking(WHOLE), checking(CUT))

    assert [failure.partition(":")[0] for failure in cell.failures] == ["wrapped", "bare"]


def test_a_difference_by_chance_with_the_middleware_alone_is_a_failure() -> None:
    """It fails as well when it comes in some of the looks with the middleware, and in none without it."""
    assert compare(looking(WHOLE), checking(CUT, WHOLE, WHOLE, CUT, WHOLE)).failures


def test_a_fault_of_a_scope_is_a_failure_at_once() -> None:
    """A session that is not the request's own is no chance, whatever the client has seen."""
    cell = compare(looking(WHOLE), checking(WHOLE, faults=["wrong in call"]))

    assert cell.failures == ("wrong in call",)


def test_a_difference_is_looked_for_a_limited_number_of_times() -> None:
    """A failing comparison ends."""
    looks: list[Seen] = []

    def bare() -> Seen:
        looks.append(WHOLE)
        return WHOLE

    compare(bare, checking(CUT), checking(CUT))

    assert len(looks) == LOOKS


def test_a_page_is_read_as_it_was_written() -> None:
    """What the page records is what a later run is compared with."""
    cells = [asdict(Cell(server.name, behaviour)) for server in SERVERS for behaviour in Behaviour]
    cells[0] |= {"differences": (Difference.CLOSES,), "at_times": (Difference.NO_ANSWER,)}
    before = table.recorded(table.page({"cells": cells, "releases": {"granian": "2"}}))

    assert before == table.outcomes(cells)
    assert not table.changes(table.outcomes(cells), before)


def test_a_change_elsewhere_is_a_line_to_read() -> None:
    """What a server does otherwise than recorded is reported with both."""
    now = table.outcomes([asdict(Cell("granian", Behaviour.HEAD, (Difference.HANGS,)))])

    changes = table.changes(now, {("granian", "HEAD"): "same"})

    assert changes == [f"granian, HEAD: differs too ({table.NUMBERS[Difference.HANGS]}); recorded: same"]


def test_a_reason_is_given_while_the_source_says_so() -> None:
    """A line that is gone from a server's source explains nothing any more."""
    quirk = Quirk(Difference.CLOSES, (Behaviour.KEEP,), "wsgiref/handlers.py", "class BaseHandler:")

    assert table.says_so(quirk)
    assert not table.says_so(Quirk(quirk.difference, quirk.behaviours, quirk.source, "class NoHandler:"))
    assert not table.says_so(Quirk(quirk.difference, quirk.behaviours, quirk.source, lacks="class BaseHandler:"))
    assert not table.says_so(Quirk(quirk.difference, quirk.behaviours, "nowhere.py", "class BaseHandler:"))
