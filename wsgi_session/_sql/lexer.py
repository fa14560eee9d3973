"""The lexer: a statement without its values.  Pure: from text to text, in a time that its length bounds."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .excerpt import ELLIPSIS, excerpt
from .grammars import UNDECIDED, Escapes, pattern_of, readings_of

MAX_READ = 50_000
"""The characters of a statement that are read; what comes after them is not shown."""

_SHOWN = {
    "code": " /*!...*/ ",
    "comment": " ",
    "distinct": "DISTINCT FROM",
    "doubt": "?" + ELLIPSIS,
    "endless": " ",
    "kept": "",
    "line": "?",
    "list": "IN (...)",
    "open": "?",
    "value": "?",
}
_ENDS = frozenset({"doubt", "endless", "open"})
"""The kinds of tokens after which nothing is read."""

_edge_of_comment = re.compile(r"/\*|\*/")


class _Reading(NamedTuple):
    text: str
    is_whole: bool
    """Whether all was read, and each of its quotes and comments has its end."""


def without_values(statement: str, dialect: str, limit: int = MAX_READ) -> str:
    """Return a *statement* with ``?`` for every value and parameter, and without comments.

    Args:
        statement: What is sent.
        dialect: The name that SQLAlchemy gives to its dialect.
        limit: The characters of the result after which it ends, with an ellipsis.
    """
    sql, nul, _ = statement[: MAX_READ + 1].partition("\0")  # behind it some drivers send nothing
    text = excerpt(" ".join(_read(sql + nul, 0, dialect, limit=limit).text.split()), limit)
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def read_whole(statement: str, dialect: str) -> str | None:
    """Return a *statement* as `without_values` does; None if it could not be read to its end, or is too long."""
    reading = _read(statement, 0, dialect)
    return " ".join(reading.text.split()) if reading.is_whole else None


def _read(sql: str, at: int, dialect: str, escapes: Escapes = UNDECIDED, limit: int = MAX_READ) -> _Reading:
    """Read *sql* from a place *at* which nothing is open, until the text is longer than the *limit*."""
    parts: list[str] = []
    size, match = 0, pattern_of(dialect, escapes).match
    while at < len(sql) and size <= limit:
        found: Any = match(sql, at)
        kind, start, at = found.lastgroup, found.end(1), found.end()
        if kind == "nested":
            kind, at = _nested(sql, start)
        if kind == "fork":
            rest = _forked(sql, start, dialect)
            return _Reading("".join(parts) + found[1] + rest, is_whole=rest != _SHOWN["doubt"])
        parts += found[1], _SHOWN[kind] if kind in _SHOWN else found[kind]
        if kind in _ENDS:
            return _Reading("".join(parts), is_whole=False)
        size += start - found.start() + 1
    is_whole = at >= len(sql) <= MAX_READ
    return _Reading("".join(parts) if is_whole else "".join(parts) + ELLIPSIS, is_whole)


def _nested(sql: str, start: int) -> tuple[str, int]:
    """Return what a comment is that may have others in it, and where it ends."""
    depth = 0
    for edge in _edge_of_comment.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return "comment", edge.end()
    return "endless", len(sql)


def _forked(sql: str, start: int, dialect: str) -> str:
    """Return the rest of a statement as all servers show it that can read it; nothing of it if they differ."""
    readings = (_read(sql, start, dialect, one) for one in readings_of(dialect))
    texts = {text for text, is_whole in readings if is_whole}
    return texts.pop() if len(texts) == 1 else _SHOWN["doubt"]
