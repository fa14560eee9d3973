"""6: what a response has only read goes back early, with every driver, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    DDL,
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    event,
    func,
    select,
    text,
    update,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.orm import Session as SQLAlchemySession

from tests.drivers import DRIVERS, MARIADB, POSTGRESQL, on_postgresql, with_every_driver
from tests.helpers import Exchange, Word, add_words, answer, is_clean, request, words
from wsgi_session import (
    PendingChangesError,
    RequestScopedSession,
    SessionMiddleware,
    current_scope,
    never,
    on_commit,
    on_unsafe_success,
    session_scope,
)
from wsgi_session._session import holdings

KEY = "sqlalchemy.session"

on_every_server = pytest.mark.parametrize("driver", [*POSTGRESQL, *MARIADB])

ROWS = 300


@pytest.fixture
def engine(driver: str, engine_by: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one, and many words."""
    engine = engine_by(driver)
    with sessionmaker(engine).begin() as session:
        session.add_all([Word(text=f"word {number}") for number in range(ROWS)])
    return engine


def is_out(engine: Engine) -> bool:
    """Say whether the connection is in use."""
    return engine.pool.checkedout() == 1  # type: ignore[attr-defined]


def stranger(engine: Engine) -> None:
    """Do as the next who gets the connection: read, change and commit."""
    with sessionmaker(engine).begin() as session:
        session.execute(update(Word).values(text="of a stranger"))
        add_words(session, "a stranger's own")


# What a view reads, and its body reads on.


def all_objects(session: Any) -> Iterator[Any]:
    """Objects that were loaded."""
    return iter(session.scalars(select(Word)).all())


def a_lazy_attribute(session: Any) -> Iterator[Any]:
    """A relationship that is loaded later."""
    loaded = session.scalars(select(Word).limit(3)).all()
    return (word.letters for word in loaded)


def a_result_to_its_end(session: Any) -> Iterator[Any]:
    """A cursor of the server's that was read to its end."""
    return iter(session.scalars(select(Word).execution_options(yield_per=50)).all())


READS = [all_objects, a_lazy_attribute, a_result_to_its_end]


@with_every_driver
@pytest.mark.parametrize("reads", READS, ids=lambda reads: reads.__name__)
def test_a_body_reads_on(reads: Any, engine: Engine) -> None:
    """The connection is back before the first byte, another request has it, and the body reads on in a new one."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        found = reads(environ[KEY])
        answer(start_response)
        return (str(one).encode() for one in found)

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), release_reads=True))

    assert is_clean(engine)
    stranger(engine)
    exchange.read().close()
    assert len(exchange.chunks) in (3, ROWS)
    assert "a stranger's own" in words(engine)
    assert is_clean(engine)


@on_every_server
def test_a_plain_result_that_is_half_read(engine: Engine) -> None:
    """The rows of a plain result are the client's already on the servers' drivers."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        rows = environ[KEY].execute(text("SELECT text FROM word"))
        rows.fetchone()
        answer(start_response)
        return (row.text.encode() for row in rows)

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), release_reads=True))

    assert not is_out(engine)
    stranger(engine)
    exchange.read().close()
    assert len(exchange.chunks) == ROWS - 1
    assert b"of a stranger" not in exchange.chunks


@with_every_driver
def test_it_is_off_by_default(engine: Engine) -> None:
    """A body has the transaction of its view."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ[KEY].scalars(select(Word)).all()
        answer(start_response)
        yield b"x"
        yield b"y"

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine)))
    exchange.step()

    assert is_out(engine)
    exchange.close()
    assert is_clean(engine)


@pytest.mark.parametrize("commit", [never, on_unsafe_success])
def test_in_each_mode(commit: Any, engine: Engine) -> None:
    """Also under a rule, where it has committed nothing."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ[KEY].scalars(select(Word)).all()
        answer(start_response)
        yield b"x"
        yield b"y"

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), commit=commit, release_reads=True))
    exchange.step()

    assert is_clean(engine)
    exchange.close()


# What is refused.


def an_open_cursor(session: Any) -> Any:
    """A cursor of the server's is half read."""
    rows = session.execute(text("SELECT text FROM word"), execution_options={"yield_per": 10})
    rows.fetchone()
    return rows


def an_untouched_cursor(session: Any) -> Any:
    """One that was opened, and not read at all."""
    return session.scalars(select(Word).execution_options(yield_per=10))


def a_direct_statement(session: Any) -> Any:
    """An ``update()`` that a flush does not know of."""
    return session.execute(update(Word).values(text="mine"))


def an_insert_as_text(session: Any) -> Any:
    """The same as text."""
    return session.execute(text("INSERT INTO word (text) VALUES ('mine')"))


def options_of_the_connection(session: Any) -> Any:
    """A tenant's schema that was given to the connection."""
    return session.connection(execution_options={"schema_translate_map": {"tenant": None}})


def a_setting(session: Any) -> Any:
    """What holds for this transaction alone."""
    return session.execute(text("SET LOCAL lock_timeout = '1s'"))


def a_setting_by_a_function(session: Any) -> Any:
    """The same by a function, as text."""
    return session.execute(text("SELECT set_config('lock_timeout', '1s', true)")).all()


def a_lock_by_a_function(session: Any) -> Any:
    """A lock of the application's own."""
    return session.execute(text("SELECT pg_advisory_xact_lock(1)")).all()


def a_temporary_table(session: Any) -> Any:
    """A table that goes with the transaction."""
    return session.execute(text("CREATE TEMPORARY TABLE of_mine (id INTEGER) ON COMMIT DROP"))


def a_setting_in_columns(session: Any) -> Any:
    """The same by text that says its columns."""
    setting = text("SELECT set_config('lock_timeout', '1s', true) AS x").columns(x=String)
    return session.execute(setting).all()


def a_setting_in_a_select(session: Any) -> Any:
    """The same by text in a SELECT."""
    return session.execute(select(text("set_config('lock_timeout', '1s', true)"))).all()


def a_setting_of_core(session: Any) -> Any:
    """The same by Core."""
    return session.execute(select(func.set_config("lock_timeout", "1s", True))).all()


def rows_that_are_locked(session: Any) -> Any:
    """Rows that nobody else may change meanwhile."""
    return session.scalars(select(Word).limit(1).with_for_update()).all()


def rows_that_text_has_locked(session: Any) -> Any:
    """The same as text."""
    return session.execute(text("SELECT text FROM word LIMIT 1 FOR UPDATE")).all()


def a_temporary_table_of_core(session: Any) -> Any:
    """A table that goes with the connection, and a row in it."""
    table = Table("of_mine_too", MetaData(), Column("id", Integer), prefixes=["TEMPORARY"])
    table.create(session.connection())
    return session.execute(table.insert().values(id=1))


def a_variable(session: Any) -> Any:
    """A setting as DDL."""
    return session.execute(DDL("SET @mine = 1"))


def rows_of_sqlite(session: Any) -> Any:
    """A plain result is half read: SQLite would mix in the rows of others."""
    rows = session.execute(text("SELECT text FROM word"))
    rows.fetchone()
    return rows


REFUSED = [
    *[(driver, act) for driver in [*POSTGRESQL, *MARIADB] for act in (an_open_cursor, an_untouched_cursor)],
    *[(d, act) for d in DRIVERS for act in (a_direct_statement, an_insert_as_text, options_of_the_connection)],
    *[
        (driver, act)
        for driver in POSTGRESQL
        for act in (a_setting, a_setting_by_a_function, a_lock_by_a_function, a_temporary_table)
    ],
    *[
        (driver, act)
        for driver in POSTGRESQL
        for act in (a_setting_in_columns, a_setting_in_a_select, a_setting_of_core, a_temporary_table_of_core)
    ],
    *[(driver, act) for driver in [*POSTGRESQL, *MARIADB] for act in (rows_that_are_locked, rows_that_text_has_locked)],
    *[(driver, act) for driver in MARIADB for act in (a_variable, a_temporary_table_of_core)],
    ("sqlite", rows_of_sqlite),
]


def cases() -> Iterator[Any]:
    """Yield the refusals as parameters."""
    for driver, act in REFUSED:
        name, marks = (driver, ()) if isinstance(driver, str) else (driver.values[0], driver.marks)
        yield pytest.param(name, act, marks=marks, id=f"{name}-{act.__name__}")


@pytest.mark.parametrize(("driver", "act"), [*cases()])
def test_what_is_not_released(act: Any, engine: Engine) -> None:
    """`release()` refuses and changes nothing, and ``release_reads`` leaves it alone."""
    errors: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        kept = act(environ[KEY])
        with pytest.raises(PendingChangesError) as raised:
            current_scope().release()
        errors.append(str(raised.value))
        answer(start_response)
        yield b"x"
        assert environ[KEY].in_transaction()
        if hasattr(kept, "close") and act is not options_of_the_connection:
            kept.close()
        environ[KEY].rollback()

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), release_reads=True))
    exchange.step()

    assert is_out(engine)
    exchange.read().close()
    assert errors
    assert is_clean(engine)


@pytest.mark.parametrize("driver", POSTGRESQL)
def test_a_connection_that_the_session_is_bound_to(engine: Engine) -> None:
    """What the session has begun on a connection of the user's ends with its transaction, and so is not released."""

    def app(environ: Any, start_response: Any) -> Any:
        with engine.connect() as connection:
            Session(bind=connection)
            rows = Session.execute(select(Word.text).execution_options(yield_per=10))
            rows.fetchone()
            with pytest.raises(PendingChangesError, match="a cursor of the server's is open"):
                current_scope().release()
            answer(start_response)
            yield from (row.text.encode() for row in rows)

    Session = RequestScopedSession(sessionmaker(engine))
    exchange = request(SessionMiddleware(app, Session, release_reads=True))

    assert len(exchange.chunks) == ROWS - 1


def test_a_lock_that_sqlite_does_not_have(engine: Engine) -> None:
    """There, ``with_for_update()`` locks nothing, and so keeps nothing."""

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].scalars(select(Word).with_for_update()).all()
        current_scope().release()
        answer(start_response)
        return [b""]

    request(SessionMiddleware(app, sessionmaker(engine)))


@on_every_server
def test_a_cursor_that_was_dropped(engine: Engine) -> None:
    """Nobody can read it any more, so it holds nothing."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ[KEY].execute(text("SELECT text FROM word"), execution_options={"yield_per": 10}).close()
        current_scope().release()
        answer(start_response)
        return [b"x"]

    request(SessionMiddleware(app, sessionmaker(engine)))

    assert is_clean(engine)


@on_postgresql
def test_what_each_transaction_is_given_anew(engine: Engine) -> None:
    """What a listener to ``after_begin`` has set is set again, and so is no reason to refuse."""
    factory = sessionmaker(engine)

    def on_begin(_session: Any, _transaction: Any, connection: Any) -> None:
        connection.execute(text("SET LOCAL application_name = 'a tenant'"))

    event.listen(factory, "after_begin", on_begin)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ[KEY].scalars(select(Word)).all()
        answer(start_response)
        yield b""
        yield str(environ[KEY].scalar(text("SELECT current_setting('application_name')"))).encode()

    exchange = Exchange(SessionMiddleware(app, factory, release_reads=True))
    exchange.step()

    assert is_clean(engine)
    assert exchange.read().close().body == b"a tenant"


def test_it_is_all_or_nothing_for_each_session(new_engine: Any) -> None:
    """A session on two engines keeps both where one is refused."""
    first, second = new_engine(), new_engine()

    class Routed(SQLAlchemySession):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, bind: Any = None, **kw: Any) -> Any:
            return bind or (first if clause is None else second)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ[KEY]
        session.execute(text("SELECT 1"))
        session.connection(bind_arguments={"bind": first}).execute(text("UPDATE word SET text = 'x'"))
        with pytest.raises(PendingChangesError):
            current_scope().release()
        assert is_out(first)
        assert is_out(second)
        answer(start_response)
        session.rollback()
        return [b"x"]

    request(SessionMiddleware(app, sessionmaker(second, class_=Routed)))


@on_postgresql
@pytest.mark.parametrize("commit", [never, on_unsafe_success])
def test_a_cursor_that_is_asked_once_more(commit: Any, engine: Engine) -> None:
    """A body may ask its cursor for one more row after the declared length: the connection is its own until the end."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        rows = environ[KEY].execute(text("SELECT 'x' FROM word LIMIT 20"), execution_options={"yield_per": 10})
        answer(start_response, "200 OK", ("Content-Length", "20"))
        for row in rows:
            yield row[0].encode()

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), commit=commit))
    for _ in range(20):
        exchange.step()

    assert is_out(engine)
    assert exchange.step() is None
    exchange.close()
    assert exchange.body == b"x" * 20
    assert is_clean(engine)


@pytest.mark.filterwarnings("ignore:Previous unbuffered result was left incomplete")  # PyMySQL's
@pytest.mark.parametrize("driver", MARIADB[:1])  # mysqlclient raises an error
def test_rows_that_mariadb_drops(engine: Engine, caplog: Any) -> None:
    """There, a statement ends the rows of another one that are still to come, without an error; it is said."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        for number, word in enumerate(environ[KEY].scalars(select(Word).execution_options(yield_per=50))):
            if number == 0:
                assert word.letters == []
            yield b"x"

    exchange = request(SessionMiddleware(app, sessionmaker(engine)))

    assert len(exchange.chunks) < ROWS
    assert [
        record.getMessage().startswith("A statement, or a COMMIT, was sent while") for record in caplog.records
    ] == [True]


@pytest.mark.filterwarnings("ignore:Previous unbuffered result was left incomplete")  # PyMySQL's
@pytest.mark.parametrize("driver", MARIADB[:1])
def test_rows_that_a_commit_drops(engine: Engine, caplog: Any) -> None:
    """A COMMIT is a statement, too."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        rows = environ[KEY].execute(text("SELECT text FROM word"), execution_options={"yield_per": 10})
        for number, _ in enumerate(rows):
            if number == 0:
                environ[KEY].commit()
            yield b"x"

    exchange = request(SessionMiddleware(app, sessionmaker(engine)))

    assert len(exchange.chunks) < ROWS
    assert [
        record.getMessage().startswith("A statement, or a COMMIT, was sent while") for record in caplog.records
    ] == [True]


@on_every_server
def test_an_export_that_is_read_to_its_end(engine: Engine, caplog: Any) -> None:
    """Where all rows were read, also few of them, nothing is said."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        few = select(Word.text).limit(7).execution_options(yield_per=10)
        yield str(len(environ[KEY].execute(few).all())).encode()
        environ[KEY].execute(select(Word).limit(1)).all()
        environ[KEY].commit()

    assert request(SessionMiddleware(app, sessionmaker(engine))).body == b"7"
    assert caplog.records == []


@on_postgresql
def test_rows_that_postgresql_keeps(engine: Engine, caplog: Any) -> None:
    """Elsewhere it is right, and nothing is said."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        for word in environ[KEY].scalars(select(Word).execution_options(yield_per=50)):
            assert word.letters == []
            yield b"x"

    assert len(request(SessionMiddleware(app, sessionmaker(engine))).chunks) == ROWS
    assert caplog.records == []


@pytest.mark.parametrize("driver", POSTGRESQL[:1])  # the others' cursors cannot be closed then
def test_a_commit_past_rows_that_nobody_wants_any_more(engine: Engine, caplog: Any) -> None:
    """Elsewhere a COMMIT ends no rows without a word, so nothing is said of it either."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        answer(start_response)
        rows = environ[KEY].execute(text("SELECT text FROM word"), execution_options={"yield_per": 10})
        yield rows.fetchone()[0].encode()
        environ[KEY].commit()
        rows.close()

    assert request(SessionMiddleware(app, sessionmaker(engine))).chunks
    assert caplog.records == []


@with_every_driver
def test_a_tenants_schema_that_ends_with_a_commit(engine: Engine, caplog: Any) -> None:
    """What was given to ``session.connection()`` is gone after COMMIT; it is said when the session goes on without."""
    Session = RequestScopedSession(sessionmaker(engine))

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        options = {"schema_translate_map": {"tenant": None}}
        Session.connection(execution_options=options)
        Session.commit()
        Session.connection(execution_options=options)  # given again: nothing is said
        Session.commit()
        answer(start_response)
        yield str(len(Session.scalars(select(Word)).all())).encode()

    request(SessionMiddleware(app, Session))

    assert ["schema_translate_map" in record.getMessage() for record in caplog.records] == [True]


def test_a_driver_that_nobody_knows(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """In doubt `release()` refuses; a complete response gives its connection back all the same."""
    monkeypatch.setattr(engine.dialect, "driver", "of_mine")

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ[KEY].scalars(select(Word)).all()
        with pytest.raises(PendingChangesError, match="'of_mine'"):
            current_scope().release()
        answer(start_response, "200 OK", ("Content-Length", "1"))
        yield b"x"

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), release_reads=True))
    exchange.step()

    assert is_clean_by(engine, "pysqlite", monkeypatch)
    exchange.close()


def test_a_dialect_that_nobody_knows(new_engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session on an engine whose driver is not known works; only the last word of its database is not heard."""
    engine = new_engine()
    monkeypatch.setattr(engine.dialect, "driver", "of_mine")
    Session = RequestScopedSession(sessionmaker(engine))

    with session_scope(Session) as session:
        add_words(session, "kept")

    assert words(engine) == ["kept"]
    assert is_clean_by(engine, "pysqlite", monkeypatch)


def is_clean_by(engine: Engine, driver: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Look at the connection by its own driver."""
    monkeypatch.setattr(engine.dialect, "driver", driver)
    return is_clean(engine)


def test_a_rule_that_returns_a_coroutine(engine: Engine) -> None:
    """It is true, whatever it would say: nothing is committed by it."""

    async def says_no() -> bool:
        return False

    said = says_no()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        add_words(environ[KEY], "x")
        answer(start_response)
        return [b"x"]

    with pytest.raises(TypeError, match="which nobody awaits"):
        request(SessionMiddleware(app, sessionmaker(engine), commit=lambda *of_the_call: said), "POST")
    said.close()

    assert len(words(engine)) == ROWS


def test_what_a_callback_waits_for_is_kept(engine: Engine) -> None:
    """A transaction whose commit is waited for is not given back."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ[KEY].scalars(select(Word)).all()
        on_commit(environ[KEY], print)
        answer(start_response)
        yield b"x"
        environ[KEY].rollback()

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), release_reads=True))
    exchange.step()

    assert is_out(engine)
    exchange.read().close()


@on_postgresql
def test_several_cursors_on_one_connection(engine: Engine) -> None:
    """Each is known until it is closed, also in a second transaction of the same connection."""
    with session_scope(RequestScopedSession(sessionmaker(engine))) as session:
        session.scalars(select(Word)).all()
    options = {"stream_results": True}

    with engine.connect() as connection:
        for _ in range(2):
            first = connection.execute(text("SELECT 1"), execution_options=options)
            second = connection.execute(text("SELECT 2"), execution_options=options)
            assert holdings.cursor_of(connection)
            first.close()
            assert holdings.cursor_of(connection)
            second.close()
            assert holdings.cursor_of(connection) is None
            connection.rollback()


@on_postgresql
def test_a_connection_that_is_gone_holds_nothing(engine: Engine) -> None:
    """What was invalidated has nothing to lose any more."""
    with session_scope(RequestScopedSession(sessionmaker(engine)), commit=False) as session:
        connection = session.connection()
        connection.invalidate()
        on_commit(session, print)

        assert holdings.of(connection) is None
        assert not holdings.has_changed(connection)
        with pytest.raises(PendingChangesError):
            current_scope().release()
        with pytest.raises(InvalidRequestError):
            session.commit()
        session.rollback()


class Fickle(TypeDecorator[str]):
    """A type whose values cannot be compared."""

    impl = String
    cache_ok = True

    def compare_values(self, x: Any, y: Any) -> bool:
        raise ValueError("cannot compare")


class OfFickle(DeclarativeBase):
    """The tables of the type."""


class Note(OfFickle):
    """A row that cannot be compared."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Fickle(200))


def test_what_cannot_be_found_out_is_kept(engine: Engine) -> None:
    """Where a type of the user's fails to compare, nothing is given back early, and nothing fails."""
    OfFickle.metadata.create_all(engine)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        with environ[KEY].no_autoflush:
            note = Note(id=1, text="x")
            environ[KEY].add(note)
            environ[KEY].commit()
            assert note.text == "x"
            note.text = "y"
        answer(start_response)
        yield b"x"
        environ[KEY].rollback()

    exchange = Exchange(SessionMiddleware(app, sessionmaker(engine), release_reads=True))
    exchange.step()

    assert is_out(engine)
    exchange.read().close()


@with_every_driver
def test_other_options_of_a_connection(engine: Engine, caplog: Any) -> None:
    """Of options that are no tenant's schema nothing is said."""
    Session = RequestScopedSession(sessionmaker(engine))
    with session_scope(Session) as session:
        session.connection(execution_options={"max_row_buffer": 10})
        session.commit()
        session.scalars(select(Word)).all()
        session.rollback()
        session.connection(execution_options={"schema_translate_map": {"tenant": None}})
        session.commit()
        session.connection(execution_options={"schema_translate_map": {"tenant": None}})
        session.rollback()
        session.scalars(select(Word)).all()

    assert caplog.records == []
