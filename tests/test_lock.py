"""What `make` installs: releases that are locked with their hashes, and what has moved since."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from .newest import differing, locked, normal, table

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYTHONS = re.findall(r"Python :: (3\.\d+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


def wanted(group: str) -> list[Requirement]:
    """List what a dependency group asks for, and those that it includes."""
    found: list[Requirement] = []
    for one in GROUPS[group]:
        found += wanted(one["include-group"]) if isinstance(one, dict) else [Requirement(one)]
    return found


def demo() -> list[Requirement]:
    """List what the project and its demo ask for."""
    configuration = ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    lines = configuration["options"]["install_requires"] + configuration["options.extras_require"]["demo"]
    return [*wanted("build"), *(Requirement(line) for line in lines.splitlines() if line)]


def floor() -> list[Requirement]:
    """List what the guarantees ask for, and the oldest SQLAlchemy."""
    specifiers = next(one.specifier for one in demo() if one.name == "sqlalchemy")
    oldest = next(one.version for one in specifiers if one.operator == ">=")
    return [*wanted("guarantees"), *wanted("drivers"), *wanted("system"), Requirement(f"sqlalchemy=={oldest}")]


WANTED = {"demo": demo, "floor": floor}


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.stem for lock in LOCKS])
def test_what_is_asked_for_is_locked(lock: Path) -> None:
    """Each file of requirements has a release of all that its group asks for; ``make lock`` renews it."""
    versions = locked([lock])

    for requirement in WANTED[lock.stem]() if lock.stem in WANTED else wanted(lock.stem):
        found = versions[normal(requirement.name)]
        assert found
        assert all(version in requirement.specifier for version in found), requirement


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.stem for lock in LOCKS])
def test_what_is_locked_has_hashes_and_no_address(lock: Path) -> None:
    """A release is what it was when it was locked, wherever pip gets it from."""
    blocks = re.split(r"\n(?=\S)", lock.read_text().strip())
    releases = [block for block in blocks if not block.startswith("#")]

    assert all(re.match(r"[\w.-]+==\S+ ", block) and "--hash=sha256:" in block for block in releases)
    assert "://" not in lock.read_text()
    assert not re.search(r"^-", lock.read_text(), re.MULTILINE)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_files_agree(python: str) -> None:
    """On each Python a package has one release, in all files but the floor's: they make one environment."""
    releases: dict[str, set[str]] = {}
    for lock in LOCKS:
        if lock.stem == "floor":
            continue
        for name, version, marker in re.findall(r"^(\S+)==(\S+)(?: ; (.+))? \\$", lock.read_text(), re.MULTILINE):
            environment = {"python_version": python, "python_full_version": f"{python}.9"}
            if not marker or Marker(marker).evaluate(environment):
                releases.setdefault(name, set()).add(version)

    assert len(releases) > len(GROUPS["test"])
    assert {name: versions for name, versions in releases.items() if len(versions) != 1} == {}


def test_what_has_moved_is_a_table() -> None:
    """A package that is newer than its lock is a line with both releases; one that has come is named."""
    lines = list(table({"one": {"1"}, "two": {"1", "2"}}, {"one": "1.1", "two": "2", "three": "3"}))

    assert [line.split() for line in lines[1:2]] == [["one", "1", "->", "1.1"]]
    assert lines[0].endswith(": 1")
    assert lines[2].endswith(": three")


def test_what_is_tested_again() -> None:
    """What is in another release than the locked ones, or not locked, is a reason to test."""
    assert differing({"one": {"1"}, "two": {"1", "2"}}, {"one": "1", "two": "2"}) == {}
    assert differing({"one": {"1"}}, {"one": "1.1", "three": "3"}) == {"one": "1.1", "three": "3"}
