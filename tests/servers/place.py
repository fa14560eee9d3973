"""Where a server runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder in which the package and the tests are."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a command that starts a server needs to know."""

    port: int
    folder: Path
