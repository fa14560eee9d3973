"""The codes: what drivers call their errors, for programs; their texts are for people, and may have values in them."""

from __future__ import annotations

import re
from typing import Any

MYSQL_DRIVERS = frozenset({"MySQLdb", "asyncmy", "aiomysql", "cymysql", "mariadb", "mysql", "pymysql"})


_code = re.compile(r"[0-9A-Z_]{1,60}")
"""Whatever else a driver has in the place of a code may be a text, with values in it."""


def code_of(error: BaseException) -> str | None:
    """Return the code of a driver's error: MySQL's number, SQLite's name, or the SQLSTATE; None if it has none.

    MySQL's drivers have an SQLSTATE, too, but it says little: ``23000`` for whatever constraint.
    """
    found = str(mysql_code(error) or getattr(error, "sqlite_errorname", None) or sqlstate(error) or "")
    return found if _code.fullmatch(found) else None


def code_or_class(error: BaseException) -> str:
    """Name an error in a word: by the code of the driver's error in it, or by its class where that has none."""
    return code_of(getattr(error, "orig", None) or error) or type(error).__name__


def name_of(error: BaseException) -> str:
    """Name a driver's *error* by its class and code, for its text may have values in it."""
    code = code_of(error)
    return f"{type(error).__name__}{'' if code is None else f' ({code})'}"


def sqlstate(error: Any) -> str | None:
    """Return the SQLSTATE of an error of psycopg, psycopg2, asyncpg or pg8000."""
    first = _first_argument(error)
    of_pg8000 = first.get("C") if isinstance(first, dict) else None
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or of_pg8000


def mysql_code(error: Any) -> int | None:
    """Return the number of an error of MySQL's and MariaDB's drivers; what they refuse themselves has a text there."""
    if type(error).__module__.partition(".")[0] not in MYSQL_DRIVERS:
        return None
    number = getattr(error, "errno", _first_argument(error))
    return number if isinstance(number, int) else None


def _first_argument(error: Any) -> Any:
    return error.args[0] if error.args else None
