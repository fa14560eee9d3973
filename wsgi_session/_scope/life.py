"""The life of a scope, and what has been settled of it, by names that cost no look-up."""

from __future__ import annotations

from enum import Enum

from ..scope import State

OPEN, DOOMED, SETTLING, COMMITTED, UNCOMMITTED, ROLLED_BACK, ENDED = State
"""Its members: to look one up in the class has the price of a call."""


class Life(Enum):
    """How far a scope has come, whatever its outcome."""

    UNTOUCHED = "untouched"
    """There is nothing in it but an unbuilt session, so that its end cannot fail."""

    TOUCHED = "touched"

    OVER = "over"
    """It has ended."""


UNTOUCHED, TOUCHED, OVER = Life
