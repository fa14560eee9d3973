"""The texts: what a statement does that was written by hand, as far as its words tell; in doubt it writes.

Its strings and its comments are none of its words: the lexer takes them out first. A name in quotes, and what follows a
dot, is a name.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .lexer import read_whole

_OF_MYSQL = frozenset({"mysql", "mariadb"})
"""The names of the dialects that commit before some statements, and lose the rows of a cursor with the next one."""

_names = re.compile(r"\"[^\"]*\"|`[^`]*`|\[[^\]]*\]|\.\s*\w+")

_first_word = re.compile(r"[\s(;]*(\w+)")

_end = re.compile(
    r"[\s(;]*(COMMIT|END|ROLLBACK|ABORT)\b(?! (?:(?:WORK|TRANSACTION) )?(?:TO|PREPARED)\b)", re.IGNORECASE
)

_end_of_several = re.compile(r";[\s(;]*(?:COMMIT|END)\b(?! PREPARED\b)", re.IGNORECASE)

_harmless = re.compile(
    r"""analyze|begin|close|deallocate|declare|describe|discard|explain|fetch|listen|lock|move|pragma|prepare|release|reset
    |rollback|savepoint|select|set|show|table|unlisten|unlock|use|values|with""",
    re.VERBOSE,
)
"""What a statement begins with that changes no rows, unless one of the `_changing` words is in it."""

_changing = re.compile(
    r"""(?<!\bFOR\ )(?<!\bKEY\ )\b(?:UPDATE|DELETE|MERGE|INTO|CALL|EXECUTE|(?:INSERT|REPLACE)(?!\ ?\())\b
    |\b(?:pg_notify|lo_(?:create|creat|from_bytea|import|unlink|put))\b|/\*!""",
    re.IGNORECASE | re.VERBOSE,
)
"""The words that change something. ``FOR UPDATE`` locks; ``insert(`` and ``replace(`` are functions on text."""

_setting = re.compile(
    r"""\bset_config\b|\bpg_(?:try_)?advisory_|\bget_lock\b
    |\bFOR\ (?:NO\ KEY\ )?UPDATE\b|\bFOR\ (?:KEY\ )?SHARE\b|\bLOCK\ IN\ SHARE\ MODE\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""What a SELECT may do that ends with its transaction, or with its connection."""

_temporary = re.compile(r"\b(?:CREATE|DROP)(?: OR REPLACE)?(?: GLOBAL| LOCAL)? TEMP(?:ORARY)?\b", re.IGNORECASE)

_permanent = re.compile(r"alter|create|drop|grant|rename|revoke|truncate")
"""What a statement begins with whose effect is there until another one, if it is not on something temporary."""

_implicit = re.compile(
    r"""(?:ALTER|CREATE|DROP(?!\ PREPARE\b)|FLUSH|GRANT|RENAME|REVOKE|TRUNCATE|CACHE\ INDEX|LOAD\ INDEX
    |LOCK\ TABLES?|START\ TRANSACTION|BEGIN(?!\ NOT\b)
    |(?:ANALYZE|CHECK|OPTIMIZE|REPAIR)\ (?:NO_WRITE_TO_BINLOG\ |LOCAL\ )?TABLE)\b""",
    re.IGNORECASE | re.VERBOSE,
)
"""What a statement begins with before which MySQL and MariaDB are sure to commit (their manuals, "implicit commit")."""

_perhaps_implicit = re.compile(
    r"(?:INSTALL|RESET|START|STOP|CHANGE|UNINSTALL|UNLOCK)\b|SET\b.*\bautocommit\b", re.IGNORECASE
)
"""What they may commit before, or not: it depends on what was before."""


def end_of(statement: str, dialect: str) -> str | None:
    """Return the word by which *statement* ends its transaction, such as ``"ROLLBACK"``; None if it does not."""
    found = _end.match(_words(statement, dialect))
    return found[1].upper() if found else None


def is_commit(statement: str, dialect: str) -> bool:
    """Say whether *statement* commits, also as one of several."""
    if end_of(statement, dialect) in ("COMMIT", "END"):
        return True
    return _end_of_several.search(_words(statement, dialect)) is not None


def may_write(statement: str, dialect: str) -> bool:
    """Say whether *statement*, or one of several in it, may change rows."""
    words = _words(statement, dialect)
    return words == _UNREADABLE or any(map(_may_write, filter(str.strip, words.split(";"))))


def sets_up(statement: str, dialect: str) -> bool:
    """Say whether *statement*, which returns rows, sets up something or locks something for its transaction."""
    return _setting.search(_words(statement, dialect)) is not None


def is_permanent(statement: str, dialect: str) -> bool:
    """Say whether *statement* defines something that is there until it is changed, and not for a while."""
    words = _words(statement, dialect)
    return _permanent.fullmatch(_first(words)) is not None and _temporary.match(words) is None


def commits_on_mysql(statement: str, dialect: str) -> bool:
    """Say whether *statement* is one of MySQL or MariaDB before which they are sure to commit what was written."""
    if dialect not in _OF_MYSQL:
        return False
    words = _words(statement, dialect)
    return _implicit.match(words) is not None and _temporary.match(words) is None


def may_commit_on_mysql(statement: str, dialect: str) -> bool:
    """Say whether they may commit what was written before *statement*, or with each one from then on."""
    return dialect in _OF_MYSQL and _perhaps_implicit.match(_words(statement, dialect)) is not None


def word_of(statement: str, dialect: str) -> str:
    """Return the first word of *statement*, in lower case; empty if there is none."""
    return _first(_words(statement, dialect))


def _words(statement: str, dialect: str) -> str:
    """Return the words of a *statement*, with one space between any two, and without names in quotes."""
    read = _read_before if len(statement) <= _MAX_KEPT else _read
    return read(statement, dialect)


def _read(statement: str, dialect: str) -> str:
    whole = read_whole(statement, dialect)
    return _UNREADABLE if whole is None else _names.sub("?", whole)


_UNREADABLE = "?"
"""In place of the words of a statement that could not be read to its end."""


_read_before = lru_cache(maxsize=256)(_read)
_MAX_KEPT = 1000
"""The characters of a statement up to which its words are kept for the next time."""


def _may_write(words: str) -> bool:
    return _harmless.fullmatch(_first(words)) is None or _changes(words)


def _changes(words: str) -> bool:
    is_plan = re.match(r"[\s(]*EXPLAIN\b(?!.*\bANALYZE\b)", words, re.IGNORECASE) is not None
    return not is_plan and _changing.search(words) is not None


def _first(words: str) -> str:
    found = _first_word.match(words)
    return found[1].lower() if found else ""
