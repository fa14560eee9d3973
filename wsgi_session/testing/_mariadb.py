"""MariaDB and MySQL, as a system whose tables can be emptied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._catalog import Thing
from ._system import Place, System

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._system import Ask

_THINGS = (
    """
    SELECT CASE
        WHEN table_type = 'BASE TABLE' AND engine IN ('InnoDB', 'Aria', 'MyISAM', 'MEMORY', 'ROCKSDB') THEN 'table'
        ELSE 'sealed' END,
        table_schema, table_name, NULL, NULL, '',
        CONCAT('is a ', LOWER(table_type), ' of the engine ', COALESCE(engine, '?'))
    FROM information_schema.tables WHERE table_schema = {schema} AND table_type NOT IN ('SEQUENCE', 'VIEW')
    """,
    """
    SELECT 'view', table_schema, table_name, NULL, NULL, COALESCE(view_definition, 'EXECUTE'), ''
    FROM information_schema.views WHERE table_schema = {schema}
    """,
    """
    SELECT 'trigger', trigger_schema, trigger_name, event_object_schema, event_object_table, action_statement, ''
    FROM information_schema.triggers WHERE trigger_schema = {schema}
    """,
    """
    SELECT 'routine', routine_schema, routine_name, NULL, NULL, COALESCE(routine_definition, 'EXECUTE'), ''
    FROM information_schema.routines WHERE routine_schema = {schema}
    """,
    """
    SELECT 'key', constraint_schema, table_name, unique_constraint_schema, referenced_table_name, '', ''
    FROM information_schema.referential_constraints
    WHERE unique_constraint_schema = {schema} AND (
        delete_rule IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR update_rule IN ('CASCADE', 'SET NULL', 'SET DEFAULT')
    )
    """,
)


class MariaDB(System):
    """MariaDB and MySQL: a schema is a database."""

    quote = "`"
    preparation = ("SET lock_wait_timeout = 10, innodb_lock_wait_timeout = 10, sql_safe_updates = 0",)

    def place(self, ask: Ask) -> Place:
        """Find out where a connection is; there may be no database that is its own."""
        ((server, database),) = ask("SELECT CONCAT_WS(' ', @@hostname, @@port, @@datadir), DATABASE()")
        return Place((server,), (database,) if database else ())

    def database_of(self, schema: str, place: Place) -> str | None:  # noqa: ARG002
        """Return the same."""
        return schema

    def databases(self, ask: Ask) -> Iterable[str]:
        """List all but those that are views of the server itself."""
        names = (name for (name,) in ask("SHOW DATABASES"))
        return [name for name in names if name not in ("information_schema", "performance_schema")]

    def things(self, ask: Ask, schemas: Iterable[str]) -> Iterable[Thing]:
        """Read the information schema."""
        for schema in schemas:
            literal = "'" + schema.replace("\\", r"\\").replace("'", "''") + "'"
            for question in _THINGS:
                yield from (Thing(*row) for row in ask(question.format(schema=literal)))

    def empty(self, ask: Ask, tables: Iterable[Thing]) -> None:
        """Delete without regard to foreign keys, which would reach other tables."""
        ask("SET foreign_key_checks = 0")
        for table in tables:
            ask(f"DELETE FROM {self.written(table)}")
