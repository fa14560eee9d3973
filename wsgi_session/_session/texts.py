"""The texts: what a statement does that was written by hand, as far as its words tell; in doubt it writes."""

from __future__ import annotations

import re

_SKIPPED = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/|[(;])*"
"""What may come before a word: comments, parentheses, empty statements."""

_first_word = re.compile(_SKIPPED + r"(\w+)", re.DOTALL)

_end = re.compile(
    _SKIPPED + r"(COMMIT|END|ROLLBACK|ABORT)\b(?!\s+(?:(?:WORK|TRANSACTION)\s+)?(?:TO|PREPARED)\b)",
    re.IGNORECASE | re.DOTALL,
)

_end_of_several = re.compile(r";" + _SKIPPED + r"(?:COMMIT|END)\b(?!\s+PREPARED\b)", re.IGNORECASE | re.DOTALL)

_harmless = re.compile(
    r"""analyze|begin|close|deallocate|declare|describe|discard|explain|fetch|listen|lock|move|pragma|prepare|release|reset
    |rollback|savepoint|select|set|show|table|unlisten|use|values|with""",
    re.VERBOSE,
)
"""What a statement begins with that changes no rows, unless one of the `_changing` words is in it."""

_changing = re.compile(
    r"(?<!\bFOR\s)(?<!\bKEY\s)\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE|INTO|CALL|EXECUTE)\b|;\s*\S", re.IGNORECASE
)

_setting = re.compile(r"\bset_config\b|\bpg_(?:try_)?advisory_|\bget_lock\b", re.IGNORECASE)

_implicit = re.compile(
    r"""alter|analyze|begin|cache|check|create|drop|flush|grant|install|lock|optimize|rename|repair|reset|revoke|start
    |truncate|uninstall|unlock""",
    re.VERBOSE,
)
"""What a statement begins with before which MySQL and MariaDB commit (their manuals, "implicit commit")."""

_not_implicit = re.compile(r"\b(?:CREATE|DROP)\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b", re.IGNORECASE)

_autocommit = re.compile(r"\bautocommit\b", re.IGNORECASE)


def end_of(statement: str) -> str | None:
    """Return the word by which *statement* ends its transaction, such as ``"ROLLBACK"``; None if it does not."""
    found = _end.match(statement)
    return found[1].upper() if found else None


def is_commit(statement: str) -> bool:
    """Say whether *statement* commits, also as one of several."""
    return end_of(statement) in ("COMMIT", "END") or _end_of_several.search(statement) is not None


def may_write(statement: str) -> bool:
    """Say whether *statement* may change rows."""
    return _harmless.fullmatch(word_of(statement)) is None or _changing.search(statement) is not None


def sets_up(statement: str) -> bool:
    """Say whether *statement* calls a function that sets up something in its transaction, and returns a row."""
    return _setting.search(statement) is not None


def commits_on_mysql(statement: str) -> bool:
    """Say whether MySQL and MariaDB commit what was written before *statement*, or with each one from then on."""
    word = word_of(statement)
    if word == "set":
        return _autocommit.search(statement) is not None
    return _implicit.fullmatch(word) is not None and _not_implicit.search(statement) is None


def word_of(statement: str) -> str:
    """Return the first word of *statement*, in lower case; empty if there is none."""
    found = _first_word.match(statement)
    return found[1].lower() if found else ""
