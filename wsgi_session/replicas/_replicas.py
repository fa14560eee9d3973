"""The replicas of a primary, and which of them a request reads from."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from .. import _wsgi
from .._log import log
from .._scope.look import look
from .._session import engines
from .._session.codes import code_or_class
from ..commit import SAFE_METHODS
from ..observe._labels import label_of
from ..retry._conflict import is_retryable
from . import _primary
from ._gauges import ReplicasGauges, ServerGauges, ToPrimary
from ._middleware import PositionMiddleware
from ._server import Replica
from ._token import Tokens
from ._track import Track

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    from sqlalchemy.engine import ExceptionContext

    from ._position import Position
    from ._primary import Note
    from ._visit import Visit

PAUSE = 0.005
"""The seconds between two times that the replicas are asked while a request waits for one of them."""


class Replicas:
    """Sends the reads of safe methods to replicas, and everything else to the primary.  Lives as long as the program.

    ::

        replicas = Replicas(primary, [replica_1, replica_2], wait=0.01)
        application = SessionMiddleware(app, Session, commit=on_unsafe_success, bind=replicas)
        application = replicas.middleware(application, secret=SECRET)
        application = RetryMiddleware(application, is_retryable=replicas.is_retryable)

    A client that has written brings the position of its COMMIT with its next requests, and these read from a replica
    that has come so far, or from the primary. Only its own writes are sure to be seen: what others have written may be
    seen later, and, as replicas differ, may be gone again for a moment.

    With no replicas it is of use for its primary alone: `is_retryable`, and a pool that is renewed when the server was
    demoted.
    """

    def __init__(self, primary: Engine, replicas: Sequence[Engine], *, wait: float = 0.0) -> None:
        """Know the servers.

        Args:
            primary: The engine that writes, as the `sessionmaker` has it. PostgreSQL or MariaDB, by a driver that is
                known.
            replicas: An engine for each replica: an address behind which there are several will not do, for they differ
                in their positions. Their connections only read, whatever their servers become.
            wait: The seconds that a read waits for a replica to catch up before it goes to the primary.

        Raises:
            TypeError: If an argument is of another kind, or a database or driver is not known.
            ValueError: If *wait* is negative, or an engine is that of the primary.
        """
        for engine in (primary, *replicas):
            if not isinstance(engine, Engine):
                raise TypeError(f"Replicas takes engines, not {engine!r}.")
        if any(engine.pool is primary.pool for engine in replicas):
            raise ValueError(f"{primary!r} is the primary, too. Make an engine of its own for each replica.")
        if not isinstance(wait, int | float) or not wait >= 0:
            raise ValueError(f"wait={wait!r} has to be a number of seconds, 0 or more.")
        self.engines: list[Engine] = [primary, *replicas]
        self._is_mentioned = False
        self._key = f"wsgi_session.replicas.{id(self):x}"
        self._primary = primary
        self._to_primary = dict.fromkeys(ToPrimary, 0)
        self._track = Track()
        self._replicas = [Replica(engine, self._track) for engine in replicas]
        self._wait = wait
        self._waited = 0.0
        self._waits = 0
        _primary.watch(primary, self._wanted)
        for replica in self._replicas:
            engines.meet(replica.engine)
            event.listen(replica.engine, "handle_error", partial(_put_aside, replica))
        _all.add(self)

    def __call__(self, environ: WSGIEnvironment) -> Engine:
        """Choose the engine of a request: for ``SessionMiddleware(..., bind=...)``."""
        chosen = self._choose(environ)
        if isinstance(chosen, ToPrimary):
            self._to_primary[chosen] += 1
            return self._primary
        chosen.requests += 1
        return chosen.engine

    def middleware(
        self,
        app: WSGIApplication,
        secret: str | bytes,
        *,
        cookie: str = "database_position",
        header: str | None = None,
        max_age: int = 60,
    ) -> WSGIApplication:
        """Wrap *app* in what carries the positions of clients.

        It belongs around the `SessionMiddleware`, and inside of a `RetryMiddleware`. A position is sent only where a
        request has written, so that the responses to reads can be kept by shared caches.

        Args:
            app: A `SessionMiddleware`, or what leads to one.
            secret: What the tokens are signed with, 16 bytes or more; the same in all processes.
            cookie: The name of the cookie.
            header: The name of a header that has the same, in both directions, for clients without cookies.
            max_age: For how many seconds a client brings its position. Replicas should never be later than that.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If *secret* is too short, or *max_age* is not positive.
        """
        return PositionMiddleware(app, self._key, Tokens(secret, max_age), cookie, header)

    def is_retryable(
        self,
        error: BaseException,
        environ: WSGIEnvironment | None,  # noqa: ARG002
        engine: Engine | None,
        /,
    ) -> bool:
        """Say whether an error is worth another attempt: as `wsgi_session.is_retryable`, and what replicas add.

        A safe method goes to the primary in its second attempt. So a write in it is repeated, which a replica has
        refused, and so are a read that was cancelled because of what the replica had to replay, and one whose replica
        was lost. On the primary, a write is repeated that was refused because the server had been demoted.
        """
        if is_retryable(error):
            return True
        code = code_or_class(error)
        if any(engine is replica.engine for replica in self._replicas):
            return code in _REFUSED or _is_lost(error)
        return engine is self._primary and code in _REFUSED and _is_lost(error)

    def gauges(self) -> ReplicasGauges:
        """Return what went where in this process, and how late each replica was; no server is asked for it."""
        of_primary = sum(self._to_primary.values())
        primary = ServerGauges(label_of(self._primary), of_primary, 0, 0, is_up=True, behind=None)
        return ReplicasGauges(
            servers=(primary, *(replica.gauges() for replica in self._replicas)),
            to_primary={reason.value: requests for reason, requests in self._to_primary.items()},
            waits=self._waits,
            waited=self._waited,
        )

    def _choose(self, environ: WSGIEnvironment) -> Replica | ToPrimary:
        visit: Visit | None = environ.get(self._key)
        if visit is None:
            self._mention_what_is_missing(environ)
            return ToPrimary.UNKNOWN
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            return ToPrimary.METHOD
        if environ.get("retry.attempt", 0) > 0:
            return ToPrimary.ATTEMPT
        if visit.took:
            return ToPrimary.COMMITTED
        return self._caught_up(visit.brought)

    def _caught_up(self, target: Position) -> Replica | ToPrimary:
        """Find a replica that has come to *target*: one that is known to have, else one that says so."""
        for replica in self._up():
            if replica.is_known_to_reach(target):
                return replica
        return self._waited_for(target)

    def _waited_for(self, target: Position) -> Replica | ToPrimary:
        """Wait until a replica says that it has come to *target*, for as long as a read waits.

        The kind of wait is chosen here, and only here. There is one: the replicas are asked, one by one, again and
        again, which all servers that are known can answer.

        PostgreSQL 19 can wait itself, in one question: ``WAIT FOR LSN '0/306EE20' WITH (TIMEOUT '10ms', NO_THROW)``,
        which takes no parameters, and answers with a row: ``success``, ``timeout`` or ``not in recovery``. It knows no
        timelines, as our positions do not. It would be sent here, to the first of the replicas after each has been
        asked once, if its ``dialect.server_version_info`` begins with 19 or more; the one thread that asks a replica
        for all would wait for all, until the furthest of their positions. No test has it.
        """
        until = time.monotonic() + self._wait
        is_first = True
        while up := self._up():
            for replica in up:
                if replica.reaches(target):
                    return replica
            if time.monotonic() + PAUSE > until:
                return ToPrimary.BEHIND
            self._pause(is_first=is_first)
            is_first = False
        return ToPrimary.DOWN

    def _pause(self, *, is_first: bool) -> None:
        began = time.monotonic()
        time.sleep(PAUSE)
        self._waits += is_first
        self._waited += time.monotonic() - began

    def _up(self) -> list[Replica]:
        """Return the replicas that can be asked, in random order."""
        up = [replica for replica in self._replicas if replica.is_up]
        random.shuffle(up)
        return up

    def _wanted(self) -> Note | None:
        """Return who notes a COMMIT that is sent now: the request that this code runs in, if there is one."""
        scope = look()
        while scope is not None:
            if scope.environ is not None and self._key in scope.environ:
                return partial(self._note, scope.environ[self._key])
            scope = scope.outer
        return None

    def _note(self, visit: Visit, position: Position) -> None:
        visit.note(position)
        if position is not _primary.BEYOND:
            self._track.note(position)

    def _mention_what_is_missing(self, environ: WSGIEnvironment) -> None:
        if not self._is_mentioned:
            self._is_mentioned = True
            log.warning(
                "%s has not passed 'replicas.middleware(...)', so it is not known what its client has written, and it"
                " reads from the primary. Wrap the SessionMiddleware in it. This is logged once.",
                _wsgi.method_and_path(environ),
            )


def all_gauges() -> list[ReplicasGauges]:
    """Return what every `Replicas` of this process has sent where."""
    return [replicas.gauges() for replicas in list(_all)]


_all: WeakSet[Replicas] = WeakSet()

_REFUSED = (_primary.READ_ONLY_TRANSACTION, _primary.OPTION_PREVENTS_STATEMENT, _primary.CANNOT_IN_READ_ONLY)
"""The codes of a write that the server refuses."""


def _is_lost(error: BaseException) -> bool:
    """Say whether a connection was lost, or could not be made: then the error has no statement."""
    return isinstance(error, DBAPIError) and (error.connection_invalidated or error.statement is None)


def _put_aside(replica: Replica, context: ExceptionContext) -> None:
    """Ask a replica no more for a while that was lost, or could not be reached."""
    if not context.is_pre_ping and (context.is_disconnect or context.connection is None):
        replica.put_aside(type(context.original_exception).__name__)
