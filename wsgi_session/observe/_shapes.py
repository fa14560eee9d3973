"""The shape of a statement: its text without the values that somebody has typed into it, and what it does."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

ENDINGS = frozenset({"commit", "rollback"})
"""The kinds of what ends a transaction, or a savepoint."""

BOOKKEEPING = ENDINGS | {"begin", "pragma", "release", "savepoint", "set", "show"}
"""The kinds of statements that hold transactions together and read or write nothing of the application's."""

HARMLESS = BOOKKEEPING | {"explain", "select", "table", "values"}
"""The kinds of statements that leave all rows as they are; what is not among them may write, as a CALL may."""

WRITES = frozenset({"delete", "insert", "merge", "replace", "update"})
"""The kinds of statements that are sure to write rows."""


class Shape(NamedTuple):
    """What statements have in common that differ in their values alone."""

    sql: str
    """The text, with ``?`` for every value and parameter."""

    kind: str
    """Its first word in lower case, such as ``"select"``; for a ``WITH`` the first one that writes, or ``"select"``."""


_VALUES = r"""
    /\*.*?(?:\*/|$) | --[^\n]*                      # comments, which may have anything in them
  | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$)           # PostgreSQL's dollar quotes
  | [eE]'(?:[^'\\]|\\.|'')*(?:'|$)                  # its strings with escapes
  | %(strings)s
  | %%\(\w+\)s | %%s | (?<![:\w]):\w+ | \$\d+       # parameters
  | \b\d[\w.]*\b | \?                               # numbers
"""
_STANDARD = r"\b[nNxXbB]?'(?:[^']|'')*(?:'|$) | '(?:[^']|'')*(?:'|$)"
_OF_MYSQL = r"'(?:[^'\\]|\\.|'')*(?:'|$) | \"(?:[^\"\\]|\\.|\"\")*(?:\"|$) | \#[^\n]*"


def _compiled(strings: str) -> re.Pattern[str]:
    return re.compile(_VALUES % {"strings": strings}, re.VERBOSE | re.DOTALL)


_standard, _of_mysql = _compiled(_STANDARD), _compiled(_OF_MYSQL)
_list = re.compile(r"\bIN \(\s*\?(?:::[\w ]+)?(?:\s*,\s*\?(?:::[\w ]+)?)*\s*\)", re.IGNORECASE)
_page = re.compile(r"\bORDER BY\b.*\b(?:LIMIT|FETCH)\b", re.IGNORECASE)
_space = re.compile(r"\s+")
_word = re.compile(r"[A-Za-z]+")
_write = re.compile(
    r"""(?<!\bFOR\ )(?<!\bKEY\ )                       # not a lock: FOR UPDATE, FOR NO KEY UPDATE
        (?<![."`])\b(INSERT|UPDATE|DELETE|MERGE)\b     # nor the name of a column
    """,
    re.IGNORECASE | re.VERBOSE,
)


@lru_cache(maxsize=1024)
def shape_of(statement: str, dialect: str) -> Shape:
    """Return the shape of a *statement* that was written for a *dialect*, by the name of that."""
    values = _of_mysql if dialect in ("mysql", "mariadb") else _standard
    sql = _space.sub(" ", values.sub(_without_value, statement)).strip()
    sql = _list.sub("IN (...)", sql)
    return Shape(sql, _kind(sql))


def is_list_or_page(sql: str) -> bool:
    """Say whether a shape reads many rows by a list of keys, or one page after another."""
    return "IN (...)" in sql or _page.search(sql) is not None


def _without_value(found: re.Match[str]) -> str:
    return " " if found[0].startswith(("/*", "--", "#")) else "?"


def _kind(sql: str) -> str:
    word = _word.search(sql)
    kind = word[0].lower() if word else ""
    if kind != "with":
        return kind
    write = _write.search(sql)
    return write[1].lower() if write else "select"
