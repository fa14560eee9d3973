"""The SQL: a statement in lines, and its words by their kinds.  Pure: from text to pieces.

What it reads are shapes, in which neither a string nor a comment is left; where it takes a word for another kind than
the database does, the colour is wrong, and nothing else.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

_WORDS = """
ALL ALTER AND AS ASC BEGIN BETWEEN BY CASE COMMIT CREATE CROSS CURRENT DELETE DESC DISTINCT DROP ELSE END EXCEPT
EXISTS FALSE FETCH FIRST FOR FROM FULL GROUP HAVING IN INDEX INNER INSERT INTERSECT INTO IS JOIN LATERAL LEFT LIKE
LIMIT LOCKED NATURAL NEXT NOT NOWAIT NULL NULLS OFFSET ON ONLY OR ORDER OUTER OVER PARTITION PRAGMA RECURSIVE RELEASE
REPLACE RETURNING RIGHT ROLLBACK ROW ROWS SAVEPOINT SELECT SET SKIP TABLE THEN TO TRUE UNION UPDATE USING VALUES WHEN
WHERE WITH
"""
_KEYWORDS = frozenset(_WORDS.split())
_CLAUSES = frozenset(
    {"EXCEPT", "FROM", "GROUP", "HAVING", "INTERSECT", "LIMIT", "OFFSET", "ORDER"}
    | {"RETURNING", "SELECT", "SET", "UNION", "VALUES", "WHERE"}
)
_JOINS = frozenset({"CROSS", "FULL", "INNER", "JOIN", "LEFT", "NATURAL", "OUTER", "RIGHT"})
_CONDITIONS = frozenset({"AND", "OR"})

_token = re.compile(
    r"""(?P<name>"[^"]*"|`[^`]*`|\[[^\]]*\]) | (?P<word>[^\W\d][\w$]*) | (?P<space>\s+) | .""", re.DOTALL | re.VERBOSE
)


class Piece(NamedTuple):
    """Some words of one kind."""

    kind: str
    """``"keyword"``, ``"value"`` for a ``?``, or ``"plain"``."""

    text: str


def pieces(sql: str) -> list[Piece]:
    """Return *sql* on one line, in pieces."""
    return _joined(_tokens(sql))


def lines(sql: str) -> list[list[Piece]]:
    """Return *sql* in lines: one for each clause, each JOIN and each condition that is in no parentheses."""
    found: list[list[Piece]] = [[]]
    depth, before, is_between = 0, "", False
    for piece in _tokens(sql):
        word = piece.text.upper() if piece.kind == "keyword" else ""
        depth += (piece.text == "(") - (piece.text == ")")
        if found[-1] and not depth and not (is_between and word == "AND"):
            indent = _indent_of(word, before)
            if indent is not None:
                found.append([Piece("plain", indent)])
        found[-1].append(piece)
        if piece.text != " ":
            before = word
            is_between = word == "BETWEEN" or (is_between and word != "AND")
    return [_joined(line) for line in found]


def _indent_of(word: str, before: str) -> str | None:
    """Say by what a line that begins with *word* is moved in; None if none does, after the keyword *before*."""
    if word in _CLAUSES and before not in ("DELETE", "DISTINCT"):
        return ""
    if word in _CONDITIONS or (word in _JOINS and before not in _JOINS):
        return "  "
    return None


def _tokens(sql: str) -> list[Piece]:
    return [_piece(token) for token in _token.finditer(sql.strip())]


def _piece(token: re.Match[str]) -> Piece:
    text = token[0]
    if token["space"]:
        return Piece("plain", " ")
    if token["word"] and text.upper() in _KEYWORDS:
        return Piece("keyword", text)
    return Piece("value" if text == "?" else "plain", text)


def _joined(found: list[Piece]) -> list[Piece]:
    """Make one piece of those of a kind that touch."""
    return [Piece(kind, "".join(one.text for one in same)) for kind, same in groupby(found, lambda one: one.kind)]
