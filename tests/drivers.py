"""The drivers that the tests go through, each with the system package that it needs."""

from __future__ import annotations

import pytest

needs_mariadb = pytest.mark.system("mariadb")
needs_postgresql = pytest.mark.system("postgresql")

POSTGRESQL = [pytest.param(f"postgresql+{name}", marks=needs_postgresql) for name in ("psycopg", "psycopg2", "pg8000")]
MARIADB = [
    pytest.param("mariadb+pymysql", marks=needs_mariadb),
    pytest.param("mariadb+mysqldb", marks=[needs_mariadb, pytest.mark.system("mysqlclient")]),
]
DRIVERS = ["sqlite", *POSTGRESQL, *MARIADB]

on_mariadb = pytest.mark.parametrize("driver", MARIADB)
on_postgresql = pytest.mark.parametrize("driver", POSTGRESQL)
with_every_driver = pytest.mark.parametrize("driver", DRIVERS)
