"""The health check: an application that says whether the databases can be used now."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import Connection, Engine, select

from ._checks import checked_hook
from .observe._labels import error_name, label_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

__all__ = ["Behind", "EngineHealth", "HealthCheck"]

Behind: TypeAlias = Callable[[Connection], float | None]
"""Says by how many seconds a replica is behind; None for a connection whose database is none."""


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Whether one engine can be used."""

    engine: str
    """Its label, such as ``"postgresql:shop at db1:5432"``."""

    is_ready: bool
    seconds: float
    """Until there was an answer; waiting for the pool is in them."""

    behind: float | None = None
    """Seconds that the replica is behind, if it is one and somebody can tell."""

    error: str | None = None
    """Why it cannot be used."""


class HealthCheck:
    """Answers 200 if every engine has a connection that answers in time, else 503.  Lives as long as the application.

    ::

        health = HealthCheck(engine, replica, timeout=2.0)

    Mount this WSGI application outside of the `SessionMiddleware`. It asks each engine in a thread of its own, through
    the pool, as a request would: a pool that is used up is not ready. If an engine does not answer, its thread stays
    until the pool or the driver gives up. Later checks wait for the same thread, so there is never a second one.
    """

    def __init__(
        self,
        *engines: Engine,
        timeout: float = 2.0,
        behind: Behind | None = None,
        max_behind: float | None = None,
        details: Callable[[WSGIEnvironment], bool] | None = None,
    ) -> None:
        """Check *engines*.

        Args:
            engines: What the application cannot do without.
            timeout: The seconds in which all of them have to answer.
            behind: Is called with a connection of each, and says how far its replica is behind.
            max_behind: The seconds from which on a replica is not ready. With None the answer only says how far it is
                behind.
            details: A function of the environ that says who also gets the labels of engines, times and names of errors.
                By default nobody does.

        Raises:
            TypeError: If an argument is of another kind, or there is no engine.
            ValueError: If a number is out of its range.
        """
        if not engines or not all(isinstance(engine, Engine) for engine in engines):
            raise TypeError(f"HealthCheck takes one Engine or more, not {engines!r}.")
        for name, seconds in (("timeout", timeout), ("max_behind", 0 if max_behind is None else max_behind)):
            if not isinstance(seconds, int | float) or not seconds >= 0:
                raise ValueError(f"{name}={seconds!r} has to be a number of seconds, 0 or more.")
        for name, hook in (("behind", behind), ("details", details)):
            if hook is not None:
                checked_hook(hook, name)
        self._details = details
        self._max_behind = max_behind
        self._probes = [_Probe(engine, behind) for engine in engines]
        self._timeout = timeout

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        found = self.check()
        is_ready = all(one.is_ready for one in found)
        said: dict[str, object] = {"is_ready": is_ready}
        if self._details is not None and self._details(environ):
            said["engines"] = [asdict(one) for one in found]
        body = json.dumps(said).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response("200 OK" if is_ready else "503 Service Unavailable", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def check(self) -> tuple[EngineHealth, ...]:
        """Return the health of each engine, in their order."""
        began = perf_counter()
        runs = [probe.started() for probe in self._probes]
        return tuple(self._judged(run.health(began + self._timeout)) for run in runs)

    def _judged(self, found: EngineHealth) -> EngineHealth:
        if self._max_behind is None or found.behind is None or found.behind <= self._max_behind:
            return found
        return replace(found, is_ready=False, error=f"{found.behind:.3f} s behind")


class _Run(threading.Thread):
    """One question to one engine.  Lives until there is an answer."""

    def __init__(self, engine: Engine, behind: Behind | None) -> None:
        super().__init__(name="wsgi_session health check", daemon=True)
        self._began = perf_counter()
        self._behind = behind
        self._engine = engine
        self._error: str | None = None
        self._lag: float | None = None
        self._seconds = 0.0

    def run(self) -> None:
        """Ask."""
        try:
            with self._engine.connect() as connection:
                connection.execute(select(1))
                self._lag = None if self._behind is None else self._behind(connection)
        except Exception as error:
            self._error = error_name(error)
        self._seconds = perf_counter() - self._began

    def health(self, deadline: float) -> EngineHealth:
        """Return the answer, or that there is none at the *deadline*."""
        self.join(max(0.0, deadline - perf_counter()))
        engine = label_of(self._engine)
        if self.is_alive():
            seconds = perf_counter() - self._began
            return EngineHealth(engine, is_ready=False, seconds=seconds, error=f"no answer for {seconds:.3f} s")
        return EngineHealth(engine, self._error is None, self._seconds, self._lag, self._error)


class _Probe:
    """Asks one engine, one question at a time.  Lives as long as its `HealthCheck`."""

    def __init__(self, engine: Engine, behind: Behind | None) -> None:
        self._behind = behind
        self._engine = engine
        self._lock = threading.Lock()
        self._run: _Run | None = None

    def started(self) -> _Run:
        """Return the question that is under way, or a new one."""
        with self._lock:
            if self._run is None or not self._run.is_alive():
                self._run = _Run(self._engine, self._behind)
                self._run.start()
            return self._run
