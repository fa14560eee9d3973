"""Install the wheel where the source is out of reach, and use it there as its users do.

Run with ``make dist``. What the wheel has is found out, not listed: its modules, its extras, its entry points.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
INSIDE = Path(__file__).with_name("inside.py")


def main(wheel: str) -> None:
    """Ask an installed *wheel* everything; the first thing that is not as it should be ends the program."""
    with tempfile.TemporaryDirectory(prefix="wsgi_session_installed_") as folder:
        place = Place.made_in(Path(folder))
        place.install(wheel)
        place.ask("core")
        place.install(f"{wheel}[{','.join(extras_of(wheel))}]")
        place.ask("everything")
        place.check_types()
        place.run_tests()


def extras_of(wheel: str) -> list[str]:
    """List the extras that *wheel* has."""
    [distribution] = distributions(path=[wheel])
    return distribution.metadata.get_all("Provides-Extra", [])


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that has a virtual environment, and copies of the tests and examples.  Lives as long as the check."""

    folder: Path

    @classmethod
    def made_in(cls, folder: Path) -> Place:
        """Make the environment, and copy what is run in it."""
        venv.create(folder / ".venv", with_pip=True)
        for name in ("benchmarks", "examples", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("demo.py", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        return cls(folder)

    @property
    def python(self) -> Path:
        """The Python of the environment."""
        return self.folder / ".venv" / "bin" / "python"

    def install(self, requirement: str) -> None:
        """Install *requirement* with all that it asks for, and see that nothing contradicts it."""
        self._run(self.python, "-m", "pip", "install", "--quiet", requirement)
        self._run(self.python, "-m", "pip", "check")

    def ask(self, question: str) -> None:
        """Ask *question*, a function of ``inside.py``, in an interpreter that is told of nothing else."""
        self._run(self.python, "-I", INSIDE, question)

    def check_types(self) -> None:
        """Have a type checker read the installed package: every public name has a type, and the right one."""
        checker = Path(sys.executable).parent / "basedpyright"
        self._run(checker, "--verifytypes", "wsgi_session", "--ignoreexternal")
        self._run(checker, "tests/typing")

    def run_tests(self) -> None:
        """Run the tests of the public modules, and let them have what they need beside the package."""
        site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(self.folder / ".venv")}))
        beside = sysconfig.get_path("purelib")  # its own .pth files, so the one of the source, are not followed
        (site_packages / "beside.pth").write_text(f"{beside}\n")
        self.ask("everything")
        modules = [module.stem for module in sorted((ROOT / "wsgi_session").glob("[!_]*"))]
        tests = [test for name in modules if (test := self.folder / "tests" / f"test_{name}.py").exists()]
        self._run(self.python, "-P", "-m", "pytest", "-q", "-m", "not system", "-p", "no:cacheprovider", *tests)

    def _run(self, *command: str | Path) -> None:
        """Run *command* as if the environment had been activated."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment["PATH"] = f"{self.python.parent}{os.pathsep}{environment['PATH']}"
        run = subprocess.run(command, cwd=self.folder, env=environment, check=False)
        if run.returncode:
            sys.exit(f"failed ({run.returncode}): {' '.join(map(str, command))}")


if __name__ == "__main__":
    main(sys.argv[1])
