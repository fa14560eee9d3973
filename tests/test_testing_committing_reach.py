"""What the committing block deletes, and what it refuses: never a row that it has not seen missing."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import registry as dialects
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from tests.drivers import POSTGRESQL, on_postgresql, with_every_driver
from tests.helpers import beside, words
from wsgi_session.testing import IsolationError, StatementBudget, committing

ANY_NAME = ""
on_mariadb = pytest.mark.system("mariadb")


def word_in(schema: str | None) -> Table:
    """Describe the table of words in a *schema*."""
    return Table(
        "word", MetaData(), Column("id", Integer, primary_key=True), Column("text", String(200)), schema=schema
    )


def run(engine: Engine, *statements: str) -> None:
    """Send *statements* as somebody else does."""
    with beside(engine).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def ask(engine: Engine, statement: str) -> list[Any]:
    """Read what has been committed."""
    with beside(engine).connect() as connection:
        return [row[0] for row in connection.exec_driver_sql(statement)]


@pytest.fixture
def tenants(postgresql_engine: Engine) -> Iterator[Engine]:
    """Return an engine whose database has a second schema with a table of words; those of the first have a row."""
    make = "CREATE TABLE acme.word (id SERIAL PRIMARY KEY, text VARCHAR(200))"
    run(postgresql_engine, "CREATE SCHEMA acme", make, "INSERT INTO word (text) VALUES ('before')")
    yield postgresql_engine
    run(postgresql_engine, "DROP SCHEMA acme CASCADE")


@pytest.fixture
def databases(mariadb_engine: Engine) -> Iterator[dict[str, str]]:
    """Return the names of two further databases of the server with a table of words; that for production has a row."""
    names = {name: f"{mariadb_engine.url.database}_{name}" for name in ("acme", "production")}
    for name in names.values():
        run(mariadb_engine, f"CREATE DATABASE {name}", f"CREATE TABLE {name}.word LIKE word")
    run(mariadb_engine, f"INSERT INTO {names['production']}.word (text) VALUES ('before')")
    yield names
    for name in names.values():
        run(mariadb_engine, f"DROP DATABASE {name}")


@pytest.mark.system("postgresql")
def test_a_tenant_s_rows_are_deleted_in_its_schema(tenants: Engine) -> None:
    """It is found in the search path of the connection that writes, also if that was set past SQLAlchemy."""

    def choose(connection: Any, *_: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path TO acme")

    with committing(database=ANY_NAME), tenants.connect() as connection:
        choose(connection.connection)
        connection.execute(insert(word_in(None)).values(text="new"))
        connection.execute(text("INSERT INTO word (text) VALUES ('newer')"))
        connection.commit()
        assert ask(tenants, "SELECT text FROM acme.word") == ["new", "newer"]

    assert ask(tenants, "SELECT text FROM acme.word") == []
    assert words(tenants) == ["before"]


@pytest.mark.system("postgresql")
def test_rows_are_deleted_in_the_schema_of_a_map(tenants: Engine) -> None:
    """A map of schemas leads to one of them, a table with a schema of its own to that."""
    with committing(database=ANY_NAME), tenants.connect() as connection:
        mapped = connection.execution_options(schema_translate_map={None: "acme"})
        mapped.execute(insert(word_in(None)).values(text="new"))
        mapped.commit()
        connection.execute(insert(word_in("acme")).values(text="newer"))
        connection.commit()

    assert ask(tenants, "SELECT text FROM acme.word") == []
    assert words(tenants) == ["before"]


@on_mariadb
def test_a_table_of_another_database_is_refused_by_the_name_of_that(
    mariadb_engine: Engine, databases: dict[str, str]
) -> None:
    """What is not marked as a test's is not written to, from an engine on a database that is, either."""
    production = databases["production"]

    with committing(database="(?<!production)$") as isolation, mariadb_engine.connect() as connection:
        with pytest.raises(IsolationError, match=f"'{production}', in .* is not marked as a test's database"):
            connection.execute(insert(word_in(production)).values(text="new"))
        with pytest.raises(IsolationError, match=production):
            connection.exec_driver_sql(f"UPDATE {production}.word SET text = 'new'")
        with pytest.raises(IsolationError):
            isolation.check()

    assert ask(mariadb_engine, f"SELECT text FROM {production}.word") == ["before"]


@on_mariadb
def test_rows_are_deleted_in_another_database_that_is_a_test_s(
    mariadb_engine: Engine, databases: dict[str, str]
) -> None:
    """It is looked at when a statement names it, and may be where a connection is."""
    acme = databases["acme"]

    with committing(database="(?<!production)$"), mariadb_engine.connect() as connection:
        connection.execute(insert(word_in(acme)).values(text="new"))
        with connection.connection.cursor() as cursor:
            cursor.execute(f"USE {acme}")
        connection.execute(insert(word_in(None)).values(text="newer"))
        connection.commit()
        assert ask(mariadb_engine, f"SELECT text FROM {acme}.word") == ["new", "newer"]

    assert ask(mariadb_engine, f"SELECT text FROM {acme}.word") == []


@on_mariadb
def test_what_leads_to_a_database_that_is_no_test_s_is_refused(
    mariadb_engine: Engine, databases: dict[str, str]
) -> None:
    """That may be a foreign key, a function there, or a procedure whose text is not known."""
    acme, production = databases["acme"], databases["production"]
    key = f"word_id INTEGER, FOREIGN KEY (word_id) REFERENCES {acme}.word (id) ON DELETE CASCADE"
    add = f"INSERT INTO {production}.word (text) VALUES ('new')"
    run(
        mariadb_engine,
        f"CREATE TABLE {production}.child ({key})",
        f"CREATE FUNCTION {production}.added() RETURNS INTEGER MODIFIES SQL DATA BEGIN {add}; RETURN 1; END",
        f"CREATE PROCEDURE {acme}.add_word() EXECUTE IMMEDIATE CONCAT('DELETE FROM {production}.', 'word')",
    )

    with committing(database="(?<!production)$") as isolation, mariadb_engine.connect() as connection:
        with pytest.raises(IsolationError, match=rf"by the foreign key of '{production}\.child', to '{production}'"):
            connection.execute(insert(word_in(acme)).values(text="new"))
        with pytest.raises(IsolationError, match=f"to '{production}', in"):
            connection.exec_driver_sql(f"SELECT {production}.added()")
        with pytest.raises(IsolationError):
            isolation.check()
    run(mariadb_engine, f"DROP TABLE {production}.child")
    with (
        pytest.raises(IsolationError, match=rf"by the routine '{acme}\.add_word', to "),
        committing(database="(?<!production)$"),
        mariadb_engine.connect() as connection,
    ):
        connection.exec_driver_sql(f"CALL {acme}.add_word")

    assert ask(mariadb_engine, f"SELECT text FROM {production}.word") == ["before"]


@pytest.mark.system("postgresql")
def test_a_column_of_the_name_of_a_function_may_be_read(tenants: Engine) -> None:
    """Only a call of it may write."""
    run(
        tenants,
        "CREATE FUNCTION acme.text() RETURNS INTEGER LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.word (text) VALUES ('new'); RETURN 1; END $$",
    )

    with committing(database=ANY_NAME) as isolation, tenants.connect() as connection:
        assert connection.scalar(text("SELECT text FROM public.word")) == "before"
        with pytest.raises(IsolationError, match=r"by the routine 'acme\.text', to the table 'public\.word'"):
            connection.scalar(text("SELECT acme.text()"))
        with pytest.raises(IsolationError):
            isolation.check()


TRIGGER = {
    "sqlite": "CREATE TRIGGER seen AFTER {} ON {} BEGIN INSERT INTO audit VALUES ('seen'); END",
    "mariadb": "CREATE TRIGGER seen AFTER {} ON {} FOR EACH ROW INSERT INTO audit VALUES ('seen')",
    "postgresql": "CREATE TRIGGER seen AFTER {} ON {} FOR EACH ROW EXECUTE FUNCTION seen()",
}
FUNCTION = (
    "CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN INSERT INTO audit VALUES ('seen'); RETURN NULL; END $$"
)


@pytest.fixture
def audited(driver: str, engine_by: Callable[..., Engine]) -> Iterator[Callable[..., Engine]]:
    """Return a function that makes an engine, on a database where a trigger writes to a table."""
    engine = engine_by(driver)
    run(engine, "CREATE TABLE audit (text VARCHAR(20))")

    def make(moment: str, table: str = "word") -> Engine:
        if engine.dialect.name == "postgresql":
            run(engine, FUNCTION)
        run(engine, TRIGGER[engine.dialect.name].format(moment, table))
        return engine

    yield make
    run(engine, "DROP TABLE audit")
    if engine.dialect.name == "postgresql":
        run(engine, "DROP FUNCTION seen CASCADE")
    elif engine.dialect.name == "mariadb":
        run(engine, "DROP TRIGGER IF EXISTS seen")


@with_every_driver
@pytest.mark.parametrize("moment", ["INSERT", "DELETE"])
def test_what_a_trigger_writes_is_deleted(moment: str, audited: Callable[..., Engine]) -> None:
    """Its rows are the test's, also those that it writes while others are deleted."""
    engine = audited(moment)

    with committing(database=ANY_NAME), engine.begin() as connection:
        connection.execute(insert(word_in(None)).values(id=1, text="ada"))

    assert ask(engine, "SELECT text FROM audit") == words(engine) == []


@with_every_driver
def test_a_trigger_that_writes_to_a_table_with_rows_is_refused(audited: Callable[..., Engine]) -> None:
    """So the statement that would set it off is not sent; both are named."""
    engine = audited("INSERT")
    run(engine, "INSERT INTO audit VALUES ('before')")

    with (
        pytest.raises(
            IsolationError, match=r"by the (trigger|routine) '\w+\.seen', to the table '\w+\.audit' .* had rows before"
        ),
        committing(database=ANY_NAME),
        engine.begin() as connection,
    ):
        connection.execute(insert(word_in(None)).values(text="ada"))

    assert words(engine) == []
    assert ask(engine, "SELECT text FROM audit") == ["before"]


@pytest.mark.parametrize("driver", ["sqlite", *POSTGRESQL[:1]])
def test_a_table_that_fills_itself_is_named(audited: Callable[..., Engine]) -> None:
    """Its trigger writes a row for each that is deleted, so the block gives up."""
    engine = audited("DELETE", "audit")

    with pytest.raises(IsolationError, match=r"'\w+\.audit' .* has rows again"), committing(database=ANY_NAME):  # noqa: SIM117
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO audit VALUES ('new')"))


@with_every_driver
def test_a_cascade_into_a_table_with_rows_is_refused(driver: str, engine_by: Callable[..., Engine]) -> None:
    """The rows of the parent could not be deleted without it."""
    engine = engine_by(driver)
    key = "word_id INTEGER, FOREIGN KEY (word_id) REFERENCES word (id) ON DELETE CASCADE"
    run(engine, f"CREATE TABLE child (text VARCHAR(20), {key})", "INSERT INTO child (text) VALUES ('before')")

    try:
        with (
            pytest.raises(IsolationError, match=r"by the foreign key of '\w+\.child', to the table '\w+\.child'"),
            committing(database=ANY_NAME),
            engine.begin() as connection,
        ):
            connection.execute(insert(word_in(None)).values(text="ada"))
        assert ask(engine, "SELECT text FROM child") == ["before"]
        assert words(engine) == []
    finally:
        run(engine, "DROP TABLE child")


DROP_A_AND_B = {
    "mariadb": ["SET foreign_key_checks = 0", "DROP TABLE a, b"],
    "postgresql": ["DROP TABLE a, b"],
    "sqlite": ["DROP TABLE a", "DROP TABLE b"],
}


@with_every_driver
def test_rows_of_tables_that_refer_to_each_other_are_deleted(driver: str, engine_by: Callable[..., Engine]) -> None:
    """There is no order in which that could be done one after the other."""
    engine = engine_by(driver)
    run(
        engine,
        "CREATE TABLE a (id INTEGER PRIMARY KEY)",
        "CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER, FOREIGN KEY (a) REFERENCES a (id))",
        "ALTER TABLE a ADD COLUMN b INTEGER REFERENCES b (id)",
        "CREATE INDEX a_b ON a (b)",
    )

    try:
        with committing(database=ANY_NAME), engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO a (id) VALUES (1)")
            connection.exec_driver_sql("INSERT INTO b VALUES (1, 1)")
            connection.exec_driver_sql("UPDATE a SET b = 1")
        assert ask(engine, "SELECT id FROM a") == ask(engine, "SELECT id FROM b") == []
    finally:
        run(engine, *DROP_A_AND_B[engine.dialect.name])


@pytest.mark.system("postgresql")
def test_a_part_of_a_table_that_has_rows_is_refused(tenants: Engine) -> None:
    """A partition, or a table that inherits, is written to with the whole; what is written to others is deleted."""
    run(
        tenants,
        "CREATE TABLE acme.log (id INTEGER) PARTITION BY LIST (id)",
        "CREATE TABLE acme.log_1 PARTITION OF acme.log FOR VALUES IN (1)",
        "CREATE TABLE acme.log_2 PARTITION OF acme.log FOR VALUES IN (2)",
    )

    with committing(database=ANY_NAME), tenants.begin() as connection:
        connection.execute(text("INSERT INTO acme.log VALUES (1), (2)"))
    assert ask(tenants, "SELECT id FROM acme.log") == []

    run(tenants, "INSERT INTO acme.log VALUES (2)")
    with committing(database=ANY_NAME) as isolation, tenants.begin() as connection:
        connection.execute(text("INSERT INTO acme.log_1 VALUES (1)"))
        with pytest.raises(IsolationError, match=r"by the partition 'acme\.log_2', to the table 'acme\.log_2'"):
            connection.execute(text("INSERT INTO acme.log VALUES (1)"))
        with pytest.raises(IsolationError):
            isolation.check()
    assert ask(tenants, "SELECT id FROM acme.log") == [2]


@pytest.mark.system("postgresql")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        ("CREATE MATERIALIZED VIEW acme.sealed AS SELECT 1", "is a materialized view"),
        (
            "CREATE TABLE acme.sealed (id INTEGER); ALTER TABLE acme.sealed ENABLE ROW LEVEL SECURITY",
            "row level security",
        ),
        ("CREATE TABLE acme.sealed (id INTEGER); REVOKE ALL ON acme.sealed FROM reader", "may not be read and emptied"),
    ],
)
def test_a_table_whose_rows_cannot_be_known_is_refused(make: str, why: str, tenants: Engine) -> None:
    """The message says why that is."""
    run(tenants, "CREATE ROLE reader", "GRANT USAGE ON SCHEMA acme TO reader", make)
    reader = create_engine(tenants.url)

    @event.listens_for(reader, "connect")
    def become_reader(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET ROLE reader")
        connection.commit()

    try:
        with (
            pytest.raises(IsolationError, match=f"the table 'acme.sealed' of .*{why}"),
            committing(database=ANY_NAME),
            reader.connect() as connection,
        ):
            connection.execute(
                text("REFRESH MATERIALIZED VIEW acme.sealed" if "VIEW" in make else "DELETE FROM acme.sealed")
            )
    finally:
        reader.dispose()
        run(tenants, "REVOKE ALL ON SCHEMA acme FROM reader", "DROP OWNED BY reader", "DROP ROLE reader")


@on_mariadb
def test_a_table_of_another_storage_engine_is_refused(mariadb_engine: Engine, databases: dict[str, str]) -> None:
    """Its rows may be elsewhere, or it forgets none."""
    run(mariadb_engine, f"CREATE TABLE {databases['acme']}.sealed (id INTEGER NOT NULL) ENGINE=CSV")

    with (
        pytest.raises(IsolationError, match=r"the table '\w+\.sealed' of .* is a base table of the engine CSV"),
        committing(database=ANY_NAME),
        mariadb_engine.connect() as connection,
    ):
        connection.exec_driver_sql(f"INSERT INTO {databases['acme']}.sealed VALUES (1)")


@with_every_driver
@pytest.mark.parametrize(
    "change", ["DROP TABLE word", "CREATE TABLE other (id INTEGER)", "ALTER TABLE word ADD a INTEGER"]
)
def test_a_change_of_the_schema_is_refused(change: str, driver: str, engine_by: Callable[..., Engine]) -> None:
    """The table of a name would not be the one any more that was empty."""
    engine = engine_by(driver)

    with (
        pytest.raises(IsolationError, match="does not change the schema"),
        committing(database=ANY_NAME),
        engine.begin() as connection,
    ):
        connection.exec_driver_sql(change)

    assert words(engine) == []


@with_every_driver
def test_temporary_tables_are_allowed(driver: str, engine_by: Callable[..., Engine]) -> None:
    """They are the connection's own."""
    engine = engine_by(driver)

    with committing(database=ANY_NAME), engine.begin() as connection:
        connection.exec_driver_sql("CREATE TEMPORARY TABLE mine (id INTEGER)")
        connection.exec_driver_sql("ALTER TABLE mine ADD COLUMN more INTEGER")
        connection.exec_driver_sql("INSERT INTO mine VALUES (1, 2)")
        connection.exec_driver_sql("DROP TABLE mine")


@pytest.mark.system("postgresql")
def test_a_table_that_was_replaced_by_others_is_left_alone(tenants: Engine) -> None:
    """It was done past SQLAlchemy, or by another process: whose the rows are is not known."""
    with pytest.raises(IsolationError, match=r"'acme\.word' .* is not the one any more"), committing(database=ANY_NAME):  # noqa: SIM117
        with tenants.begin() as connection:
            connection.execute(insert(word_in("acme")).values(text="new"))
            with connection.connection.cursor() as cursor:
                cursor.execute("DROP TABLE acme.word; CREATE TABLE acme.word AS SELECT 'whose' AS text")

    assert ask(tenants, "SELECT text FROM acme.word") == ["whose"]


@on_postgresql
def test_it_is_in_no_conflict_with_the_application(driver: str, engine_by: Callable[..., Engine]) -> None:
    """Two transactions that the database could order, it commits: the block reads nothing in them."""
    engine = engine_by(driver, pool_size=2, isolation_level="SERIALIZABLE")

    with committing(database=ANY_NAME), engine.connect() as one, engine.connect() as other:
        one.execute(text("INSERT INTO word (id, text) VALUES (1, 'one')"))
        other.execute(text("INSERT INTO letter (word_id) SELECT 1 WHERE false"))
        one.execute(text("INSERT INTO letter (word_id) VALUES (1)"))
        other.execute(text("INSERT INTO word (id, text) VALUES (2, 'other')"))
        one.commit()
        other.commit()
        assert words(engine) == ["one", "other"]

    assert words(engine) == []


@on_postgresql
def test_a_failed_transaction_fails_as_ever(driver: str, engine_by: Callable[..., Engine]) -> None:
    """A statement after one that has failed has the error of the database."""
    engine = engine_by(driver)

    with committing(database=ANY_NAME), engine.connect() as connection:
        for _ in range(2):
            with pytest.raises(DBAPIError):
                connection.execute(text("INSERT INTO word (nothing) VALUES (1)"))


def test_two_engines_on_one_database_are_one(new_engine: Callable[..., Engine]) -> None:
    """What was written by one is no stranger's to the other."""
    engine = new_engine()
    other = create_engine(engine.url)

    with committing(database=ANY_NAME):
        for one in (engine, other):
            with one.begin() as connection:
                connection.execute(insert(word_in(None)).values(text="new"))

    assert words(engine) == []
    other.dispose()


def test_its_questions_are_in_no_budget(engine: Engine) -> None:
    """The application has not sent them."""
    with committing(database=ANY_NAME), engine.begin() as connection, StatementBudget(exactly=1):
        connection.execute(insert(word_in(None)).values(text="new"))


def test_a_database_in_memory_is_asked_on_its_connection() -> None:
    """The transaction on it goes on; and no other thread has the same database, so that is refused there."""
    engine = create_engine("sqlite://")
    word_in(None).create(engine)
    refused = threading.Event()

    def write_elsewhere() -> None:
        with pytest.raises(IsolationError), engine.connect() as connection:
            connection.exec_driver_sql("INSERT INTO word (text) VALUES ('elsewhere')")
        refused.set()

    with pytest.raises(IsolationError, match="StaticPool"), committing():
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.execute(insert(word_in(None)).values(text="new"))
            connection.execute(update(word_in(None)).values(text="newer"))
            connection.commit()
            assert connection.scalars(select(word_in(None).c.text)).all() == ["newer"]
        thread = threading.Thread(target=write_elsewhere)
        thread.start()
        thread.join()

    assert refused.is_set()
    with engine.connect() as connection:
        assert connection.scalars(select(word_in(None).c.text)).all() == []
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_a_transaction_in_memory_is_not_ended() -> None:
    """A second connection to the one that there is asks nothing that would commit or roll back the first's."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    word_in(None).create(engine)

    with engine.connect() as connection:
        connection.execute(insert(word_in(None)).values(text="before"))
        with pytest.raises(IsolationError, match="had rows before"), committing():
            connection.execute(insert(word_in(None)).values(text="new"))
        assert connection.in_transaction()
    engine.dispose()


def test_a_database_in_memory_may_be_gone() -> None:
    """Its rows are gone, too."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    word_in(None).create(engine)

    with committing():
        with engine.begin() as connection:
            connection.execute(insert(word_in(None)).values(text="new"))
        engine.dispose()


def test_a_connection_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """The block could not delete what is written there, from another connection."""
    numbers = iter(range(3))
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(tmp_path / f"{next(numbers)}_test.db"))

    with pytest.raises(IsolationError, match="leads to a database that no other"), committing():  # noqa: SIM117
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO word (text) VALUES ('ada')")
    engine.dispose()


def test_rows_stay_where_the_engine_does_not_lead_any_more(tmp_path: Path) -> None:
    """It is said which."""
    names = ["one_test.db"]
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(tmp_path / names[-1]))
    word_in(None).create(engine)

    with pytest.raises(IsolationError, match="leads elsewhere now"), committing():
        with engine.begin() as connection:
            connection.execute(insert(word_in(None)).values(text="new"))
        names.append("other_test.db")

    engine.dispose()


class UnknownDialect(SQLiteDialect_pysqlite):
    """SQLite by another name."""

    name = "unknown"
    supports_statement_cache = True


dialects.register("unknown", __name__, "UnknownDialect")


def test_a_database_system_that_is_not_known_is_only_read() -> None:
    """Nobody could say what a statement writes to there."""
    engine = create_engine("unknown://", poolclass=StaticPool)

    with committing() as isolation, engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        with pytest.raises(IsolationError, match="knows mariadb, mysql, postgresql, sqlite"):
            connection.execute(text("CREATE TABLE word (id INTEGER)"))
        with pytest.raises(IsolationError):
            isolation.check()
    engine.dispose()
