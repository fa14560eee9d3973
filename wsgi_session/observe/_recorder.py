"""The recorder: what records the requests of an application, and says who holds a pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from logging import DEBUG, INFO, Logger, getLogger
from time import perf_counter
from typing import TYPE_CHECKING, Protocol, TypeVar

from .. import _fork
from .._checks import checked_hook
from .._log import log
from .._scope.look import look
from . import _listeners
from ._callers import Callers
from ._caught import note_errors_of
from ._fault import log_once
from ._gauges import Gauges
from ._live import LiveRequest, live_request
from ._notes import Manner
from ._record import OutcomeKind
from ._recording import Recording
from ._shapes import forget_shapes
from ._timing import timing
from ._watches import all_gauges, all_holders, watch_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from sqlalchemy import Engine

    from ._record import RequestRecord
    from ._values import Values

NUMBERS = "wsgi_session.numbers"
"""The key of the environ under which recorders say what number they have given to a request, if somebody asks."""

A = TypeVar("A")
R = TypeVar("R")

requests_log: Logger = getLogger("wsgi_session.requests")
"""The log of requests: INFO for one with findings, DEBUG for the others."""


class RecordHook(Protocol):
    """Is told what a request did, when it is over."""

    def __call__(self, record: RequestRecord, /) -> object:
        """Be told."""
        ...


class BeginHook(Protocol):
    """Is asked who wants to be told what a request did, when it begins."""

    def __call__(self, environ: WSGIEnvironment, /) -> RecordHook | None:
        """Return what is to be told, if anything is."""
        ...


class Recorder:
    """Records what requests do to their databases.  Lives as long as the application.

    ::

        recorder = Recorder(statements=True)
        application = SessionMiddleware(application, Session, recorder=recorder)

    One recorder may serve several middlewares. Its records have only strings and numbers, because it keeps no values,
    and it sends nothing to a database. A fault in it is logged once, and harms no request. A fault in a function that
    you gave it is logged each time. It takes no lock, so you may read it in a signal handler.
    """

    def __init__(
        self,
        *,
        statements: bool = False,
        keep: int = 100,
        max_statements: int = 1000,
        record_if: Callable[[WSGIEnvironment], bool] | None = None,
        on_begin: BeginHook | None = None,
        on_finish: RecordHook | None = None,
        server_timing: bool | Callable[[WSGIEnvironment], bool] = False,
        skip: Iterable[str] = (),
        values: bool = False,
    ) -> None:
        """Make a recorder; SQLAlchemy is listened to from now on, in this process.

        Args:
            statements: Whether statements are recorded, and not only how long requests wait for connections and hold
                them, and the errors of databases. It makes each statement in this process a little slower.
            keep: How many requests that are over are kept.
            max_statements: How many statements of a request are kept; beyond, they are only counted.
            record_if: Whether to record a request, by its environ.
            on_begin: Is called with the environ of each request that is recorded, when it begins. If it returns a
                function, that is called with the record when the request is over. Use it for what is known only at the
                beginning, such as the current span.
            on_finish: Is told of each request that is over.
            server_timing: Whether a response has a ``Server-Timing`` header, with the milliseconds in databases
                (``db``), waiting for connections (``dbwait``) and holding them (``dbheld``) until the application has
                called its ``start_response``; or a function of the environ that says so, such as `is_local`. Behind a
                proxy that adds no header, `is_local` takes everybody for local.
            skip: Parts of paths, such as ``"shop/repositories/"``. Files with such a path are not named as the cause of
                a statement; their callers are.
            values: Whether what is given to statements is kept, beside the records, for the `Inspector` on this
                computer. They are what your users type: for development alone.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If a number is out of its range, or *values* are to be kept of statements that are not.
        """
        if values and not statements:
            raise ValueError("values=True keeps what is given to statements: write 'statements=True', too.")
        for name, hook in (("record_if", record_if), ("on_begin", on_begin), ("on_finish", on_finish)):
            if hook is not None:
                checked_hook(hook, name)
        if not isinstance(server_timing, bool):
            checked_hook(server_timing, "server_timing")
        for name, number in (("keep", keep), ("max_statements", max_statements)):
            if not isinstance(number, int) or number < 0:
                raise ValueError(f"{name}={number!r} has to be a whole number, 0 or more.")
        self._callers = Callers(tuple(skip))
        self._manner = Manner(self._callers, statements, max_statements, values, self._keep)
        self._finished = self._found = 0
        self._live: dict[int, Recording] = {}
        self._numbers = count(1)
        self._outcomes = dict.fromkeys((kind.value for kind in OutcomeKind), 0)
        self._on_begin = on_begin
        self._on_finish = on_finish
        self._record_if = record_if
        self._retries = 0
        self._records: deque[Recording] = deque(maxlen=keep)
        self._server_timing = server_timing
        _listeners.listen()
        if statements:
            _listeners.listen_to_statements()
        _recorders.add(self)

    @property
    def keeps_values(self) -> bool:
        """Whether what is given to statements is kept."""
        return self._manner.values

    @property
    def records(self) -> tuple[RequestRecord, ...]:
        """The last requests that are over, the newest last."""
        return tuple(recording.record() for recording in self._records.copy())

    def values_of(self, number: int) -> dict[int, Values]:
        """Return what was given to the statements of a request, with ``values=True``.

        Args:
            number: That of its record.

        Returns:
            The values, by the place of their statement in `RequestRecord.statements`. They are in no record, so that
            they get into no log. They show nothing when they are printed, and cannot be pickled.
        """
        return next((one.values() for one in self._records.copy() if one.number == number), {})

    def clear(self) -> None:
        """Forget the requests that are over, and what is kept to describe the next sooner; the gauges count on."""
        self._records.clear()
        self._callers.clear()
        forget_shapes()

    def watch(self, *engines: Engine) -> None:
        """Watch the pools of *engines* before their first use; otherwise, from the first session that uses one.

        Those that a `sessionmaker` names when its middleware is made are watched already.
        """
        for engine in engines:
            watch_of(engine)

    def live(self) -> tuple[LiveRequest, ...]:
        """Return the requests that are not over, with the connections that they hold, the oldest first."""
        now = perf_counter()
        recordings = sorted(self._live.copy().values(), key=lambda recording: recording.began)
        return tuple(live_request(recording, now) for recording in recordings)

    def holders(self) -> tuple[str, ...]:
        """Say in a line each who has the connections of every pool, also outside of requests, the longest first."""
        return all_holders()

    def gauges(self) -> Gauges:
        """Return how much is going on: in this recorder's requests, and in every pool that is watched."""
        counts = (len(self._live), self._finished, self._found, self._outcomes.copy(), self._retries)
        return Gauges(*counts, all_gauges())

    def watching(self, app: WSGIApplication) -> WSGIApplication:
        """Return an application that calls *app*, and has what it does recorded; for the `SessionMiddleware`."""

        def watched(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            recording = self._begin(environ)
            if recording is None:
                return app(environ, start_response)
            start_response = recording.noting(start_response)
            if self._server_timing and self._tells_timing(environ):
                start_response = timing(start_response, recording)
            note_errors_of(environ)
            return app(environ, start_response)

        return watched

    def disown(self) -> None:
        """Forget, in a child process, the requests that are the parent's."""
        self._live = {}

    def _begin(self, environ: WSGIEnvironment) -> Recording | None:
        if self._record_if is not None and not _told(self._record_if, environ):
            return None
        asked = None if self._on_begin is None else _told(self._on_begin, environ)  # first: an interrupt leaves nothing
        try:
            scope = look()
            assert scope is not None
            recording = Recording(scope, self._manner, next(self._numbers), asked)
            scope.recording = recording
            self._live[recording.number] = recording
            if (told := environ.get(NUMBERS)) is not None:
                told.append((self, recording.number))
        except Exception:
            log_once(self._begin)
            return None
        return recording

    def _tells_timing(self, environ: WSGIEnvironment) -> bool:
        tells = self._server_timing
        return tells if isinstance(tells, bool) else bool(_told(tells, environ))

    def _keep(self, recording: Recording) -> None:
        """Keep what is over, and tell of it; its record is made as soon as somebody wants it."""
        self._live.pop(recording.number, None)
        self._records.append(recording)
        self._finished += 1
        self._outcomes[recording.kind] += 1
        if recording.findings:
            self._found += 1
        if recording.attempt:
            self._retries += 1
        if requests_log.isEnabledFor(INFO if recording.findings else DEBUG):
            requests_log.log(INFO if recording.findings else DEBUG, "%s", recording.record())
        if recording.asked is not None:
            _told(recording.asked, recording.record())
        if self._on_finish is not None:
            _told(self._on_finish, recording.record())


def _told(hook: Callable[[A], R], what: A) -> R | None:
    """Tell *hook*, and return its answer; None if it fails."""
    try:
        return hook(what)
    except Exception:
        log.exception("The hook %r of a recorder has failed.", hook)
        return None


_recorders: _fork.Inheritance[Recorder] = _fork.Inheritance(Recorder.disown)
