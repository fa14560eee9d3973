"""The driver: what each has to say of the transaction on its connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

    from .traces import Traces


class Driver(ABC):
    """What a driver knows of its transactions.  Lives as long as the program."""

    ends_lost_twophase = True
    """Whether a two-phase transaction that the database has ended can be rolled back."""

    waits_with_begin = False
    """Whether it sends BEGIN with the first write, and so has to be asked whether one was sent before."""

    @abstractmethod
    def is_in_transaction(self, connection: Any) -> bool:
        """Say whether the driver's *connection* is in a transaction, as far as it knows."""

    def cannot_write(self, connection: Any, counts_default: bool) -> bool:  # noqa: ARG002
        """Say whether the server refuses every write; most do not say so before there is one.

        Args:
            connection: The driver's.
            counts_default: Whether the default of its transactions counts, of which a BEGIN may ask for the contrary.
        """
        return False

    def has_open_statement(self, connection: PoolProxiedConnection) -> bool:  # noqa: ARG002
        """Say whether rows of a plain statement are still to be fetched; most drivers have them all at once."""
        return False

    def note_begin(self, connection: PoolProxiedConnection) -> None:  # noqa: B027
        """Note whether a BEGIN was sent on a *connection*, if that is to be asked."""

    @abstractmethod
    def fails(self, connection: PoolProxiedConnection, error: BaseException) -> None:
        """Note an *error* on a *connection*, and whether the transaction has outlived it."""

    @abstractmethod
    def is_over(self, connection: Any, left: Traces) -> bool:
        """Say whether the transaction that has *left* traces was ended by the database, or is doomed."""
