"""The cost of something without sessions that are there for it, and with them, as it was found in each layout."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import median, stdev

_OF_A_MEDIAN = 1.2533
"""How much larger its standard error is than that of a mean."""


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
        return median(beside - without for without, beside in zip(self.without, self.beside, strict=True))

    @property
    def ratio(self) -> float:
        """What it is multiplied by."""
        return median(self._ratios)

    @property
    def error(self) -> float | None:
        """The standard error of the ratio, which is a median; None if there was one layout only."""
        ratios = self._ratios
        return _OF_A_MEDIAN * stdev(ratios) / sqrt(len(ratios)) if len(ratios) > 1 else None

    @property
    def _ratios(self) -> list[float]:
        return [beside / without for without, beside in zip(self.without, self.beside, strict=True)]
