"""The fragments of the changelog: each is news of the next release."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FRAGMENTS = sorted((ROOT / "changes.d").glob("*.md"))


def next_release() -> str:
    """Return what the next release would say."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9", "--date", "today"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_every_fragment_is_in_the_next_release() -> None:
    """Each fragment has a name and a type that are taken, and its text is a line of the next release."""
    text = " ".join(next_release().split())

    assert "## 9.9 (today)" in text
    for fragment in FRAGMENTS:
        assert f"- {' '.join(fragment.read_text().split())}" in text, fragment.name


def test_the_links_of_a_fragment_are_those_of_the_changelog() -> None:
    """A relative link of a fragment leads somewhere from the place of CHANGES.md."""
    for fragment in FRAGMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", fragment.read_text()):
            assert (ROOT / target).exists(), f"{fragment.name}: {target}"


def test_what_is_released_is_in_the_changelog_alone() -> None:
    """No line of a fragment is in CHANGES.md already."""
    released = " ".join((ROOT / "CHANGES.md").read_text().split())

    assert [one.name for one in FRAGMENTS if " ".join(one.read_text().split()) in released] == []
