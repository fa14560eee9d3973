"""Put each fault into a copy of the package, and show that the tests of its guarantee fail.

Run with ``make mutants``; ``make mutants ARGS=hook`` takes the faults whose name has that word in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .faults import FAULTS, Fault

ROOT = Path(__file__).parent.parent.parent


def survives(fault: Fault) -> bool:
    """Run the tests of the fault's guarantee on a package that has it, and say whether they pass."""
    with tempfile.TemporaryDirectory(prefix="wsgi_session_mutant_") as folder:
        copy = Path(folder)
        for name in ("wsgi_session", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        module = copy / "wsgi_session" / f"{fault.module}.py"
        source = module.read_text()
        if source.count(fault.right) != 1:
            raise SystemExit(f"{fault.name!r}: its line is {source.count(fault.right)} times in {fault.module}.py.")
        module.write_text(source.replace(fault.right, fault.wrong))
        files = sorted((ROOT / "tests" / "guarantees").glob(f"test_{fault.guarantee:02}_*.py"))
        tests = [path.relative_to(ROOT) for path in files]
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                *tests,
            ],
            cwd=copy,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if run.returncode not in (0, 1):
            raise SystemExit(f"{fault.name!r}: the tests did not run.\n{run.stdout}{run.stderr}")
        return run.returncode == 0


def main(word: str = "") -> int:
    """Report each fault; the status is 1 if one survived."""
    faults = [fault for fault in FAULTS if word in fault.name]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(survives, faults))
    for fault, survived in zip(faults, outcomes, strict=True):
        print(f"{'SURVIVED' if survived else 'killed':8}  guarantee {fault.guarantee:>2}: {fault.name}")
    print(f"{len(faults) - sum(outcomes)} of {len(faults)} faults killed")
    return 1 if any(outcomes) or not faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
