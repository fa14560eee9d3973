"""What is installed: whatever the package needs is in its wheel."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_file_of_the_package_is_installed() -> None:
    """Each folder of the package is one of the packages, and each file that is no module is data of one."""
    options = ConfigParser()
    options.read(ROOT / "setup.cfg")
    packages = {name: ROOT / name.replace(".", "/") for name in options["options"]["packages"].split()}
    data = [
        found
        for name, patterns in options["options.package_data"].items()
        for pattern in patterns.split()
        for found in packages[name].glob(pattern)
    ]

    files = {path for path in (ROOT / "wsgi_session").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    modules = {path for folder in packages.values() for path in folder.glob("*.py")}
    assert files == modules | set(data)
