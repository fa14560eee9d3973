"""PostgreSQL, as a system whose tables can be emptied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._catalog import Thing
from ._system import Place, System

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._system import Ask

_THINGS = """
WITH relation AS (
    SELECT c.oid, c.relname, c.relkind, n.nspname, c.relowner
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'f', 'm', 'v')
)
SELECT
    CASE WHEN relkind = 'v' THEN 'view' WHEN why = '' THEN 'table' ELSE 'sealed' END, nspname, relname, NULL, NULL,
    CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) WHEN why <> '' THEN '' ELSE concat_ws(' ',
        (SELECT string_agg(pg_get_expr(adbin, adrelid), ' ') FROM pg_attrdef WHERE adrelid = oid),
        (SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k
            WHERE conrelid = r.oid AND contype = 'c')
    ) END,
    CASE WHEN why = '' THEN oid::text ELSE why END
FROM (
    SELECT *, CASE
        WHEN relkind = 'f' THEN 'is a foreign table'
        WHEN relkind = 'm' THEN 'is a materialized view'
        WHEN relkind = 'v' THEN ''
        WHEN row_security_active(oid) THEN 'has row level security, which may hide rows'
        WHEN has_schema_privilege(nspname, 'USAGE') AND has_table_privilege(oid, 'SELECT')
            AND has_table_privilege(oid, 'DELETE') THEN ''
        ELSE 'may not be read and emptied by this user'
    END AS why FROM relation
) r
UNION ALL
SELECT 'trigger', r.nspname, tgname, r.nspname, r.relname, format('%I.%I(', n.nspname, p.proname), t.oid::text
FROM pg_trigger t JOIN relation r ON r.oid = tgrelid JOIN pg_proc p ON p.oid = tgfoid
    JOIN pg_namespace n ON n.oid = p.pronamespace WHERE NOT tgisinternal
UNION ALL
SELECT 'trigger', r.nspname, rulename, r.nspname, r.relname, pg_get_ruledef(w.oid), w.oid::text
FROM pg_rewrite w JOIN relation r ON r.oid = ev_class WHERE rulename <> '_RETURN'
UNION ALL
SELECT 'key', c.nspname, c.relname, p.nspname, p.relname, '', k.oid::text
FROM pg_constraint k JOIN relation c ON c.oid = conrelid JOIN relation p ON p.oid = confrelid
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
UNION ALL
SELECT 'part', c.nspname, c.relname, p.nspname, p.relname, '', ''
FROM pg_inherits JOIN relation c ON c.oid = inhrelid JOIN relation p ON p.oid = inhparent
UNION ALL
SELECT 'routine', n.nspname, proname, NULL, NULL,
    CASE WHEN lanname IN ('sql', 'plpgsql') THEN substr(pg_get_functiondef(p.oid), 18) ELSE 'EXECUTE' END,
    CASE WHEN EXISTS (SELECT FROM pg_type y WHERE pronargs = 1 AND y.oid = proargtypes[0] AND typtype = 'c')
        THEN 'attribute' ELSE p.oid::text END
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
WHERE left(n.nspname, 3) <> 'pg_' AND n.nspname <> 'information_schema' AND prokind IN ('f', 'p') AND (
    lanname IN ('sql', 'plpgsql')
    OR NOT EXISTS (SELECT FROM pg_depend d WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
)
"""
"""What there is, as the fields of a `Thing`; the text of a function is without ``CREATE OR REPLACE``."""


class PostgreSQL(System):
    """PostgreSQL: all schemas of one database."""

    preparation = (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
        "SET lock_timeout = 10000",
    )

    def place(self, ask: Ask) -> Place:
        """Find out where a connection is; its temporary tables come first in the path."""
        rows = ask(
            "SELECT current_database(), extract(epoch FROM pg_postmaster_start_time()), schema"
            " FROM unnest(current_schemas(true)) AS schema"
        )
        return Place((rows[0][0], float(rows[0][1])), tuple(schema for _, _, schema in rows))

    def database_of(self, schema: str, place: Place) -> str | None:  # noqa: ARG002
        """Return the one database."""
        name: str = place.server[0]
        return name

    def schemas_of(self, place: Place) -> Sequence[str]:  # noqa: ARG002
        """List one, in place of all: any may be named, or in the path of a function."""
        return ("*",)

    def things(self, ask: Ask, schemas: Iterable[str]) -> Iterable[Thing]:  # noqa: ARG002
        """Read the system's catalogs."""
        return (Thing(*row) for row in ask(_THINGS))

    def empty(self, ask: Ask, tables: Iterable[Thing]) -> None:
        """Delete in one statement, at the end of which foreign keys are checked."""
        parts = (f"_{number} AS (DELETE FROM {self.written(one)})" for number, one in enumerate(tables))
        ask(f"WITH {', '.join(parts)} SELECT 1")

    def written(self, thing: Thing) -> str:
        """Write the name of a table, without those that inherit from it."""
        return f"ONLY {super().written(thing)}"
