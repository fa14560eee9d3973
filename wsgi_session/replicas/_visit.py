"""The visit: which position a request brings, and which it takes with it."""

from __future__ import annotations

from .._log import log
from ._position import NOWHERE, Position, furthest


class Visit:
    """What one request brings, and takes with it.  Lives as long as the request."""

    __slots__ = ("_name", "brought", "has_begun", "took")

    has_begun: bool
    """Whether the headers have been sent, so that the client can be told of nothing more."""

    took: Position
    """The position of what was committed in it."""

    def __init__(self, name: str, brought: Position) -> None:
        """Begin.

        Args:
            name: Of the request, for the log.
            brought: The position that the client has seen.
        """
        self._name = name
        self.brought = brought
        self.has_begun = False
        self.took = NOWHERE

    @property
    def position(self) -> Position:
        """What the client has seen when it has this response."""
        return furthest(self.brought, self.took)

    def note(self, position: Position) -> None:
        """Note the position of a COMMIT in this request."""
        self.took = furthest(self.took, position)
        if self.has_begun:
            log.warning(
                "%s has committed after its headers were sent. Its client cannot be told of the position any more, and"
                " may not see that on a replica at once. Commit before the first byte.",
                self._name,
            )
