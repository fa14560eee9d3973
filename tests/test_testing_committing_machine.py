"""The committing block at random: whatever is sent in it, each row that was there before is there afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from wsgi_session.testing import IsolationError, committing

HOMES = ("here", "acme")
FAR = "production"
NAMES = ("word", "letter", "audit")
MARKED = r"(?<!production)(?<!production\.db)$"

metadata = MetaData()
TABLES = {
    name: Table(name, metadata, Column("id", Integer, primary_key=True), Column("text", String(20))) for name in NAMES
}
"""As the application knows them: without a schema."""

TEXTS = (
    "INSERT INTO {table} (text) VALUES ('new')",
    "INSERT INTO {table} (text) SELECT text FROM {other}",
    "UPDATE {table} SET text = 'new'",
    "DELETE FROM {table}",
    "DELETE FROM {table} WHERE text IN (SELECT text FROM {other})",
    "WITH one AS (SELECT text FROM {other}) INSERT INTO {table} (text) SELECT text FROM one",
    "INSERT INTO /* a comment ( */ {table} (text) VALUES ('new')",
    "TRUNCATE {table}",
    "TRUNCATE TABLE {table} CASCADE",
    "UPDATE {table} AS one, {other} AS two SET two.text = 'new'",
    "UPDATE {table} JOIN {other} SET {other}.text = 'new'",
    "DELETE one FROM {other} AS one",
    "DELETE FROM one USING {other} AS one",
    "WITH one AS (DELETE FROM {table} RETURNING id) SELECT id FROM one",
    "WITH one AS (INSERT INTO {other} (text) VALUES ('new') RETURNING text) INSERT INTO {table} (text) TABLE one",
    "EXPLAIN ANALYZE DELETE FROM {table}",
    "ANALYZE DELETE FROM {table}",
    "SET STATEMENT max_statement_time = 10 FOR DELETE FROM {table}",
    'DELETE FROM U&"\\0077ord"',
    "INSERT INTO {table} (text) VALUES ('new') ON CONFLICT (id) DO UPDATE SET text = 'new'",
    "INSERT INTO {table} (text) VALUES ('new') ON DUPLICATE KEY UPDATE text = 'new'",
    "REPLACE INTO {table} (id, text) VALUES (1, 'new')",
    "MERGE INTO {table} t USING {other} o ON t.id = o.id WHEN MATCHED THEN UPDATE SET text = 'new'",
    "DO $$ BEGIN EXECUTE 'UPDATE ' || 'wo' || 'rd' || ' SET text = 1'; END $$",
    "DO $$ BEGIN UPDATE {table} SET text = 'new'; END $$",
    "EXECUTE IMMEDIATE CONCAT('UPDATE ', 'wo', 'rd', ' SET text = 1')",
    "SELECT 1; UPDATE {table} SET text = 'new'",
)
CHANGES = (
    "DROP TABLE {table}",
    "ALTER TABLE {table} RENAME TO gone",
    "ALTER TABLE {table} ADD COLUMN extra INTEGER",
    "CREATE TABLE {table}_new (id INTEGER PRIMARY KEY)",
    "CREATE TABLE copied AS SELECT * FROM {table}",
    "SELECT * INTO copied FROM {table}",
    "CREATE VIEW more AS SELECT * FROM {table}",
    "CREATE TRIGGER more AFTER INSERT ON {table} BEGIN DELETE FROM {other}; END",
    "CREATE TRIGGER more AFTER INSERT ON {table} FOR EACH ROW DELETE FROM {other}",
    "CREATE TEMP TRIGGER more AFTER INSERT ON {table} BEGIN DELETE FROM {other}; END",
    "RENAME TABLE {table} TO gone",
    "DROP SCHEMA machine_acme CASCADE",
)
"""What changes a schema, in one database or another."""


class Stage:
    """A database system with two schemas that are for tests, and one that is not.  Lives as long as a test.

    ``engine`` is the application's, ``bystander`` somebody else's; ``schemas`` are the real names of those above.
    """

    def __init__(self, engine: Engine, bystander: Engine, schemas: dict[str, str]) -> None:
        self.engine = engine
        self.bystander = bystander
        self.schemas = schemas
        self.system = engine.dialect.name
        self.quote = engine.dialect.identifier_preparer.quote

    def name(self, schema: str | None, table: str) -> str:
        """Write the name of a table; None is that schema in which the connection is."""
        return table if schema is None else f"{self.quote(self.schemas[schema])}.{table}"

    def rows(self) -> dict[str, list[Any]]:
        """Read everything, as a bystander does."""
        with self.bystander.connect() as connection:
            return {
                f"{schema}.{name}": sorted(
                    map(tuple, connection.execute(text(f"SELECT * FROM {self.name(schema, name)}")))
                )
                for schema in (*HOMES, FAR)
                for name in NAMES
            }

    def clear(self) -> None:
        """Drop all tables, and what goes with them."""
        with self.bystander.begin() as connection:
            for schema in (*HOMES, FAR):
                self._clear(connection, schema)

    def _clear(self, connection: Connection, schema: str) -> None:
        real = self.schemas[schema]
        if self.system == "postgresql":
            connection.execute(text(f"DROP SCHEMA IF EXISTS {real} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {real}"))
        elif self.system == "mariadb":
            connection.execute(text(f"DROP DATABASE IF EXISTS {real}"))
            connection.execute(text(f"CREATE DATABASE {real}"))
        else:
            for kind, name in connection.execute(text(f"SELECT type, name FROM {real}.sqlite_master")).all():
                if kind in ("table", "view"):
                    connection.execute(text(f"DROP {kind} IF EXISTS {real}.{name}"))

    def go(self, connection: Connection, schema: str) -> None:
        """Have *connection* find names without a schema in *schema*, as a tenant's does, past SQLAlchemy."""
        statement = {
            "postgresql": f"SET search_path TO {self.schemas[schema]}",
            "mariadb": f"USE {self.schemas[schema]}",
        }.get(self.system)
        if statement:
            with connection.connection.cursor() as cursor:
                cursor.execute(statement)


class Layout:
    """What there is on a stage before the block."""

    def __init__(self, draw: Callable[..., Any], stage: Stage) -> None:
        flags = st.sampled_from([False, False, True])
        self.stage = stage
        self.full = {(schema, name) for schema in HOMES for name in NAMES if draw(flags)}
        self.cascade = draw(flags)
        self.dangling = self.cascade and stage.system != "postgresql" and draw(flags)
        self.triggers = {(schema, kind) for schema in HOMES for kind in ("insert", "delete", "across") if draw(flags)}
        self.child = stage.system == "postgresql" and draw(flags)

    @property
    def is_plain(self) -> bool:
        """Whether a write to one table reaches no other."""
        return not (self.cascade or self.triggers or self.child)

    def build(self) -> None:
        """Make the tables, the rows of bystanders, and what writes by itself."""
        self.stage.clear()
        with self.stage.bystander.begin() as connection:
            for statement in self.statements():
                connection.execute(text(statement))

    def statements(self) -> Iterator[str]:
        """Yield the SQL for it."""
        if self.stage.system == "mariadb":
            yield "SET foreign_key_checks = 0"
        for schema in (*HOMES, FAR):
            yield from self._tables(schema)
        for schema in HOMES:
            word = "word" if self.stage.system == "sqlite" else self.stage.name(schema, "word")
            yield f"CREATE VIEW {self.stage.name(schema, 'words')} AS SELECT id, text FROM {word}"
            yield from self._routines(schema)
        for schema, kind in sorted(self.triggers):
            yield from self._trigger(schema, kind)

    def _tables(self, schema: str) -> Iterator[str]:
        key = {"postgresql": "SERIAL PRIMARY KEY", "mariadb": "INTEGER AUTO_INCREMENT PRIMARY KEY"}
        number = key.get(self.stage.system, "INTEGER PRIMARY KEY")
        for name in NAMES:
            # SQLite writes the table that is referred to without a schema: it is in the same file.
            parent = "word" if self.stage.system == "sqlite" else self.stage.name(schema, "word")
            action = "ON DELETE CASCADE ON UPDATE CASCADE" if self.cascade else ""
            more = (
                f", word_id INTEGER, FOREIGN KEY (word_id) REFERENCES {parent} (id) {action}"
                if name == "letter"
                else ""
            )
            yield f"CREATE TABLE {self.stage.name(schema, name)} (id {number}, text VARCHAR(20){more})"
            if (schema, name) in self.full or schema == FAR:
                yield f"INSERT INTO {self.stage.name(schema, name)} (text) VALUES ('old'), ('older')"
        if self.dangling:
            yield f"UPDATE {self.stage.name(schema, 'letter')} SET word_id = 1"
        if self.child and schema == "acme":
            yield f"CREATE TABLE {self.stage.name('acme', 'child')} () INHERITS ({self.stage.name('here', 'word')})"
            yield f"INSERT INTO {self.stage.name('acme', 'child')} (text) VALUES ('old')"

    def _routines(self, schema: str) -> Iterator[str]:
        name = partial(self.stage.name, schema)
        add = f"INSERT INTO {name('word')} (text) VALUES ('new')"
        if self.stage.system == "sqlite":
            add = "INSERT INTO word (text) VALUES (new.text)"
            yield f"CREATE TRIGGER {name('more_words')} INSTEAD OF INSERT ON words BEGIN {add}; END"
        elif self.stage.system == "mariadb":
            yield f"CREATE PROCEDURE {name('add_word')}() {add}"
            yield f"CREATE FUNCTION {name('added')}() RETURNS INTEGER MODIFIES SQL DATA BEGIN {add}; RETURN 1; END"
        else:
            yield f"CREATE PROCEDURE {name('add_word')}() LANGUAGE sql AS $$ {add} $$"
            body = f"BEGIN {add}; RETURN 1; END"
            yield f"CREATE FUNCTION {name('added')}() RETURNS INTEGER LANGUAGE plpgsql AS $$ {body} $$"

    def _trigger(self, schema: str, kind: str) -> Iterator[str]:
        stage = self.stage
        target = "acme" if schema == "here" else "here"
        audit = stage.name(target if kind == "across" else schema, "audit")
        moment = "DELETE" if kind == "delete" else "INSERT"
        name = f"{kind}_{schema}"
        if stage.system == "sqlite":
            if kind != "across":
                yield (
                    f"CREATE TRIGGER {stage.name(schema, name)} AFTER {moment} ON word"
                    f" BEGIN INSERT INTO audit (text) VALUES ('seen'); END"
                )
        elif stage.system == "mariadb":
            yield (
                f"CREATE TRIGGER {stage.name(schema, name)} AFTER {moment} ON {stage.name(schema, 'word')}"
                f" FOR EACH ROW INSERT INTO {audit} (text) VALUES ('seen')"
            )
        else:
            function = stage.name(schema, f"on_{name}")
            yield (
                f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql"
                f" AS $$ BEGIN INSERT INTO {audit} (text) VALUES ('seen'); RETURN NULL; END $$"
            )
            yield (
                f"CREATE TRIGGER {name} AFTER {moment} ON {stage.name(schema, 'word')}"
                f" FOR EACH ROW EXECUTE FUNCTION {function}()"
            )


homes = st.sampled_from(HOMES)
schemas = st.sampled_from([*HOMES, None, None, FAR])
names = st.sampled_from(NAMES)


class Block(RuleBasedStateMachine):
    """Sends anything in a committing block."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.refused = False

    @initialize(data=st.data())
    def begin(self, data: Any) -> None:
        """Make the tables and begin the block."""
        self.layout = Layout(data.draw, self.stage)
        self.layout.build()
        self.before = self.stage.rows()
        self.block = committing(database=MARKED)
        self.block.__enter__()

    @rule(home=homes, schema=schemas, name=names, way=st.sampled_from(["map", "schema"]), kind=st.sampled_from("iuds"))
    def by_table(self, home: str, schema: str | None, name: str, way: str, kind: str) -> None:
        """Write to a table by its model, in the schema of the connection, of a map, or of its own."""
        real = None if schema is None else self.stage.schemas[schema]
        options: dict[str, Any] = {}
        table = TABLES[name]
        if way == "map" and real is not None:
            options = {"schema_translate_map": {None: real}}
        elif real is not None:
            table = table.to_metadata(MetaData(), schema=real)
        statement: Any = {
            "i": insert(table).values(text="new"),
            "u": update(table).values(text="new"),
            "d": delete(table).where(table.c.text.in_(select(TABLES["audit"].c.text))),
            "s": insert(table).from_select(["text"], select(TABLES["audit"].c.text)),
        }[kind]
        where = (schema or (home if self.stage.system != "sqlite" else "here"), name)
        sent = self.send(home, lambda connection: connection.execute(statement, execution_options=options))
        if self.layout.is_plain and where[0] != FAR:
            assert sent == (where not in self.layout.full)

    @rule(
        home=homes, schemas=st.tuples(schemas, schemas), names=st.tuples(names, names), template=st.sampled_from(TEXTS)
    )
    def by_text(self, home: str, schemas: tuple[Any, Any], names: tuple[str, str], template: str) -> None:
        """Write by text, with one table or two."""
        table, other = map(self.stage.name, schemas, names)
        self.send(home, lambda connection: connection.exec_driver_sql(template.format(table=table, other=other)))

    @rule(home=homes, schema=schemas, name=names, other=names, template=st.sampled_from(CHANGES))
    def by_change(self, home: str, schema: str | None, name: str, other: str, template: str) -> None:
        """Change what there is."""
        table = self.stage.name(schema, name)
        statement = template.format(table=table, other=other)
        self.send(home, lambda connection: connection.exec_driver_sql(statement))

    @rule(
        home=homes,
        schema=schemas,
        template=st.sampled_from(
            ["INSERT INTO {} (text) VALUES ('new')", "UPDATE {} SET text = 'new'", "DELETE FROM {}"]
        ),
    )
    def by_view(self, home: str, schema: str | None, template: str) -> None:
        """Write through a view."""
        statement = template.format(self.stage.name(schema, "words"))
        self.send(home, lambda connection: connection.exec_driver_sql(statement))

    @rule(home=homes, schema=schemas, template=st.sampled_from(["CALL {}add_word()", "SELECT {}added()"]))
    def by_routine(self, home: str, schema: str | None, template: str) -> None:
        """Have a routine write."""
        statement = template.format(self.stage.name(schema, "")).replace("``", "")
        self.send(home, lambda connection: connection.exec_driver_sql(statement).close())

    @rule(home=homes, name=names)
    def by_temporary_table(self, home: str, name: str) -> None:
        """Make a temporary table, of the name of another, and write to it."""
        drop = {
            "mariadb": f"DROP TEMPORARY TABLE {name}",
            "postgresql": f"DROP TABLE pg_temp.{name}",
            "sqlite": f"DROP TABLE temp.{name}",
        }[self.stage.system]

        def write(connection: Connection) -> None:
            connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {name} (id INTEGER, text VARCHAR(20))")
            try:
                connection.exec_driver_sql(f"INSERT INTO {name} (text) VALUES ('new')")
            finally:
                connection.exec_driver_sql(drop)

        self.send(home, write)

    def send(self, home: str, write: Callable[[Connection], object]) -> bool:
        """Do what writes, in a transaction of its own, and return whether it was let through."""
        before = self.stage.rows()
        with self.stage.engine.connect() as connection:
            self.stage.go(connection, home)
            try:
                write(connection)
                connection.commit()
            except DBAPIError:
                return True
            except IsolationError:
                self.refused = True
                connection.rollback()
                assert self.stage.rows() == before
                return False
        return True

    def teardown(self) -> None:
        """End the block: all is as it was."""
        if not hasattr(self, "block"):
            return
        problem = None
        try:
            self.block.__exit__(None, None, None)
        except IsolationError as raised:
            problem = raised
        assert self.stage.rows() == self.before
        assert self.refused or problem is None, problem


def attach(folder: Path, connection: Any, _record: object) -> None:
    """Attach the other files to SQLite's connection."""
    for name in ("acme", FAR):
        connection.execute(f"ATTACH DATABASE '{folder}/{name}.db' AS {name}")
    connection.execute("PRAGMA synchronous = OFF")


def test_sqlite(tmp_path: Path) -> None:
    """On SQLite a schema is another file."""
    url = f"sqlite:///{tmp_path}/here.db"
    engines = create_engine(url), create_engine(url, poolclass=NullPool)
    for engine in engines:
        event.listen(engine, "connect", partial(attach, tmp_path))
    event.listen(engines[0], "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys = ON"))
    run(Stage(*engines, {"here": "main", "acme": "acme", FAR: FAR}))


@pytest.mark.system("postgresql")
def test_postgresql(postgresql_url: URL) -> None:
    """On PostgreSQL a schema is part of the database."""
    schemas = {name: f"machine_{name}" for name in (*HOMES, FAR)}
    stage = Stage(create_engine(postgresql_url), create_engine(postgresql_url), schemas)
    run(stage, *(f"DROP SCHEMA IF EXISTS {schema} CASCADE" for schema in schemas.values()))


@pytest.mark.system("mariadb")
def test_mariadb(mariadb_url: URL) -> None:
    """On MariaDB a schema is another database."""
    schemas = {name: f"{mariadb_url.database}_{name}" for name in (*HOMES, FAR)}
    stage = Stage(create_engine(mariadb_url.set(database=schemas["here"])), create_engine(mariadb_url), schemas)
    run(stage, *(f"DROP DATABASE IF EXISTS {schema}" for schema in schemas.values()))


def run(stage: Stage, *clean_up: str) -> None:
    """Send anything, again and again."""
    examples = settings(max_examples=min(settings.default.max_examples // 2, 250), stateful_step_count=15)
    try:
        run_state_machine_as_test(partial(Block, stage), settings=examples)
    finally:
        stage.engine.dispose()
        with stage.bystander.begin() as connection:
            for statement in clean_up:
                connection.execute(text(statement))
        stage.bystander.dispose()
