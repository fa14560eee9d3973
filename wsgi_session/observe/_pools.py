"""The pools: how full each is, how long one waits for it, and who has its connections."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from . import _whose
from ._callers import Callers
from ._fault import contained, log_once
from ._gauges import PoolGauges
from ._holds import Hold
from ._labels import label_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.pool import Pool, PoolProxiedConnection

    from ._recording import Recording


class PoolWatch:
    """Watches one pool, and those that come after it when it is disposed of.  Lives as long as the pool.

    Its counters are plain additions: no lock is taken, so that a signal handler may read them at any time.
    """

    __slots__ = (
        "__weakref__",
        "_pool",
        "checkouts",
        "engine",
        "held",
        "open",
        "out",
        "peak",
        "timeouts",
        "waited",
        "waiters",
    )

    def __init__(self, engine: Engine) -> None:
        """Watch the pool of *engine*."""
        self.checkouts = 0
        self.engine = label_of(engine)
        self.held = 0.0
        self.open: set[int] = set()
        self.out: dict[int, Hold] = {}
        self.peak = 0
        self.timeouts = 0
        self.waited = 0.0
        self.waiters: set[object] = set()
        for name in ("connect", "close", "invalidate", "detach"):
            event.listen(engine.pool, name, contained(getattr(self, f"_on_{name}")))
        event.listen(engine.pool, "checkin", self._on_checkin)
        self._attach(engine.pool)

    def gauges(self) -> PoolGauges:
        """Read all numbers."""
        pool = self._pool()
        return PoolGauges(
            engine=self.engine,
            pool=type(pool).__name__,
            size=_size(pool),
            open=len(self.open),
            out=len(self.out),
            peak=self.peak,
            waiting=len(self.waiters),
            checkouts=self.checkouts,
            timeouts=self.timeouts,
            waited=self.waited,
            held=self.held,
        )

    def holders(self) -> tuple[str, ...]:
        """Say who has a connection, the longest first."""
        now = perf_counter()
        holds = sorted(self.out.copy().values(), key=lambda hold: hold.since)
        return tuple(hold.described(now) for hold in holds)

    def hold_of(self, connection: Connection) -> Hold:
        """Return the hold of a *connection*, noted now if it was taken before this pool was watched."""
        found = connection.connection.dbapi_connection
        if id(found) not in self.out:
            now = perf_counter()
            self._note(found, _whose.current(), now, now)
        return self.out[id(found)]

    def known_hold_of(self, connection: Connection) -> Hold | None:
        """Return the hold of a *connection*; None for one that is not the pool's any more."""
        return self.out.get(id(connection.connection.dbapi_connection))

    def disown(self) -> None:
        """Forget, in a child process, the connections that are the parent's."""
        self.open, self.out, self.waiters = set(), {}, set()

    def _attach(self, pool: Pool) -> None:
        """Time how *pool* gives its connections, and watch the pool that is made in its place."""
        self._pool = ref(pool)
        setattr(pool, WATCH, self)
        connect, recreate = _unbound(pool, "connect"), _unbound(pool, "recreate")
        pool.connect = partial(self._connect, connect)  # type: ignore[method-assign]
        pool.recreate = partial(self._recreate, recreate)  # type: ignore[method-assign]

    def _connect(self, connect: Callable[[], PoolProxiedConnection]) -> PoolProxiedConnection:
        recording = _whose.current()
        holds = None if recording is None else recording.holds
        waiters = self.waiters
        waiter = object()
        waiters.add(waiter)
        asked = perf_counter()
        if holds is not None:
            holds.waiting_since = asked
        try:
            proxied = connect()
        except PoolTimeoutError:
            self._note_timeout(recording, asked)
            raise
        finally:
            waiters.discard(waiter)
            if holds is not None:
                holds.waiting_since = None
        try:
            connection = proxied.dbapi_connection
            if id(connection) not in self.out:
                self._note(connection, recording, asked, perf_counter())
        except Exception:
            log_once(self._connect)
        return proxied

    def _recreate(self, recreate: Callable[[], Pool]) -> Pool:
        pool = recreate()
        self._follow(pool)
        return pool

    @contained
    def _follow(self, pool: Pool) -> None:
        self._attach(pool)

    def _note(self, connection: Any, recording: Recording | None, asked: float, since: float) -> None:
        callers = _callers if recording is None else recording.callers
        hold = Hold(self.engine, asked, since, callers.line(_depth()), recording)
        out = self.out
        self.open.add(id(connection))
        out[id(connection)] = hold
        if len(out) > self.peak:
            self.peak = len(out)
        self.checkouts += 1
        self.waited += since - asked
        if recording is not None:
            recording.holds.take(hold)

    @contained
    def _note_timeout(self, recording: Recording | None, asked: float) -> None:
        self.timeouts += 1
        waited = perf_counter() - asked
        self.waited += waited
        if recording is not None:
            recording.holds.waited += waited
            recording.holds.ran_dry = self.holders()[:_MAX_HOLDERS]

    def _on_connect(self, connection: Any, _entry: object) -> None:
        self.open.add(id(connection))

    def _on_close(self, connection: Any, _entry: object) -> None:
        self.open.discard(id(connection))

    def _on_checkin(self, connection: Any, _entry: object) -> None:
        try:
            self._give_back(connection)
        except Exception:
            log_once(self._on_checkin)

    def _on_invalidate(self, connection: Any, _entry: object, _error: object) -> None:
        hold = self.out.get(id(connection))
        request = None if hold is None or not hold.is_used else hold.request
        self._give_back(connection)
        if hold is not None and request is not None:
            request.lose_connection(hold)

    def _on_detach(self, connection: Any, _entry: object) -> None:
        self._give_back(connection)
        self.open.discard(id(connection))

    def _give_back(self, connection: Any) -> None:
        hold = self.out.pop(id(connection), None)
        if hold is None:
            return
        now = perf_counter()
        hold.is_over = True
        self.held += now - hold.since
        if hold.request is not None:
            hold.request.holds.give_back(hold, now)


def _depth() -> int:
    """Say how many functions from `Callers.line` outwards, if `PoolWatch._note` calls that, are not the application's.

    Nearly always a session has asked its engine for a connection, and that has asked the pool.
    """
    try:
        frame = sys._getframe(_FRAMES_OF_SESSION)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    except ValueError:  # there are not so many
        return 1
    return _FRAMES_OF_SESSION + 1 if frame.f_code is _SESSION_CONNECTS else 1


def _size(pool: Any) -> int | None:
    size: Any = getattr(pool, "size", None)
    return size() if callable(size) else size  # type: ignore[no-any-return]


def _unbound(pool: Pool, name: str) -> Callable[[], Any]:
    """Return a method of *pool* that does not keep it alive; it may be another tool's that has replaced its own."""
    if name in vars(pool):
        own: Callable[[], Any] = vars(pool)[name]
        return own
    function, weakly = getattr(type(pool), name), ref(pool)
    return lambda: function(weakly())


_callers = Callers()

_SESSION_CONNECTS = Session._connection_for_bind.__code__  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

_FRAMES_OF_SESSION = 9
"""So many functions lie between `_depth` and that one, if it has called."""

_MAX_HOLDERS = 20
"""Of those who had the connections when there was none left, so many are kept, the longest first."""

WATCH = "_wsgi_session_watch"
"""The attribute of a pool that is what watches it."""
