"""The cost of something without sessions that are there for it, and with them, as it was found in each layout."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev


@dataclass(frozen=True, slots=True)
class Cost:
    """What something costs, a figure for each layout."""

    without: tuple[float, ...]
    beside: tuple[float, ...]
    unit: str
    """``"instructions"``, or ``"ns"`` of CPU time."""

    @property
    def added(self) -> float:
        """What is added."""
        return mean(self.beside) - mean(self.without)

    @property
    def ratio(self) -> float:
        """What it is multiplied by."""
        return mean(self._ratios)

    @property
    def error(self) -> float | None:
        """The standard error of the ratio; None if there was one layout only."""
        ratios = self._ratios
        return stdev(ratios) / sqrt(len(ratios)) if len(ratios) > 1 else None

    @property
    def _ratios(self) -> list[float]:
        return [beside / without for without, beside in zip(self.without, self.beside, strict=True)]
