"""The targets: what a text of SQL may write to, by the words in it.  Pure.

Where the grammar of a text is not plain, it may write to all that it names: the answer may be too
much, and is never too little.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from .._sql.excerpt import ELLIPSIS
from .._sql.lexer import without_values
from ..observe._shapes import HARMLESS, WRITES, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Purpose(Enum):
    """What a statement is sent for."""

    READ = "read"
    """Nothing but the routines that it calls can write."""

    WRITE = "write"
    """It writes to its targets."""

    ANY = "any"
    """It may write to all that it names."""

    SCHEMA = "schema"
    """It changes what there is."""

    OWN_SCHEMA = "own schema"
    """It changes a temporary table, if it names no other."""


_DDL = frozenset({"alter", "create", "drop", "rename"})
_QUIET = HARMLESS | {"close", "declare", "discard", "fetch", "listen", "lock", "notify", "unlisten", "unlock"}

_NAME = r"""(?:[^\W\d][\w$]*|"[^"]+"|`[^`]+`|\[[^\]]+\])"""
_TABLE = rf"(?:ONLY\s+)?(?!(?:IGNORE|LOW_PRIORITY|ONLY|OR)\b)({_NAME}(?:\s*\.\s*{_NAME})*)"
_ALIAS = rf"(?:\s+(?:AS\s+)?{_NAME})?"
_write = re.compile(
    r"""\b(?:ALTER|COPY|CREATE|DELETE|DROP|INSERT|LOAD|MERGE|REFRESH|RENAME|REPLACE|TRUNCATE
          |(?<!\bDO\ )(?<!\bKEY\ )(?<!\bFOR\ )UPDATE)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_plain_write = re.compile(
    rf"""(?:INSERT(?:\s+IGNORE|\s+OR\s+\w+)?|REPLACE)\s+INTO\s+{_TABLE}\s*(?=\(|\b(?:DEFAULT|SELECT|VALUES)\b)
      |UPDATE\s+(?:OR\s+\w+\s+)?{_TABLE}{_ALIAS}\s+SET\b
      |DELETE\s+FROM\s+{_TABLE}{_ALIAS}\s*(?:$|(?=\)|\bWHERE\b|\bRETURNING\b))""",
    re.IGNORECASE | re.VERBOSE,
)
"""A write to one table that is named in its place, and not one to several, or to an alias."""

OPAQUE = re.compile(r"""\b(?:CASCADE|EXECUTE|PREPARE|dblink\w*)\b|\bU&["']""", re.IGNORECASE)
"""What leaves it to the database what a text writes to, or puts together its name."""

ESCAPED = re.compile(r"""\bU&["']""", re.IGNORECASE)
"""What writes a name by the numbers of its characters."""

_runs = {"explain": re.compile(r"\bANALY[SZ]E\b", re.IGNORECASE), "set": re.compile(r"\bSTATEMENT\b", re.IGNORECASE)}
"""What a statement has in it that runs another one, by its kind."""

_into = re.compile(r"\bINTO\b(?!\s+(?:TEMP|TEMPORARY)\b)", re.IGNORECASE)
_further = re.compile(r";\s*\S")
_no_table = re.compile(
    r"""\s*(?:CREATE\s+(?:(?:LOCAL|GLOBAL)\s+)?TEMP(?:ORARY)?\s+TABLE|DROP\s+TEMPORARY\s+TABLE
          |ALTER\s+SEQUENCE)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_maybe_temporary = re.compile(r"\s*(?:(?:ALTER|DROP)\s+TABLE|CREATE\s+(?:UNIQUE\s+)?INDEX)\b", re.IGNORECASE)


def purpose_of(statement: str, dialect: str) -> Purpose:
    """Say what a *statement* is sent for, in a *dialect*, by the name of that."""
    kind = shape_of(statement, dialect).kind
    if kind in _QUIET:
        return _purpose_of_quiet(statement, kind, dialect)
    if is_several(statement, dialect):
        return Purpose.ANY
    if kind in _DDL:
        return _purpose_of_ddl(statement)
    return Purpose.WRITE if kind in WRITES or kind == "with" else Purpose.ANY


def is_several(statement: str, dialect: str) -> bool:
    """Say whether there may be more than one statement in one."""
    if _further.search(statement) is None:
        return False
    bare = without_values(statement, dialect)
    return bare.endswith(ELLIPSIS) or _further.search(bare) is not None


def targets_in(text: str) -> Iterator[str]:
    """Yield the parts of *text* that name what it writes to: each a name alone, where the grammar is plain."""
    for piece in text.split(";"):
        plain = [_plain_write.match(piece, write.start()) for write in _write.finditer(piece)]
        names = [next(filter(None, found.groups())) for found in plain if found]
        yield from names if len(names) == len(plain) else [piece]


def _purpose_of_quiet(statement: str, kind: str, dialect: str) -> Purpose:
    if is_several(statement, dialect):
        return Purpose.ANY
    if kind in _runs and _runs[kind].search(statement):
        return Purpose.WRITE
    if kind == "select" and dialect == "postgresql" and _into.search(without_values(statement, dialect)):
        return Purpose.SCHEMA
    return Purpose.READ


def _purpose_of_ddl(statement: str) -> Purpose:
    if _no_table.match(statement):
        return Purpose.READ
    return Purpose.OWN_SCHEMA if _maybe_temporary.match(statement) else Purpose.SCHEMA
