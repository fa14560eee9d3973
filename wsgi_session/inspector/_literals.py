"""The literals: a statement with its values in it, to be copied.  Pure: from values to text."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING
from uuid import UUID

from .._sql.excerpt import excerpt
from ..observe._values import Unknown

if TYPE_CHECKING:
    from ..observe import Values

_MAX_SHOWN = 200
"""The characters that are shown of a value in the list."""

_token = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\] | --[^\n]* | /\*.*?\*/ | (?P<mark>\?)""",
    re.DOTALL | re.VERBOSE,
)


def shown(values: Values) -> list[tuple[str, str]]:
    """Return each value with the name of its parameter, or its number, as text for a reader."""
    return [
        (name or str(number), excerpt(str(value) if isinstance(value, Unknown) else repr(value), _MAX_SHOWN))
        for number, (name, value) in enumerate(values.parameters, 1)
    ]


def as_sql(values: Values) -> str | None:
    """Return a statement with its values written into it; None where they cannot be written, or are not all there."""
    if not values.is_whole:
        return None
    literals = [literal(value, values.dialect) for _, value in values.parameters]
    written = [one for one in literals if one is not None]
    if len(written) < len(literals):
        return None
    if values.paramstyle == "qmark":
        return _filled(values.statement, written)
    if values.paramstyle in ("format", "pyformat"):
        names = [name for name, _ in values.parameters]
        return _formatted(values.statement, names, written)
    return None


def literal(value: object, dialect: str) -> str | None:
    """Write a *value* as a dialect reads it; None for one that it cannot."""
    is_postgresql = dialect == "postgresql"
    match value:
        case None:
            return "NULL"
        case bool():
            return str(int(value)) if dialect == "sqlite" else str(value).upper()
        case int():
            return str(value)
        case float() | Decimal():
            return str(value) if isfinite(value) else None
        case str():
            return _quoted(value, dialect)
        case bytes():
            return rf"'\x{value.hex()}'::bytea" if is_postgresql else f"X'{value.hex()}'"
        case datetime():
            return f"'{value.isoformat(sep=' ')}'"
        case date() | time() | UUID():
            return f"'{value}'"
        case timedelta():
            return f"'{value.total_seconds()} seconds'::interval" if is_postgresql else f"'{value}'"
        case _:
            return None


def _quoted(text: str, dialect: str) -> str | None:
    """Write a *text*; a quote is doubled everywhere, and a backslash where it escapes."""
    if "\0" in text:
        return None
    if dialect in ("mysql", "mariadb"):
        text = text.replace("\\", "\\\\")
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _filled(statement: str, literals: list[str]) -> str | None:
    """Write *literals* in place of the question marks that are in no string, name or comment."""
    left = list(literals)
    parts: list[str] = []
    at = 0
    for token in _token.finditer(statement):
        if token["mark"]:
            if not left:
                return None
            parts += statement[at : token.start()], left.pop(0)
            at = token.end()
    return None if left else "".join(parts) + statement[at:]


def _formatted(statement: str, names: list[str], literals: list[str]) -> str | None:
    """Write *literals* as drivers do that let Python's ``%`` do it."""
    try:
        if any(names):
            return statement % dict(zip(names, literals, strict=True))
        return statement % tuple(literals)
    except (KeyError, TypeError, ValueError):
        return None
