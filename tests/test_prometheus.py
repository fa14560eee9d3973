"""The collector: what the recorder knows, as Prometheus reads it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.helpers import add_words, answer, request
from wsgi_session import RetryMiddleware, SessionMiddleware, on_unsafe_success
from wsgi_session.observe import Recorder
from wsgi_session.prometheus import RecorderCollector
from wsgi_session.replicas import Replicas
from wsgi_session.replicas._replicas import all_gauges

KEY = "sqlalchemy.session"


def registry_of(recorder: Recorder) -> CollectorRegistry:
    """Return a registry that collects from *recorder* alone."""
    registry = CollectorRegistry()
    registry.register(RecorderCollector(recorder))
    return registry


def test_requests_are_collected(engine: Any) -> None:
    """Requests are counted by their outcome, further attempts, too, and those that are under way."""
    recorder = Recorder()
    registry = registry_of(recorder)
    active: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        active.append(registry.get_sample_value("wsgi_session_requests_active"))
        add_words(environ[KEY], "x")
        if environ["PATH_INFO"] == "/again" and not environ["retry.attempt"]:
            raise LookupError
        answer(start_response)
        return []

    app = SessionMiddleware(app, engine, recorder=recorder, commit=on_unsafe_success)  # type: ignore[assignment]
    app = RetryMiddleware(app, wait=0, is_retryable=lambda error: isinstance(error, LookupError))  # type: ignore[assignment]
    request(app)
    request(app, "POST")
    request(app, "POST", "/again")

    counted = {
        outcome: registry.get_sample_value("wsgi_session_requests_total", {"outcome": outcome})
        for outcome in ("committed", "not committed", "rolled back", "lost")
    }
    assert counted == {"committed": 2, "not committed": 0, "rolled back": 1, "lost": 1}
    assert registry.get_sample_value("wsgi_session_retries_total") == 1
    assert active == [1, 1, 1, 1]


def test_pools_are_collected(new_engine: Any) -> None:
    """Each pool has its state, and what it has done; engines of one label are added up."""
    recorder = Recorder()
    engines = [new_engine(pool_size=1, pool_timeout=0.05, logging_name="collected") for _ in range(2)]
    recorder.watch(*engines)
    for engine in engines:
        engine.dispose()  # has made its tables
    registry = registry_of(recorder)

    def value(name: str, **labels: str) -> Any:
        return registry.get_sample_value(f"db_client_connection_{name}", {"pool_name": "collected", **labels})

    uses = value("uses_total")
    with engines[0].connect() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(PoolTimeoutError):
            engines[0].connect()
        assert (value("count", state="used"), value("count", state="idle")) == (1, 0)

    assert (value("count", state="used"), value("count", state="idle")) == (0, 1)
    assert (value("idle_max"), value("pending_requests")) == (2, 0)
    assert (value("timeouts_total"), value("uses_total") - uses) == (1, 1)
    assert 0.05 <= value("wait_seconds_total") < 10
    assert 0.05 <= value("use_seconds_total") < 10


def test_replicas_are_collected() -> None:
    """What went to which server, and why; servers of one label are added up."""
    servers = [create_engine(f"postgresql+psycopg://127.0.0.1:1/{name}") for name in ("collected", "copied", "copied")]
    replicas = Replicas(servers[0], servers[1:])
    inner = SessionMiddleware(read, servers[0], bind=replicas)
    app = replicas.middleware(inner, "of this test alone")
    for method in ("GET", "POST"):
        with pytest.raises(OperationalError):
            request(app, method)
    registry = registry_of(Recorder())

    def value(name: str, **labels: str) -> Any:
        return registry.get_sample_value(f"wsgi_session_replicas_{name}", labels)

    primary, replica = (f"postgresql:{name} at 127.0.0.1:1" for name in ("collected", "copied"))
    assert value("requests_total", server=primary, reason="its method may write") == 1
    assert value("requests_total", server=primary, reason="no replica is up") == 0
    assert value("requests_total", server=replica, reason="it has come so far") == 1
    assert (value("polls_total", server=replica), value("failures_total", server=replica)) == (0, 1)
    assert (value("up", server=replica), value("behind_seconds", server=replica)) == (1, None)
    assert value("waits_total") == sum(gauges.waits for gauges in all_gauges())
    assert value("wait_seconds_total") == sum(gauges.waited for gauges in all_gauges())


def read(environ: Any, start_response: Any) -> Any:
    """Read something."""
    environ[KEY].execute(text("SELECT 1"))
    answer(start_response)
    return []


def test_without_replicas_nothing_is_said_of_them() -> None:
    """Who has none has no metrics of them."""
    ran = subprocess.run([sys.executable, "-c", WITHOUT_REPLICAS], check=True, capture_output=True, text=True)

    assert "wsgi_session_requests_active" in ran.stdout
    assert "replicas" not in ran.stdout


WITHOUT_REPLICAS = """
from prometheus_client import CollectorRegistry, generate_latest
from wsgi_session.observe import Recorder
from wsgi_session.prometheus import RecorderCollector
registry = CollectorRegistry()
registry.register(RecorderCollector(Recorder()))
print(generate_latest(registry).decode())
"""


def test_what_is_collected_can_be_read() -> None:
    """The names and the texts are such as Prometheus reads."""
    shown = generate_latest(registry_of(Recorder())).decode()

    assert 'wsgi_session_requests_total{outcome="rolled back"} 0.0' in shown
    assert "# TYPE db_client_connection_timeouts_total counter" in shown
