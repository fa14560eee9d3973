"""Statements that are written to mislead whoever reads them, with secrets in their values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

DIALECTS = ("postgresql", "mysql", "sqlite", "oracle")
"""One of each grammar; the last has none of its own."""

SECRET = "hunter"
"""What every secret begins with; the number of it follows."""

FRAGMENTS = (
    *("'", "''", "'''", '"', '""', '"""', "`", "``", "[", "]", "{", "}", "(", ")"),
    *("\\", "\\\\", "\\'", '\\"', "$", "$$", "$a$", "$1", "%", "%%", "%s", "%(a)s", "%(it's)s", "?", "?1", "?|"),
    *(":", "::", ":a", "::int", ":=", "@", "@a", "#", "#>>", "--", "-- ", "-", "->>", "/*", "/*!", "/*M!", "/*!40001 "),
    *("/*+ ", "*/", "/", "*", "//", "E'", "e'", "B'", "X'", "N'", "n'", "U&'", 'U&"', "q'[", "q'", "_utf8'", "r'"),
    *("1", "1.", ".5", "1e5", "1e-5", "0x1F", "1_000", "1E'", "a", "A", "e", "x", "_", "é", "€", "\xa0", ".", ",", ";"),
    *("=", " ", " ", " ", "\n", "\r", "\t", "\x00", "SELECT ", " AS ", " FROM ", " DISTINCT ", " IN (", " IN(", "in"),
    *("INSERT INTO ", "VALUES ", " SET ", " UPDATE ", "WITH a AS (", " ORDER BY ", " LIMIT ", "IDENTIFIED BY "),
)
"""What statements are made of, and what may stand in the wrong place."""


def soup(of: random.Random, length: int) -> str:
    """Make a statement of fragments and secrets, at random."""
    return "".join(_secret(number) if of.random() < 0.25 else of.choice(FRAGMENTS) for number in range(length))


@st.composite
def soups(draw: st.DrawFn, fragments: tuple[str, ...] = FRAGMENTS) -> str:
    """Draw a statement of fragments and secrets."""
    parts = draw(st.lists(st.sampled_from(("", *fragments)), min_size=1, max_size=16))
    return "".join(part or _secret(number) for number, part in enumerate(parts))


def secrets_in(text: str) -> set[str]:
    """Find the secrets in *text*."""
    return {SECRET + rest[:2] for rest in text.split(SECRET)[1:]}


@dataclass(frozen=True)
class Planted:
    """A statement that has been written as a developer would, but for what is in it."""

    sql: str
    values: tuple[str, ...]
    """What it selects."""


@dataclass(frozen=True)
class Notation:
    """How one server takes values, names and comments.

    Each text says how a thing is written, with ``{}`` for what is in it, and what in it is written otherwise.
    """

    strings: tuple[tuple[str, dict[str, str]], ...]
    names: tuple[tuple[str, dict[str, str]], ...]
    comments: tuple[tuple[str, dict[str, str]], ...]


_DOUBLED, _DOUBLED_TOO, _ESCAPED = {"'": "''"}, {'"': '""'}, {"\\": "\\\\", "'": "\\'"}
_NAMES = (('"{}"', _DOUBLED_TOO),)
_BLOCKS, _LINES = ("/* {} */", {"*/": "", "/*": ""}), ("-- {}\n", {"\n": "", "\r": ""})
_NESTED = ("/* a /* {} */ {} */", {"*/": "", "/*": ""})

POSTGRESQL = Notation(
    (
        ("'{}'", _DOUBLED),
        ("E'{}'", _ESCAPED),
        ("N'{}'", _DOUBLED),
        ("$${}$$", {"$": ""}),
        ("$tag${}$tag$", {"$": ""}),
        ("U&'{}'", {"'": "''", "\\": "\\\\"}),
    ),
    _NAMES,
    (_BLOCKS, _LINES, _NESTED),
)
POSTGRESQL_WITH_ESCAPES = Notation((("'{}'", _ESCAPED), ("'{}'", {"'": "''", "\\": "\\\\"})), _NAMES, (_BLOCKS, _LINES))
SQLITE = Notation(
    (("'{}'", _DOUBLED), ('"{}"', _DOUBLED_TOO)),
    ((" AS [{}]", {"]": ""}), (" AS `{}`", {"`": "``"}), (' AS "{}"', _DOUBLED_TOO)),
    (_BLOCKS, ("-- {}\n", {"\n": ""})),
)
_OF_MARIADB = (_BLOCKS, ("-- {}\n", {"\n": ""}), ("# {}\n", {"\n": ""}))
_BACKTICKS = ((" AS `{}x`", {"`": "``"}),)
MARIADB = Notation(
    (("'{}'", _ESCAPED), ('"{}"', {"\\": "\\\\", '"': '\\"'}), ("_utf8mb4'{}'", _ESCAPED), ("N'{}'", _ESCAPED)),
    _BACKTICKS,
    _OF_MARIADB,
)
MARIADB_WITHOUT_ESCAPES = Notation((("'{}'", _DOUBLED), ('"{}"', _DOUBLED_TOO)), _BACKTICKS, _OF_MARIADB)
MARIADB_WITH_ANSI_QUOTES = Notation(
    (("'{}'", _ESCAPED), ("_utf8mb4'{}'", _ESCAPED)), (*_BACKTICKS, (' AS "{}x"', _DOUBLED_TOO)), _OF_MARIADB
)

_insides = st.lists(
    st.sampled_from(["'", '"', "\\", "`", "--", "-- ", "/*", "*/", "$", "$$", "#", " ", "a", "\n", "]", "é", ";", "?"]),
    max_size=5,
).map("".join)


@st.composite
def planted(draw: st.DrawFn, notation: Notation) -> Planted:
    """Draw a SELECT of secrets, with names and comments between them in which anything may stand."""
    values = tuple(_values(draw))
    columns = [
        f"{_written(draw, notation.strings, value)}"
        f"{draw(st.sampled_from(['', ' ', chr(10)]))}"
        f"{_maybe(draw, notation.comments)}{_named(draw, notation)}"
        for value in values
    ]
    return Planted(f"SELECT {_maybe(draw, notation.comments)}{', '.join(columns)}", values)


def _values(draw: st.DrawFn) -> Iterator[str]:
    for number in range(draw(st.integers(1, 4))):
        yield draw(_insides) + _secret(number) + draw(_insides)


def _written(draw: st.DrawFn, how: tuple[tuple[str, dict[str, str]], ...], value: str) -> str:
    fitting = [
        (form, others) for form, others in how if all(others.get(mark) != "" for mark in others if mark in value)
    ]
    form, others = draw(st.sampled_from(fitting))
    for mark, other in others.items():
        value = value.replace(mark, other)
    return form.replace("{}", value)


def _maybe(draw: st.DrawFn, how: tuple[tuple[str, dict[str, str]], ...]) -> str:
    if draw(st.booleans()):
        return ""
    form, others = draw(st.sampled_from(how))
    return " " + form.replace("{}", _without(draw(_insides) + _secret(90), others)) + " "


def _named(draw: st.DrawFn, notation: Notation) -> str:
    if draw(st.booleans()):
        return ""
    form, others = draw(st.sampled_from(notation.names))
    name = draw(_insides)
    for mark, other in others.items():
        name = name.replace(mark, other)
    return (form if " AS " in form else " AS " + form).replace("{}", f"n {name} n")


def _without(text: str, marks: dict[str, str]) -> str:
    for mark in marks:
        while mark in text:
            text = text.replace(mark, "")
    return text.rstrip("*/\\") + " "


def _secret(number: int) -> str:
    return f"{SECRET}{number:02}"
