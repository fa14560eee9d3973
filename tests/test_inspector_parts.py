"""What the inspector's pages are made of: bars, groups and parts, from records that are made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests.statements import soups
from wsgi_session.inspector._groups import groups
from wsgi_session.inspector._parts import cut
from wsgi_session.inspector._routes import quantile, route_of
from wsgi_session.inspector._sql import lines, pieces
from wsgi_session.inspector._waterfall import lanes, strip, ticks
from wsgi_session.observe import Held, Load, Outcome, OutcomeKind, RequestRecord, Statement


def statement(at: float, duration: float = 0.01, **said: Any) -> Statement:
    """Make a statement."""
    usual: dict[str, Any] = {"engine": "a", "kind": "select", "sql": "SELECT ?", "rowcount": None, "line": "app.py:1"}
    usual |= {"load": None, "flush": None, "is_many": False, "values": None, "error": None, "held_at": None}
    return Statement(at=at, duration=duration, **(usual | said))


def held(at: float, duration: float, waited: float = 0.0, engine: str = "a") -> Held:
    """Make a hold."""
    return Held(engine, at, waited, duration, "app.py:1")


def record(*said: Held | Statement, **more: Any) -> RequestRecord:
    """Make the record of a request of a second."""
    usual: dict[str, Any] = {"method": "GET", "path": "/", "number": 1, "attempt": 0, "status": 200, "started": 0.0}
    usual |= {"duration": 1.0, "waited": 0.0, "held": 0.0, "errors": (), "ran_dry": None, "is_dropped": False}
    usual["outcome"] = Outcome(OutcomeKind.NOT_COMMITTED, "GET is safe")
    connections = tuple(one for one in said if isinstance(one, Held))
    statements = tuple(one for one in said if isinstance(one, Statement))
    return RequestRecord(**(usual | more), connections=connections, statements=statements)


def drawn(found: RequestRecord) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """Return the lanes of a record, each with its bars."""
    places = lanes(found, found.statements)
    return [(lane.engine, [(bar.kind, bar.at, bar.duration) for bar in lane.bars]) for lane in places]


def test_what_is_sent_lies_on_its_connection() -> None:
    """A lane shows how long the pool was waited for, how long the connection was held, and what was sent on it."""
    found = record(held(0.2, 0.5, waited=0.1), statement(0.3, 0.1, held_at=0.2))

    (lane,) = drawn(found)
    assert lane == ("a", [("waiting", pytest.approx(0.1), 0.1), ("held", 0.2, 0.5), ("reading", 0.3, 0.1)])


def test_connections_one_after_the_other_share_a_lane() -> None:
    """Connections that are held at different times are in one lane; those of another engine are in its own."""
    found = record(held(0.1, 0.2), held(0.4, 0.2), held(0.1, 0.1, engine="b"))

    assert [(engine, len(bars)) for engine, bars in drawn(found)] == [("a", 4), ("b", 2)]


def test_connections_at_the_same_time_have_their_own_lanes() -> None:
    """Connections of one engine that are held at the same time are beside each other, each with what was sent on it."""
    sent = [statement(0.25, held_at=0.2), statement(0.27, held_at=0.2, kind="insert"), statement(0.4, held_at=0.1)]
    found = record(held(0.1, 0.5), held(0.2, 0.1), *sent)

    assert [[kind for kind, *_ in bars[2:]] for _, bars in drawn(found)] == [["reading"], ["reading", "writing"]]


def test_what_was_sent_on_no_known_connection_is_seen() -> None:
    """A statement whose connection is not among those that are kept has a lane of its own."""
    found = record(held(0.1, 0.8), statement(0.5, 0.1, held_at=0.3), statement(0.7, 0.1))

    assert drawn(found)[1:] == [("a", [("reading", 0.5, 0.1), ("reading", 0.7, 0.1)])]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"kind": "select"}, "reading"),
        ({"kind": "insert"}, "writing"),
        ({"kind": "create"}, "writing"),
        ({"kind": "savepoint"}, "reading"),
        ({"kind": "commit"}, "ending"),
        ({"kind": "rollback"}, "ending"),
        ({"kind": "end"}, "reading"),
        ({"kind": "select", "error": "OperationalError"}, "failed"),
    ],
)
def test_kinds_are_told_apart(said: dict[str, Any], kind: str) -> None:
    """What reads, writes, ends a transaction and fails is drawn differently."""
    ((_, ((drawn_as, _, _),)),) = drawn(record(statement(0.5, **said)))

    assert drawn_as == kind


def test_a_small_picture_joins_what_touches() -> None:
    """In the picture of a list, statements that would touch are one bar, so that a thousand of them are few."""
    many = [statement(number / 1000, 0.0005) for number in range(900)]
    found = record(held(0, 1), *many, statement(0.95, kind="insert"), statement(0.961))

    kinds = [(bar.kind, round(bar.at, 4), round(bar.end, 4)) for bar in strip(found)]
    assert kinds == [
        ("waiting", 0, 0),
        ("held", 0, 1),
        ("reading", 0, 0.8995),
        ("reading", 0.961, 0.971),
        ("writing", 0.95, 0.96),
    ]


@pytest.mark.parametrize(
    ("duration", "moments"),
    [
        (0.0, [0]),
        (0.0004, [0, 0.0001, 0.0002, 0.0003, 0.0004]),
        (0.0099, [0, 0.002, 0.004, 0.006, 0.008]),
        (0.31, [0, 0.1, 0.2, 0.3]),
        (1.0, [0, 0.5, 1.0]),
        (75.0, [0, 20, 40, 60]),
    ],
)
def test_moments_are_round(duration: float, moments: list[float]) -> None:
    """The axis has up to five round moments."""
    assert ticks(duration) == pytest.approx(moments)


def test_statements_are_grouped_wherever_they_are() -> None:
    """Statements of one shape and line are one group, also where others are between them; the longest come first."""
    loop = [one for at in (0.1, 0.3, 0.5) for one in (statement(at), statement(at + 0.1, 0.02, sql="SELECT ? + ?"))]

    first, second = groups([record(*loop), record(statement(0.1, rowcount=3), number=2)])

    assert (first.sql, first.count, first.requests, first.duration) == ("SELECT ? + ?", 3, 1, pytest.approx(0.06))
    assert (second.sql, second.count, second.requests, second.slowest) == ("SELECT ?", 4, 2, 0.01)
    assert (first.rows, second.rows) == (None, 3)


def test_a_group_has_one_line_and_one_cause() -> None:
    """Another line, engine or reason is another group; what has failed is counted."""
    lazy = Load("lazy", "Order.lines", True, 7)
    found = groups([record(*(statement(0.1, **{name: other}) for name, other in [("line", None), ("engine", "b")]))])
    (loaded,) = groups([record(statement(0.1, load=lazy, error="OperationalError"), statement(0.2, load=lazy))])

    assert len(found) == 2
    assert (loaded.cause, loaded.count, loaded.errors) == ("lazy Order.lines", 2, 1)


@pytest.mark.parametrize(
    ("number", "part"),
    [(1, ("abc", 1, 1)), (3, ("g", 3, 7)), (0, ("abc", 1, 1)), (9, ("g", 3, 7))],
)
def test_a_long_list_is_cut(number: int, part: tuple[str, int, int]) -> None:
    """A list is shown in parts; a number that no part has is the nearest one."""
    found = cut("abcdefg", number, 3)

    assert (found.items, found.number, found.first) == part
    assert (found.parts, found.total) == (3, 7)


def test_an_empty_list_is_one_part() -> None:
    """A list of nothing is one part of nothing."""
    assert cut("", 1, 3).parts == 1


# SQL in lines and colours

QUERY = (
    'SELECT DISTINCT "from".id, (SELECT x FROM y WHERE z AND a) AS b \nFROM "from" LEFT OUTER JOIN c ON c.id = ? AND d'
    " WHERE e BETWEEN ? AND ? OR f IS DISTINCT FROM ? GROUP BY [where]  ORDER BY `limit` LIMIT ? FOR UPDATE"
)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            QUERY,
            [
                'SELECT DISTINCT "from".id, (SELECT x FROM y WHERE z AND a) AS b',
                'FROM "from"',
                "  LEFT OUTER JOIN c ON c.id = ?",
                "  AND d",
                "WHERE e BETWEEN ? AND ?",
                "  OR f IS DISTINCT FROM ?",
                "GROUP BY [where]",
                "ORDER BY `limit`",
                "LIMIT ? FOR UPDATE",
            ],
        ),
        ("insert into a (b) values (?) returning id", ["insert into a (b)", "values (?)", "returning id"]),
        ("DELETE FROM a WHERE b = ?", ["DELETE FROM a", "WHERE b = ?"]),
        ("ROLLBACK (nothing was written)", ["ROLLBACK (nothing was written)"]),
        ("", [""]),
    ],
)
def test_a_statement_has_a_line_for_each_clause(sql: str, expected: list[str]) -> None:
    """Clauses, joins and conditions begin a line, but in parentheses and where the word belongs to the one before."""
    assert ["".join(piece.text for piece in line).rstrip() for line in lines(sql)] == expected


def test_words_have_their_kinds() -> None:
    """Keywords and values are told apart from names, also from names that look like keywords."""
    found = pieces('select "from", a.from_b FROM t WHERE x = ? AND café')

    assert [piece.text.strip() for piece in found if piece.kind == "keyword"] == ["select", "FROM", "WHERE", "AND"]
    assert [piece.text for piece in found if piece.kind == "value"] == ["?"]


@given(soups())
def test_no_statement_is_changed(sql: str) -> None:
    """Whatever a statement has in it, it is all there, but for the white space around it and between its words."""
    said = ["".join(piece.text for piece in pieces(sql)), "".join(piece.text for line in lines(sql) for piece in line)]

    assert ["".join(one.split()) for one in said] == ["".join(sql.split())] * 2


# Routes

UUID = "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/books/12/notes/3", "/books/*/notes/*"),
        (f"/books/{UUID}/", "/books/*/"),
        ("/commits/9fceb02d0ae598e95dc970b74767f19372d61af8", "/commits/*"),
        ("/facade/deadbeef/v2/2024-01-01", "/facade/deadbeef/v2/2024-01-01"),
    ],
)
def test_what_differs_among_pages_of_a_kind(path: str, route: str) -> None:
    """Numbers, hashes and UUIDs are what pages of one kind differ in; words are not."""
    assert route_of(path) == route


@pytest.mark.parametrize(
    ("values", "median", "slow"),
    [([5], 5, 5), ([1, 9], 1, 9), ([1, 2, 3], 2, 3), ([*range(1, 101)], 50, 95), ([*range(1, 21)], 10, 19)],
)
def test_quantiles_are_values_that_there_were(values: list[float], median: float, slow: float) -> None:
    """The median and p95 are the time of a request, which so many did not exceed."""
    assert (quantile(values, 0.5), quantile(values, 0.95)) == (median, slow)
