"""The budget: how many statements a piece of code may send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event

from ..errors import WSGISessionError
from ..observe._callers import Callers
from ..observe._labels import label_of
from ..observe._shapes import BOOKKEEPING, shape_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class StatementBudgetError(WSGISessionError, AssertionError):
    """More statements were sent than there was a budget for, or another number than expected."""

    __module__ = "wsgi_session.testing"  # where it is public


@dataclass(frozen=True, slots=True)
class SentStatement:
    """A statement that was sent, without its values."""

    engine: str
    """The address of its database, without the password."""

    kind: str
    """``"select"``, ``"insert"``, ``"update"``, ``"delete"``, or another first word."""

    sql: str
    line: str | None
    """The line of the application that has caused it; None for what the end of the request does."""

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.sql}  [{self.line or 'at the end of the request'}]"


class StatementBudget:
    """Count the statements of a block, on all engines and threads.  Lives as long as the block.

    ::

        with StatementBudget(at_most=2) as budget:
            client.get("/orders")
        assert budget.statements[0].kind == "select"

    Savepoints and the like are not counted; one statement for many rows is one.
    """

    statements: list[SentStatement]
    """What has been sent, in order."""

    def __init__(self, *, at_most: int | None = None, exactly: int | None = None) -> None:
        """Set the budget; without one, statements are only collected.

        Args:
            at_most: How many may be sent.
            exactly: How many have to be.

        Raises:
            TypeError: If both are given.
        """
        if at_most is not None and exactly is not None:
            raise TypeError("A budget is 'at_most' or 'exactly' a number of statements, not both.")
        self._at_most = at_most
        self._callers = Callers()
        self._exactly = exactly
        self.statements = []

    def __enter__(self) -> Self:
        """Begin to count."""
        event.listen(Engine, "before_cursor_execute", self._on_execute)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop counting.

        Raises:
            StatementBudgetError: If the budget does not hold, and no other error is on its way.
        """
        event.remove(Engine, "before_cursor_execute", self._on_execute)
        if error is None and not self._holds():
            raise StatementBudgetError(self._complaint())

    def _holds(self) -> bool:
        count = len(self.statements)
        if self._exactly is not None:
            return count == self._exactly
        return self._at_most is None or count <= self._at_most

    def _complaint(self) -> str:
        allowed = f"at most {self._at_most}" if self._exactly is None else f"exactly {self._exactly}"
        listed = "".join(f"\n{number:3}. {statement}" for number, statement in enumerate(self.statements, 1))
        return f"{len(self.statements)} statements were sent, and {allowed} expected{':' if listed else '.'}{listed}"

    def _on_execute(
        self,
        connection: Connection,
        _cursor: object,
        statement: str,
        _parameters: object,
        _context: object,
        _many: bool,
    ) -> None:
        shape = shape_of(statement, connection.dialect.name)
        if shape.kind not in BOOKKEEPING:
            self.statements.append(
                SentStatement(label_of(connection.engine), shape.kind, shape.sql, self._callers.line())
            )
