"""The drivers that are known; of those that are not here, nothing is claimed.

Each was tried; ``tests/guarantees/test_05_the_last_word.py`` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .mysql import MYSQLCLIENT, PYMYSQL
from .postgresql import PSYCOPG, PSYCOPG2, Pg8000
from .sqlite import SQLite

if TYPE_CHECKING:
    from .driver import Driver

KNOWN: dict[str, Driver] = {
    "mysqldb": MYSQLCLIENT,
    "pg8000": Pg8000(),
    "psycopg": PSYCOPG,
    "psycopg2": PSYCOPG2,
    "pymysql": PYMYSQL,
    "pysqlite": SQLite(),
}
"""By the name that SQLAlchemy's dialect gives the driver."""
