"""Run the tests with the newest release of everything, and say what has moved since it was locked.

Run with ``make test-newest``; what follows are arguments of pytest.  The status is that of the tests: they compare each
server with itself, so what fails is for us to mend.  What has moved, and what a server does otherwise than recorded, is
said and fails nothing.  Where pip finds no set of newest releases, no test runs, and the status is `NOT_RUN`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOT_RUN = 77

Versions = dict[str, set[str]]
"""The versions of each package: a lock may have several, for several Pythons."""


def main(arguments: list[str]) -> int:
    """Install, test, and report."""
    folder = ROOT / ".venvs" / "newest"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if not all(installed(python, *wanted) for wanted in (["pip"], ["--group", "test", "--editable", ".[demo]"])):
        print("newest releases: not run, because pip did not install them")
        return NOT_RUN
    environment = {name: value for name, value in os.environ.items() if name != "REQUIRE"}
    tests = subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False)
    print("\n".join(table(locked(ROOT.glob("requirements/*.txt")), installed_in(python))))
    return tests.returncode


def installed(python: Path, *wanted: str) -> bool:
    """Install the newest releases of what is *wanted*, and say whether pip could."""
    command = [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install", "--upgrade"]
    return not subprocess.run([*command, "--upgrade-strategy", "eager", *wanted], cwd=ROOT, check=False).returncode


def installed_in(python: Path) -> dict[str, str]:
    """Return the releases of what is installed in an environment, and came from an index."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json", "--exclude-editable"]
    packages = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {normal(package["name"]): package["version"] for package in packages}


def locked(files: Iterable[Path]) -> Versions:
    """Return what requirements files have."""
    versions: Versions = {}
    for file in files:
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", file.read_text(), re.MULTILINE):
            versions.setdefault(normal(name), set()).add(version)
    return versions


def normal(name: str) -> str:
    """Write the name of a package as everybody can compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def table(before: Versions, now: dict[str, str]) -> Iterator[str]:
    """Say what has moved: each package with the locked version and the newest."""
    moved = {name: version for name, version in now.items() if name in before and version not in before[name]}
    yield f"moved since `make lock`: {len(moved) or 'nothing'}"
    for name, version in sorted(moved.items()):
        yield f"  {name:30}  {', '.join(sorted(before[name])):20}  -> {version}"
    new = sorted(now.keys() - before.keys() - {"pip", "setuptools", "wheel"})
    if new:
        yield f"needed now, and not locked: {', '.join(new)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
