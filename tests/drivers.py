"""The drivers that the tests go through, each with the system package that it needs."""

from __future__ import annotations

import pytest

POSTGRESQL = [
    pytest.param(f"postgresql+{name}", marks=pytest.mark.system("postgresql"))
    for name in ("psycopg", "psycopg2", "pg8000")
]
MARIADB = [
    pytest.param("mariadb+pymysql", marks=pytest.mark.system("mariadb")),
    pytest.param("mariadb+mysqldb", marks=[pytest.mark.system("mariadb"), pytest.mark.system("mysqlclient")]),
]
DRIVERS = ["sqlite", *POSTGRESQL, *MARIADB]

on_mariadb = pytest.mark.parametrize("driver", MARIADB)
on_postgresql = pytest.mark.parametrize("driver", POSTGRESQL)
with_every_driver = pytest.mark.parametrize("driver", DRIVERS)
