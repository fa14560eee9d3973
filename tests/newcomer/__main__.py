"""Follow the README and the tutorial as somebody who has nothing but Python and make.

Run with ``make newcomer``. In an empty home there are a fresh clone, in which ``make`` is run, and a folder for each
page, in which everything else is. On the path are the programs of a new virtual environment, ``make``, and what every
shell has. As long as the package is not on the index, pip finds it in a wheel of the clone.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.documents import Command, NotAsShown, Reader, steps
from tests.machine import hear_interrupts

ROOT = Path(__file__).parent.parent.parent
PAGES = ("README.md", "docs/tutorial.md")
PROGRAMS = ("make", "sh", "cat", "echo", "find", "ls", "mkdir", "rm", "touch")


def main() -> int:
    """Follow the pages, and report each; the status is 1 if one does not show what happens."""
    hear_interrupts()
    with tempfile.TemporaryDirectory(prefix="wsgi_session_newcomer_") as folder:
        home = Home(Path(folder))
        pages = [page for page in PAGES if (ROOT / page).exists()]
        outcomes = [home.follow(page) for page in pages]
        return 0 if all(outcomes) else 1


class Home:
    """A home with a clone of the project in it.  Lives as long as the program."""

    def __init__(self, folder: Path) -> None:
        """Make it: what a newcomer has before the first line of the README."""
        self.folder = folder
        self.clone = folder / "wsgi_session"
        self._binaries = _made(folder / ".bin")
        self._environment = folder / ".environment"
        self._wheels = _made(folder / ".wheels")
        for program in PROGRAMS:
            (self._binaries / program).symlink_to(str(shutil.which(program)))
        subprocess.run(["git", "clone", "--quiet", ROOT, self.clone], check=True)
        venv.create(self._environment, with_pip=True)
        pip = [self._environment / "bin" / "python", "-m", "pip", "wheel", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--wheel-dir", self._wheels, self.clone], check=True)

    def follow(self, page: str) -> bool:
        """Follow a *page* of the clone, and say whether all is as it shows."""
        variables = self._variables()
        place = _made(self.folder / Path(page).stem)
        number = 0
        with Reader(place, variables, patience=300) as reader, Reader(self.clone, variables, patience=300) as in_clone:
            for number, step in enumerate(steps((self.clone / page).read_text()), 1):
                try:
                    (in_clone if isinstance(step, Command) and step.line.startswith("make ") else reader).follow(step)
                except NotAsShown as error:
                    print(f"{page}: step {number} is not as shown\n{error}", file=sys.stderr)
                    return False
        print(f"{page}: {number} steps, as shown")
        return number > 0

    def _variables(self) -> dict[str, str]:
        """Return what a newcomer's shell knows: home, path, free ports, and how pip gets to its index."""
        passed = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_"))}
        links = f"{passed.get('PIP_FIND_LINKS', '')} {self._wheels}".strip()
        path = f"{self._environment / 'bin'}{os.pathsep}{self._binaries}"
        ports = {"PORT": _free_port(), "FLASK_RUN_PORT": _free_port()}
        return passed | ports | {"HOME": str(self.folder), "PATH": path, "PIP_FIND_LINKS": links}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
