"""The track: where the primary was when, as far as this process knows."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from ._position import reaches

if TYPE_CHECKING:
    from ._position import Position

APART = 0.02
"""The seconds between two moments that are kept, at the least."""

KEPT = 3000
"""How many moments are kept: a minute, at the least."""


class Track:
    """The positions of the commits of this process, of the last minute or more.  Lives as long as the program."""

    def __init__(self) -> None:
        """Know of none."""
        self._moments: deque[tuple[float, Position]] = deque(maxlen=KEPT)
        self._next = 0.0

    def note(self, position: Position) -> None:
        """Note that the primary has come to *position* by now."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + APART
            self._moments.append((now, position))

    def seconds_behind(self, position: Position) -> float:
        """Return for how long a server at *position* has lacked a commit that is kept; 0 if it lacks none."""
        moments = self._moments.copy()
        first = bisect_left(moments, True, key=lambda moment: not reaches(position, moment[1]))
        return time.monotonic() - moments[first][0] if first < len(moments) else 0.0
