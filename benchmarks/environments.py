"""The environments: a virtual environment for each set of requirements, with the newest SQLAlchemy that it allows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python_with(requirements: tuple[str, ...]) -> Path:
    """Return the Python that has *requirements*, made now if there is none; ``make clean`` removes it."""
    words = re.findall(r"[a-z0-9_.]+", " ".join(requirements).replace("--editable=.", "wsgi_session").lower())
    folder = ROOT / ".venvs" / "-".join(["bench", *words])
    python, made = folder / "bin" / "python", folder / ".made"
    if not made.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "sqlalchemy", "psycopg[binary]", *requirements], check=True, cwd=ROOT)
        made.touch()
    return python


def versions_in(python: Path) -> dict[str, str]:
    """Return the versions of everything in an environment, by the name of the distribution."""
    command: list[str | Path] = [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return {found["name"]: found["version"] for found in json.loads(said)}
