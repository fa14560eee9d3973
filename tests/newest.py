"""Run the tests with the newest release of everything, and say what has moved since it was locked.

Run with ``make test-newest``; what follows are arguments of pytest.  The status is that of the tests: they compare each
server with itself, so what fails is for us to mend.  What has moved, and what a server does otherwise than recorded, is
said and fails nothing.  Where nothing has moved, the tests are those of ``make test``, and do not run again.  Where pip
finds no set of newest releases, no test runs, and the status is `NOT_RUN`.
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
WANTED = ["--group", "test", "--editable", ".[demo]"]

Versions = dict[str, set[str]]
"""The versions of each package: a lock may have several, for several Pythons."""


def main(arguments: list[str]) -> int:
    """Look for newer releases, and if there are any, install, test, and report."""
    folder = ROOT / ".venvs" / "newest"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    now = newest(python) if install(python, "pip") else None
    if now is None:
        print("newest releases: not run, because pip has found none that go together")
        return NOT_RUN
    before = locked(ROOT.glob("requirements/*.txt"))
    if not differing(before, now):
        print("newest releases: those of `make lock`, with which `make test` runs")
        return 0
    if not install(python, "--upgrade-strategy", "eager", *WANTED):
        print("newest releases: not run, because pip did not install them")
        return NOT_RUN
    environment = {name: value for name, value in os.environ.items() if name != "REQUIRE"}
    tests = subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False)
    print("\n".join(table(before, now)))
    return tests.returncode


def install(python: Path, *wanted: str) -> bool:
    """Install the newest releases of what is *wanted*, and say whether pip could."""
    command = [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install", "--upgrade", *wanted]
    return not subprocess.run(command, cwd=ROOT, check=False).returncode


def newest(python: Path) -> dict[str, str] | None:
    """Return the newest releases that go together; None if pip finds none."""
    command = [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install", "--dry-run", "--ignore-installed"]
    found = subprocess.run([*command, "--report", "-", *WANTED], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if found.returncode:
        return None
    packages = [one for one in json.loads(found.stdout)["install"] if not one["is_direct"]]
    return {normal(one["metadata"]["name"]): one["metadata"]["version"] for one in packages}


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


def differing(before: Versions, now: dict[str, str]) -> dict[str, str]:
    """Return what is locked in another version, or not at all."""
    return {name: version for name, version in now.items() if version not in before.get(name, ())}


def table(before: Versions, now: dict[str, str]) -> Iterator[str]:
    """Say what has moved: each package with the locked version and the newest."""
    found = differing(before, now)
    moved = sorted(found.keys() & before.keys())
    yield f"moved since `make lock`: {len(moved)}"
    for name in moved:
        yield f"  {name:30}  {', '.join(sorted(before[name])):20}  -> {found[name]}"
    new = sorted(found.keys() - before.keys())
    if new:
        yield f"needed now, and not locked: {', '.join(new)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
