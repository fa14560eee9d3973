"""What this machine has beside Python and its packages, and so which checks of the *system* group can run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def postgresql_binaries() -> Path | None:
    """Find the folder of PostgreSQL's server programs, Debian's newest first."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _has_postgresql() -> bool:
    return "WSGI_SESSION_TEST_PG" in os.environ or postgresql_binaries() is not None


SYSTEM: dict[str, Callable[[], bool]] = {
    "chromium": lambda: shutil.which("chromium") is not None,
    "postgresql": _has_postgresql,
    "redis": lambda: shutil.which("redis-server") is not None,
}
"""Each thing that a check may need, and whether it is here."""
