"""The problems of a test: what would silently fool it, noted to be raised at its end."""

from __future__ import annotations

from typing import NoReturn

from ..errors import WSGISessionError

REMEDY = "Use 'committing()' for such a test."
"""What to do with a test that cannot be isolated."""


class IsolationError(WSGISessionError, AssertionError):
    """Something would have fooled the test, or is left behind by it."""

    __module__ = "wsgi_session.testing"  # where it is public


class Problems:
    """What was noted in one block.  Lives as long as the block."""

    __slots__ = ("_noted", "_told")

    def __init__(self) -> None:
        """Begin with none."""
        self._noted: list[str] = []
        self._told = 0

    def note(self, problem: str) -> None:
        """Note *problem*, once."""
        if problem not in self._noted:
            self._noted.append(problem)

    def refuse(self, problem: str) -> NoReturn:
        """Note *problem*, for the application may swallow the error, and raise it.

        Raises:
            IsolationError: Always.
        """
        self.note(problem)
        raise IsolationError(problem)

    def tell(self, error: BaseException | None = None) -> None:
        """Raise what has not been told yet; where *error* is on its way, add it to that as notes.

        Raises:
            IsolationError: If there is anything, and no *error*.
        """
        untold, self._told = self._noted[self._told :], len(self._noted)
        if error is not None:
            for problem in untold:
                if problem not in str(error):
                    error.add_note(f"wsgi_session.testing: {problem}")
        elif untold:
            raise IsolationError("\n".join(untold))
