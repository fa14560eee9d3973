"""What every test can use, and which checks of the *system* group run."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.orm import Session as SQLAlchemySession
from sqlalchemy.orm import sessionmaker

from wsgi_session import RequestScopedSession

from . import mariadb, postgresql
from .helpers import Base, enforce_foreign_keys, miss
from .machine import SYSTEM, hear_interrupts
from .servers import table

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("short", _unhurried, max_examples=40)
settings.register_profile("long", _unhurried, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

hear_interrupts()

if "THROUGH_PGBOUNCER" in os.environ:  # tests/bouncer.py

    @event.listens_for(Engine, "do_connect")
    def _prepare_nothing(dialect: Any, _record: object, _arguments: object, options: dict[str, Any]) -> None:
        """Have psycopg prepare nothing, as ``docs/pgbouncer.md`` says."""
        if dialect.driver == "psycopg":
            options.setdefault("prepare_threshold", None)


SLOWEST = (
    "test_all_life_machine",
    "test_05_the_last_word",
    "test_servers",
    "test_reads",
    "test_site_browser",
    "test_walkthroughs",
    "test_all_databases",
)
"""Files that come first where there are several workers: none is left alone with one of them at the end.

The first one collects garbage hundreds of times, and later there would be more of it.
"""


SLOW = (
    "servers",
    "soak",
    "test_benchmarks",
    "test_demo",
    "test_demo_browser",
    "test_deployment",
    "test_documents",
    "test_examples",
    "test_inspector_browser",
    "test_jobs",
    "test_moving",
    "test_pytest_plugin",
    "test_replicas",
    "test_replicas_example",
    "test_site_browser",
    "test_sites",
    "test_slow_clients",
    "test_walkthroughs",
)
"""Files and folders that `--brief` leaves out: with programs, servers and browsers of their own, most of the time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let ``make test`` ask for what is done in a few minutes."""
    parser.addoption("--brief", action="store_true", help="leave out the tests that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow, if asked to; begin with the slowest files where several workers take them."""
    if config.getoption("--brief"):
        slow = [item for item in items if {item.path.stem, item.path.parent.name} & {*SLOW}]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        items.sort(key=lambda item: (*SLOWEST, item.path.stem).index(item.path.stem))


def pytest_collection_finish() -> None:
    """Keep the collector from what has been imported by now: tests call it hundreds of times."""
    if hasattr(gc, "freeze"):  # PyPy has none
        gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, or fail where a check that does not run is a failure."""
    missing = sorted(mark.args[0] for mark in item.iter_markers("system") if not SYSTEM[mark.args[0]]())
    if missing:
        miss(f"not found on this machine: {', '.join(missing)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which of the system group this machine has, and whether all was run."""
    if config.getoption("--brief"):
        terminalreporter.write_line("left out: tests that take long; 'make test ARGS=tests' runs all")
    found = {name: is_here() for name, is_here in SYSTEM.items()}
    terminalreporter.write_line(f"system checks, found: {', '.join(name for name in found if found[name]) or 'none'}")
    terminalreporter.write_line(f"system checks, not found: {', '.join(n for n in found if not found[n]) or 'none'}")
    for change in _changes_of_servers(terminalreporter):
        terminalreporter.write_line(f"servers, otherwise than recorded: {change}")


def _changes_of_servers(terminalreporter: pytest.TerminalReporter) -> list[str]:
    """List what servers do otherwise than `docs/servers.md` says: that is no failure, but somebody may want to know."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    cells = [
        json.loads(value)
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "cell"
    ]
    return table.changes(table.outcomes(cells), table.recorded(table.PAGE.read_text())) if cells else []


@pytest.fixture
def new_engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Return a function that makes engines with a pool of one, each on an SQLite file of its own."""
    engines: list[Engine] = []

    def make(**options: object) -> Engine:
        pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2} if "poolclass" not in options else {}
        engine = create_engine(f"sqlite:///{tmp_path}/{len(engines)}.db", **(pool | options))
        event.listen(engine, "connect", enforce_foreign_keys)
        Base.metadata.create_all(engine)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(new_engine: Callable[..., Engine]) -> Engine:
    """Return an engine with a pool of one: a connection that is not given back is missed by the next request."""
    return new_engine()


@pytest.fixture
def Session(engine: Engine) -> RequestScopedSession[SQLAlchemySession]:  # noqa: N802
    """Return a registry on the engine."""
    return RequestScopedSession(sessionmaker(engine))


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[URL]:
    """Return the address of a PostgreSQL database that is this run's own."""
    with postgresql.database() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[URL]:
    """Return the address of a MariaDB database that is this run's own."""
    with mariadb.database() as url:
        yield url


@pytest.fixture
def postgresql_engine(postgresql_url: URL) -> Iterator[Engine]:
    """Return an engine with a pool of one on PostgreSQL, and empty tables."""
    with _engine_on(postgresql_url) as engine:
        yield engine


@pytest.fixture
def mariadb_engine(mariadb_url: URL) -> Iterator[Engine]:
    """Return an engine with a pool of one on MariaDB, and empty tables."""
    with _engine_on(mariadb_url) as engine:
        yield engine


@pytest.fixture
def engine_by(new_engine: Callable[..., Engine], request: pytest.FixtureRequest) -> Iterator[Callable[..., Engine]]:
    """Return a function that makes an engine with a pool of one and empty tables, by the name of its driver."""
    with ExitStack() as stack:

        def make(driver: str, **options: object) -> Engine:
            database = driver.partition("+")[0]
            if database == "sqlite":
                return new_engine(**options)
            url: URL = request.getfixturevalue(f"{database}_url")
            only_for_pymysql = [] if driver.endswith("+pymysql") else ["ssl_disabled"]
            url = url.set(drivername=driver).difference_update_query(only_for_pymysql)
            return stack.enter_context(_engine_on(url, **options))

        yield make


@pytest.fixture
def driver() -> str:
    """Return SQLite, where a test names no other."""
    return "sqlite"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's chromium; for it, a name of another site leads here (DNS rebinding)."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--host-resolver-rules=MAP rebound.example 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """Return what the browser complains of."""
    return []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return the folder for screenshots; the variable SCREENSHOTS names one that is kept."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _engine_on(url: URL, **options: Any) -> Iterator[Engine]:
    engine = create_engine(url, **({"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2} | options))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    yield engine
    engine.dispose()
