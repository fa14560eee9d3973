"""What is noted of a scope, by who records it; scopes know no more of a recorder than this."""

from __future__ import annotations

from typing import Any, Protocol


class Notes(Protocol):
    """What is noted of a scope.  Lives as long as that; it raises nothing."""

    def doom(self) -> object:
        """Note that the application has doomed the scope, in the line that runs now."""

    def fail(self, error: BaseException) -> object:
        """Note the error that ends what the scope is for; the state of the scope is still the one before it."""

    def lose(self, what: str, remedy: str) -> object:
        """Note what is lost that was not committed, and what to write instead."""

    def end(self, scope: Any, /) -> object:
        """Note that *scope*, a `BaseScope`, has ended, and the hooks of its middleware have run."""
