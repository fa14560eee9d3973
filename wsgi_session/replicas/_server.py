"""A replica: how far it is known to have come, and whether it can be asked."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .. import _fork
from .._log import log
from ..observe._labels import label_of
from ._gauges import ServerGauges
from ._position import NOWHERE, Position, answer_of, furthest, log_of, reaches

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ._track import Track

ASIDE = 2.0
"""For how many seconds a replica that has failed is not asked."""

REMEMBERED = 60.0
"""For how many seconds a replica that was lost has to come to where it was: who has chosen it may wait for its pool."""


class Replica:
    """One replica.  Lives as long as the program.

    What is known of its position is a lower bound, for a replica only ever goes on, unless its server is started again
    after a crash, or is replaced by another one. All connections are new then. So what was known is forgotten with each
    that is lost, and each new one is asked where it leads to.

    When the server is promoted its connections stay, and could write where nobody looks for it. So each is one that
    only reads.
    """

    def __init__(self, engine: Engine, track: Track) -> None:
        """Know nothing of *engine* yet.

        Args:
            engine: Of the replica.
            track: Of the primary.
        """
        self.engine = engine
        self.requests = 0
        self._before: tuple[float, Position] = (0.0, NOWHERE)
        self._behind: float | None = None
        self._failures = 0
        self._in_autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._known: Position = NOWHERE
        self._lock = threading.Lock()
        self._log = log_of(engine)
        self._losses = 0
        self._polls = 0
        self._track = track
        self._up_again = 0.0
        self._was_put_aside = False
        event.listen(engine, "connect", self._on_connect)
        engine.dispose()  # connections that it may have already
        _replicas.add(self)

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
        """Forget where it was, and ask it no more for a while; the first time in a row is logged."""
        self._losses += 1
        if self._known:
            self._before = time.monotonic() + REMEMBERED, self._least()
        self._known = NOWHERE
        if not self.is_up:
            return
        self._failures += 1
        self._up_again = time.monotonic() + ASIDE
        if not self._was_put_aside:
            self._was_put_aside = True
            log.warning("%s is put aside: %s. Its reads go elsewhere until it answers.", label_of(self.engine), reason)

    def gauges(self) -> ServerGauges:
        """Return what it was asked for."""
        label = label_of(self.engine)
        return ServerGauges(label, self.requests, self._polls, self._failures, self.is_up, self._behind)

    def disown(self) -> None:
        """Do without a lock, in a child process, that a thread of the parent may hold."""
        self._lock = threading.Lock()

    def _poll(self) -> None:
        self._polls += 1
        losses = self._losses
        try:
            with self._in_autocommit.connect() as connection:
                is_replica, position = connection.execute(text(self._log.of_replica)).one()
        except (DBAPIError, PoolTimeoutError) as error:
            self.put_aside(type(getattr(error, "orig", None) or error).__name__)
            return
        if not is_replica:
            self.put_aside(_IS_NONE)
            return
        found = self._log.parse(str(position))
        self._was_put_aside = False
        self._behind = self._track.seconds_behind(found)
        if self._losses == losses:
            self._known = furthest(self._known, found)

    def _on_connect(self, connection: Any, _record: object) -> None:
        """Have a new *connection* refuse to write, and refuse it if its server is behind where this one was.

        Its reads would be stale. It is refused as a server refuses one, so that the read is repeated on the primary.
        """
        least = self._least()
        is_replica, position = answer_of(connection, self._log.reads_only, self._log.of_replica)
        found = self._log.parse(str(position)) if is_replica else NOWHERE
        if not reaches(found, least):
            connection.close()
            raise self.engine.dialect.loaded_dbapi.OperationalError(
                f"{label_of(self.engine)} is behind where it was: it was started again, or is another server now."
            )
        if not is_replica:
            self.put_aside(_IS_NONE)

    def _least(self) -> Position:
        """Return where its server has been, as far as that counts."""
        until, before = self._before
        return furthest(self._known, before) if time.monotonic() < until else self._known


_IS_NONE = "it is no replica (any more)"

_replicas: _fork.Inheritance[Replica] = _fork.Inheritance(Replica.disown)
