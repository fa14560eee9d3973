"""A replica: how far it is known to have come, and whether it can be asked."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .._log import log
from ..observe._labels import label_of
from ._position import NOWHERE, Position, furthest, log_of, reaches

if TYPE_CHECKING:
    from sqlalchemy import Engine

ASIDE = 2.0
"""For how many seconds a replica that has failed is not asked."""


@dataclass(frozen=True, slots=True)
class ServerGauges:
    """What a server was asked for, since the start of this process."""

    server: str
    """Its label, such as ``"postgresql:shop at db2:5432"``."""

    requests: int
    """How many sessions of requests were bound to it."""

    polls: int
    """How often it was asked for its position, each a round trip."""

    failures: int
    """How often it could not be reached, or was no replica."""

    is_up: bool
    """Whether it is asked now."""


class Replica:
    """One replica.  Lives as long as the program.

    What is known of its position is a lower bound, for a replica only ever goes on: it is never taken for further than
    it is.
    """

    def __init__(self, engine: Engine) -> None:
        """Know nothing of *engine* yet."""
        self.engine = engine
        self.requests = 0
        self._failures = 0
        self._in_autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._known: Position = NOWHERE
        self._lock = threading.Lock()
        self._log = log_of(engine)
        self._polls = 0
        self._up_again = 0.0
        self._was_put_aside = False

    @property
    def is_up(self) -> bool:
        """Whether it can be asked."""
        return time.monotonic() >= self._up_again

    def is_known_to_reach(self, target: Position) -> bool:
        """Say whether it has come to *target*, as far as is known without asking it."""
        return reaches(self._known, target)

    def reaches(self, target: Position) -> bool:
        """Say whether it has come to *target*; it is asked, unless it is known already.

        One thread asks at a time, and those that wait take its answer.
        """
        asked = self._polls
        with self._lock:
            if self._polls == asked and not reaches(self._known, target):
                self._poll()
        return self.is_up and reaches(self._known, target)

    def put_aside(self, reason: object) -> None:
        """Ask it no more for a while, unless that is so already; the first time in a row is logged."""
        if not self.is_up:
            return
        self._failures += 1
        self._up_again = time.monotonic() + ASIDE
        if not self._was_put_aside:
            self._was_put_aside = True
            log.warning("%s is put aside: %s. Its reads go elsewhere until it answers.", label_of(self.engine), reason)

    def gauges(self) -> ServerGauges:
        """Return what it was asked for."""
        return ServerGauges(label_of(self.engine), self.requests, self._polls, self._failures, self.is_up)

    def _poll(self) -> None:
        self._polls += 1
        try:
            with self._in_autocommit.connect() as connection:
                is_replica, position = connection.execute(text(self._log.of_replica)).one()
        except (DBAPIError, PoolTimeoutError) as error:
            self.put_aside(type(getattr(error, "orig", None) or error).__name__)
            return
        if not is_replica:
            self.put_aside("it is no replica (any more)")
            return
        self._was_put_aside = False
        self._known = furthest(self._known, self._log.parse(str(position)))
