"""Values, where they were asked for: kept beside the records, shown to who has the key, and in the plan of a SELECT."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import webtest
from sqlalchemy import Engine, bindparam, create_engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import StaticPool

from tests.drivers import MARIADB, POSTGRESQL
from tests.helpers import Word, answer, request, statements
from wsgi_session import SessionMiddleware
from wsgi_session.inspector import Inspector
from wsgi_session.inspector._literals import as_sql, literal, shown
from wsgi_session.inspector._plan import plan_of, why_not
from wsgi_session.observe import Recorder, Values

KEY = "open-sesame-open-sesame"
HOSTILE = """it's a \\ "<script>alert(1)</script>" -- ; %s %(name)s ? :x"""
SAME = {"Sec-Fetch-Site": "same-origin"}
WITH_PLANS = ["sqlite", *POSTGRESQL[:1], *POSTGRESQL[2:], *MARIADB[:1]]
ZONE = timezone(timedelta(hours=2))


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one, by the driver of the test."""
    return engine_by(driver)


@pytest.fixture
def recorder() -> Recorder:
    """Return a recorder that keeps values."""
    return Recorder(statements=True, values=True)


def do(work: Callable[[Any], object], engine: Engine, recorder: Recorder) -> dict[int, Values]:
    """Do *work* with the session of a request, and return what was given to its statements."""

    def app(environ: Any, start_response: Any) -> Any:
        work(environ["sqlalchemy.session"])
        answer(start_response)
        return []

    request(SessionMiddleware(app, sessionmaker(engine), recorder=recorder))
    return recorder.values_of(recorder.records[-1].number)


def visitor(recorder: Recorder, **options: Any) -> webtest.TestApp:
    """Make a visitor at this computer who has opened the inspector."""
    pages = webtest.TestApp(Inspector(recorder, key=KEY, **options), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    pages.get(f"/?key={KEY}", status=303)
    return pages


def find(session: Any) -> None:
    """Send a SELECT with a value."""
    session.scalars(select(Word).where(Word.text == "Ada's")).all()


# What is kept


def test_none_are_kept_unless_asked_for(engine: Engine) -> None:
    """A recorder keeps no values by default, and none without statements."""
    assert do(find, engine, Recorder(statements=True)) == {}
    assert Recorder().values_of(1) == {}
    with pytest.raises(ValueError, match="write 'statements=True', too"):
        Recorder(values=True)


def test_values_are_beside_their_records(engine: Engine, recorder: Recorder, caplog: Any) -> None:
    """They are in no record, no log and no error, show nothing when printed, and are neither pickled nor copied."""
    caplog.set_level(logging.DEBUG)

    given = do(find, engine, recorder)

    assert [one.parameters for one in given.values()] == [(("", "Ada's"),)]
    for said in (repr(given), repr(recorder.records), str(recorder.records[0]), caplog.text):
        assert "Ada" not in said
    assert b"Ada" not in pickle.dumps(recorder.records)
    for refused in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="they are not pickled"):
            refused(given[0])  # type: ignore[operator]


def test_values_are_gone_with_their_record(engine: Engine) -> None:
    """They are kept as long as the record of their request, and cleared with it."""
    recorder = Recorder(statements=True, values=True, keep=1)
    do(find, engine, recorder)

    do(find, engine, recorder)
    first, second = recorder.values_of(1), recorder.values_of(2)
    recorder.clear()

    assert (first, len(second), recorder.values_of(2)) == ({}, 1, {})


def test_a_failed_statement_has_its_values(engine: Engine, recorder: Recorder) -> None:
    """What has failed shows what it was given; a list of rows, the first."""
    rows = [{"id": 1, "text": "one"}, {"id": 1, "text": "two"}]

    def work(session: Any) -> None:
        with pytest.raises(IntegrityError):
            session.execute(text("INSERT INTO word (id, text) VALUES (:id, :text)"), rows)

    (given,) = do(work, engine, recorder).values()

    assert (given.is_many, given.is_whole, [value for _, value in given.parameters]) == (True, False, [1, "one"])


def test_what_is_kept_is_bounded(engine: Engine) -> None:
    """Long values are cut, and so are long lists of them, long statements, and statements that are not kept."""
    recorder = Recorder(statements=True, values=True, max_statements=3)
    many = bindparam("many", expanding=True)

    def work(session: Any) -> None:
        session.execute(text("SELECT :long"), {"long": "x" * 5000})
        session.execute(text("SELECT 1 WHERE 1 IN :many").bindparams(many), {"many": list(range(300))})
        session.execute(text(f"SELECT '{'x' * 30_000}'"))
        session.execute(text("SELECT :one"), {"one": 1})

    given = do(work, engine, recorder)

    assert list(given) == [0, 1, 2]
    assert not any(one.is_whole for one in given.values())
    assert (len(str(given[0].parameters[0][1])), len(given[1].parameters), given[2].statement) == (1000, 200, "")
    assert [as_sql(one) for one in given.values()] == [None, None, None]


def test_what_is_no_plain_value_has_its_type_alone(engine: Engine) -> None:
    """An object is named by its type: neither its text is asked for, nor is it kept alive."""
    given = Values("SELECT ?", (engine,), engine)

    assert (shown(given), given.is_whole) == ([("1", "Engine")], False)
    assert Values("SELECT 1", None, engine).parameters == ()
    assert Values("SELECT 1", [], engine).parameters == ()


# Copied as SQL

VALUES = [
    HOSTILE,
    "",
    "\n\t\u20ac",
    0,
    -5,
    12345678901234,
    1.5,
    Decimal("10.25"),
    None,
    True,
    date(2026, 11, 30),
    datetime(2026, 11, 30, 12, 30, 1, 5),
]


@pytest.mark.parametrize("driver", WITH_PLANS)
def test_a_copy_says_the_same(engine: Engine, recorder: Recorder) -> None:
    """A statement with its values written into it finds the row that the statement has found."""
    rows = [{"id": number, "text": str(value)} for number, value in enumerate(VALUES, 1)]

    def work(session: Any) -> None:
        session.execute(Word.__table__.insert(), rows)  # type: ignore[attr-defined]
        session.commit()
        for row in rows:
            session.execute(select(Word.id).where(Word.text == row["text"], Word.id == row["id"]))

    given = [one for one in do(work, engine, recorder).values() if not one.is_many]
    copies = [as_sql(one) for one in given]

    connection = engine.raw_connection()
    cursor = connection.cursor()
    found = []
    for one in copies[-len(rows) :]:
        cursor.execute(one)
        found.append(cursor.fetchone()[0])
    connection.close()
    assert found == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("value", "sqlite", "postgresql", "mysql"),
    [
        (None, "NULL", "NULL", "NULL"),
        (True, "1", "TRUE", "TRUE"),
        (7, "7", "7", "7"),
        (1.5, "1.5", "1.5", "1.5"),
        (float("nan"), None, None, None),
        (Decimal("1.50"), "1.50", "1.50", "1.50"),
        ("it's \\", "'it''s \\'", "'it''s \\'", "'it''s \\\\'"),
        ("nul \0", None, None, None),
        (b"\x00\xff", "X'00ff'", "'\\x00ff'::bytea", "X'00ff'"),
        (datetime(2026, 11, 30, 12, tzinfo=ZONE), *["'2026-11-30 12:00:00+02:00'"] * 3),
        (date(2026, 11, 30), *["'2026-11-30'"] * 3),
        (time(12, 30), *["'12:30:00'"] * 3),
        (timedelta(hours=1), "'1:00:00'", "'3600.0 seconds'::interval", "'1:00:00'"),
        (UUID(int=1), *["'00000000-0000-0000-0000-000000000001'"] * 3),
        (object(), None, None, None),
    ],
)
def test_literals(value: object, sqlite: str | None, postgresql: str | None, mysql: str | None) -> None:
    """A value is written as each database reads it, or not at all."""
    assert [literal(value, name) for name in ("sqlite", "postgresql", "mysql")] == [sqlite, postgresql, mysql]


@pytest.mark.parametrize(
    ("style", "statement", "parameters", "copied"),
    [
        ("qmark", "SELECT ?, '?', \"?\" -- ?\n, ? /* ? */", (1, "a"), "SELECT 1, '?', \"?\" -- ?\n, 'a' /* ? */"),
        ("qmark", "SELECT ?", (), None),
        ("qmark", "SELECT 1", (1,), None),
        ("qmark", "SELECT ?", (float("nan"),), None),
        ("format", "SELECT %s, '100 %%'", (1,), "SELECT 1, '100 %'"),
        ("pyformat", "SELECT %(a)s, %(a)s", {"a": "x"}, "SELECT 'x', 'x'"),
        ("pyformat", "SELECT %(b)s", {"a": "x"}, None),
        ("format", "SELECT %s", (1, 2), None),
        ("numeric", "SELECT :1", (1,), None),
    ],
)
def test_copies(style: str, statement: str, parameters: Any, copied: str | None) -> None:
    """Values are written where the driver puts them, and nowhere else; where that is not known, there is no copy."""
    engine = create_engine("sqlite://")
    engine.dialect.paramstyle = style  # type: ignore[assignment]

    assert as_sql(Values(statement, parameters, engine)) == copied


# Shown


def test_values_are_shown_to_who_has_the_key(engine: Engine, recorder: Recorder) -> None:
    """The page of a request shows them, escaped; its JSON does not, nor any other page."""
    do(lambda session: session.execute(text("SELECT :word"), {"word": HOSTILE}), engine, recorder)
    pages = visitor(recorder)

    page = pages.get("/requests/1")

    assert "alert(1)" in page.text
    assert page.html.find("script") is None
    assert "SELECT 'it''s" in page.html.find("pre", class_="whole").text
    assert "Values are kept, and shown here alone." in page.text
    for path in ("/", "/requests/1?format=json", "/statements", "/statements?format=json"):
        assert "alert(1)" not in pages.get(path).text
    assert page.html.find("button", string="Explain") is None


def test_an_allow_shows_no_values(engine: Engine, recorder: Recorder) -> None:
    """Where a function says who is let in, from wherever, nobody is shown values, and there are no plans."""
    do(find, engine, recorder)
    pages = webtest.TestApp(Inspector(recorder, allow=lambda environ: True))

    assert "Ada" not in pages.get("/requests/1").text
    with pytest.raises(TypeError, match="for this computer and its key alone"):
        Inspector(recorder, allow=lambda environ: True, explain=True)
    with pytest.raises(ValueError, match="values=True"):
        Inspector(Recorder(statements=True), explain=True)


def test_a_statement_without_values_says_so(engine: Engine, recorder: Recorder) -> None:
    """What was given none can be copied as it is."""
    do(lambda session: session.execute(text("SELECT 1")), engine, recorder)

    page = visitor(recorder).get("/requests/1")

    assert "It was given none." in page.text
    assert page.html.find("pre", class_="whole").text == "SELECT 1"


# Plans


@pytest.mark.parametrize("driver", WITH_PLANS)
def test_a_plan_is_asked_for(engine: Engine, recorder: Recorder) -> None:
    """A SELECT has a button that shows how the database would do it, on a connection that cannot write."""
    do(find, engine, recorder)
    pages = visitor(recorder, explain=True)

    with statements(engine) as sent:
        plan = pages.get("/requests/1").forms[0].submit(headers=SAME)

    first = {"sqlite": "PRAGMA query_only = 1"}.get(engine.dialect.name, "SET TRANSACTION READ ONLY")
    assert sent[0] == first
    assert [statement.startswith("EXPLAIN") for statement in sent].count(True) == 1
    assert "word" in plan.html.find_all("div", class_="card")[1].text
    assert len(recorder.records) == 1
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO word (id, text) VALUES (77, 'the connection writes again')"))


def test_a_plan_is_a_tree_on_sqlite(engine: Engine, recorder: Recorder) -> None:
    """Steps are moved in below what they are a part of."""
    union = "SELECT id FROM word UNION SELECT id FROM word ORDER BY 1"
    do(lambda session: session.execute(text(union)), engine, recorder)

    plan = plan_of(recorder.values_of(1)[0])

    assert any(line.startswith("  ") for line in plan)


NEVER = [
    "UPDATE word SET text = 'x'",
    "DELETE FROM word WHERE id = :id",
    "INSERT INTO word (id, text) VALUES (1, 'x')",
    "WITH gone AS (DELETE FROM word RETURNING id) SELECT * FROM gone",
    "SELECT * INTO other FROM word",
    "SELECT 1; DELETE FROM word",
    "SELECT * FROM word FOR UPDATE",
    "SELECT 'not closed",
    "PRAGMA table_info(word)",
]


@pytest.mark.parametrize("statement", NEVER)
def test_what_may_write_is_never_explained(statement: str, engine: Engine) -> None:
    """There is no plan of what writes, locks, sets up something, or is several statements."""
    assert why_not(Values(statement, {}, engine)) == "it is no SELECT that only reads"


def test_there_is_not_always_a_plan(engine: Engine) -> None:
    """Where there is none, it is said why."""
    gone = create_engine("sqlite://")
    in_memory = create_engine("sqlite://", poolclass=StaticPool)
    other = create_engine("sqlite://")
    other.dialect.name = "other"
    of_gone = Values("SELECT 1", (), gone)
    del gone
    gc.collect()

    assert why_not(None) == "its values are not kept"
    assert why_not(of_gone) == "its engine is gone"
    assert why_not(Values("SELECT ?", (object(),), engine)) == "its values are not kept whole"
    assert why_not(Values("SELECT 1", (), in_memory)) == "its engine has no second connection for that"
    assert "how other explains" in str(why_not(Values("SELECT 1", (), other)))
    in_memory.dispose()


def test_a_plan_that_is_refused_names_the_error(engine: Engine) -> None:
    """What the database does not know any more is said by the name of the error, without its text."""
    (line,) = plan_of(Values("SELECT * FROM nowhere WHERE a = 'secret'", (), engine))

    assert line == "The database has refused: OperationalError: OperationalError SQLITE_ERROR"


def test_a_plan_is_asked_for_by_a_page_of_its_own(engine: Engine, recorder: Recorder) -> None:
    """Nobody else's page asks, and nobody asks by a link; what is not there is not found."""
    do(find, engine, recorder)
    do(lambda session: session.execute(text("DELETE FROM word")), engine, recorder)
    pages, plain = visitor(recorder, explain=True), visitor(recorder)

    assert pages.get("/requests/1/plan/1", status=405).headers["Allow"] == "POST"
    pages.post("/requests/1/plan/1", status=403)
    pages.post("/requests/1/plan/9", headers=SAME, status=404)
    pages.post("/requests/9/plan/1", headers=SAME, status=404)
    plain.post("/requests/1/plan/1", headers=SAME, status=404)
    assert "no SELECT that only reads" in pages.post("/requests/2/plan/1", headers=SAME).text
