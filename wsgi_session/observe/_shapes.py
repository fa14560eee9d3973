"""The shape of a statement: its text without the values that somebody has typed into it, and what it does."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import NamedTuple

from .._sql.excerpt import ELLIPSIS
from .._sql.lexer import without_values

END = "end"
"""The kind of a ROLLBACK by which nothing is undone: what has only read gives its connection back with one."""

ENDINGS = frozenset({"commit", "rollback"})
"""The kinds of what ends a transaction that may have written, or a savepoint."""

BOOKKEEPING = ENDINGS | {END, "begin", "pragma", "release", "savepoint", "set", "show"}
"""The kinds of statements that hold transactions together and read or write nothing of the application's."""

HARMLESS = BOOKKEEPING | {"explain", "select", "table", "values"}
"""The kinds of statements that leave all rows as they are; what is not among them may write, as a CALL may."""

WRITES = frozenset({"delete", "insert", "merge", "replace", "update"})
"""The kinds of statements that are sure to write rows."""

MAX_LENGTH = 4000
"""The characters that are kept of a text."""

_MAX_SHAPES = 1024
_MAX_KIND = 20


class Shape(NamedTuple):
    """What statements have in common that differ in their values alone."""

    sql: str
    """The text, with ``?`` for every value and parameter; a long one ends with an ellipsis."""

    kind: str
    """Its first word in lower case, such as ``"select"``; for a ``WITH`` the first one that writes, or ``"select"``.

    That of a ``WITH`` that cannot be read to its end is ``"with"``.
    """


_order = re.compile(r"\bORDER BY\b", re.IGNORECASE)
_limit = re.compile(r"\b(?:LIMIT|FETCH)\b", re.IGNORECASE)
_word = re.compile(r"[^A-Za-z\"`\[/]*([A-Za-z]+)")
_write = re.compile(
    r"""\"[^\"]*\" | `[^`]*` | \[[^\]]*\]              # a name
      | (?<!\bFOR\ )(?<!\bKEY\ )                       # not a lock: FOR UPDATE, FOR NO KEY UPDATE
        (?<!\.)\b(INSERT|UPDATE|DELETE|MERGE|REPLACE(?=\ INTO\b))\b     # nor the name of a column
    """,
    re.IGNORECASE | re.VERBOSE,
)
_words_as_values = {
    kind: re.compile(pattern, re.IGNORECASE)
    for kind, pattern in {
        "alter": r"(.* SET \S+ (?:=|TO\b) ?|.*\bIDENTIFIED BY ).*",
        "create": r"(.*\bIDENTIFIED BY ).*",
        "exec": r"(EXEC \S+ ).*",
        "execute": r"(EXECUTE \S+ ).*",
        "grant": r"(.*\bIDENTIFIED BY ).*",
        "pragma": r"(.*?(?:=|\() ?).*",
        "release": r"(RELEASE (?:SAVEPOINT )?).*",
        "rollback": r"(ROLLBACK (?:TRAN(?:SACTION)?|(?:\w+ )?TO(?: SAVEPOINT)?) ).*",
        "save": r"(SAVE TRAN(?:SACTION)? ).*",
        "savepoint": r"(SAVEPOINT ).*",
        "set": r"(.*?(?:=|\bTO\b) ?).*",
    }.items()
}
"""Up to where a statement is shown in which a word without quotes may be a value, or the name of a savepoint."""

_shapes: dict[Hashable, Shape] = {}
"""By hashes of statements, for these may be long, and by themselves, so that equal ones are one."""


def shape_of(statement: str, dialect: str) -> Shape:
    """Return the shape of a *statement* that was written for a *dialect*, by the name of that."""
    key = hash(statement), len(statement), dialect
    shape = _shapes.get(key)
    return _remembered(key, _shape(statement, dialect)) if shape is None else shape


def is_list_or_page(sql: str) -> bool:
    """Say whether a shape reads many rows by a list of keys, or one page after another."""
    if "IN (...)" in sql:
        return True
    order = _order.search(sql)
    return order is not None and _limit.search(sql, order.end()) is not None


def forget_shapes() -> None:
    """Give back what the shapes of earlier statements take."""
    _shapes.clear()


def _remembered(key: Hashable, shape: Shape) -> Shape:
    if len(_shapes) >= _MAX_SHAPES:
        _shapes.clear()
    shape = _shapes.setdefault(shape, shape)
    return _shapes.setdefault(key, shape)


def _shape(statement: str, dialect: str) -> Shape:
    sql = without_values(statement, dialect, MAX_LENGTH)
    kind = _kind(sql)
    if kind == "with" and sql.endswith(ELLIPSIS):  # what it writes may come late
        kind = _kind(without_values(statement, dialect))
    words = _words_as_values.get(kind)
    return Shape(words.sub(r"\1?", sql) if words else sql, kind)


def _kind(sql: str) -> str:
    word = _word.match(sql)
    kind = word[1].lower()[:_MAX_KIND] if word else ""
    if kind != "with":
        return kind
    write = next((found[1] for found in _write.finditer(sql) if found[1]), None)
    if write is None:
        return kind if sql.endswith(ELLIPSIS) else "select"
    return write.lower()
