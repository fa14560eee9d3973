"""Metrics: what the recorder knows, on OpenTelemetry's instruments."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.helpers import add_words, answer, request
from wsgi_session import RetryMiddleware, SessionMiddleware, on_unsafe_success
from wsgi_session.observe import Recorder
from wsgi_session.opentelemetry import measure
from wsgi_session.replicas import Replicas

KEY = "sqlalchemy.session"
POOL = "db.client.connection."


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """Return what reads the instruments."""
    return InMemoryMetricReader()


@pytest.fixture
def recorder(reader: InMemoryMetricReader) -> Recorder:
    """Return a recorder whose requests are measured."""
    return Recorder(on_finish=measure(MeterProvider([reader]).get_meter("tests")))


def points(reader: InMemoryMetricReader, name: str) -> dict[tuple[Any, ...], Any]:
    """Return the points of an instrument, by the values of their attributes."""
    data: Any = reader.get_metrics_data()
    found = [one for resource in data.resource_metrics for scope in resource.scope_metrics for one in scope.metrics]
    (metric,) = [one for one in found if one.name == name]
    return {tuple(sorted(map(str, point.attributes.values()))): point for point in metric.data.data_points}


def test_requests_are_counted_by_their_outcome(engine: Any, recorder: Recorder, reader: InMemoryMetricReader) -> None:
    """Each request counts once, by what has become of it, and each attempt after the first as one, too."""

    def app(environ: Any, start_response: Any) -> Any:
        add_words(environ[KEY], "x")
        if environ["PATH_INFO"] == "/again" and not environ["retry.attempt"]:
            raise LookupError
        answer(start_response)
        return []

    app = SessionMiddleware(app, engine, recorder=recorder, commit=on_unsafe_success)  # type: ignore[assignment]
    app = RetryMiddleware(app, wait=0, is_retryable=lambda error: isinstance(error, LookupError))  # type: ignore[assignment]
    request(app)
    for path in ("/", "/", "/again"):
        request(app, "POST", path)

    counted = {outcome: point.value for (outcome,), point in points(reader, "wsgi_session.requests").items()}
    assert counted == {"lost": 1, "committed": 3, "rolled back": 1}
    assert points(reader, "wsgi_session.retries")[()].value == 1


def test_pools_are_measured(new_engine: Any, recorder: Recorder, reader: InMemoryMetricReader) -> None:
    """How full a pool is, who waits for it and how long, and for how long its connections are in use."""
    engines = [new_engine(pool_size=1, pool_timeout=0.05, logging_name="measured") for _ in range(2)]

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))
        with pytest.raises(PoolTimeoutError):
            engines[0].connect()
        counts.append(points(reader, POOL + "count"))
        answer(start_response)
        return []

    counts: list[Any] = []
    for engine in engines:
        recorder.watch(engine)
        engine.dispose()  # has made its tables
    request(SessionMiddleware(app, engines[0], recorder=recorder))
    now = points(reader, POOL + "count")

    assert (counts[0]["measured", "used"].value, counts[0]["idle", "measured"].value) == (1, 0)
    assert (now["measured", "used"].value, now["idle", "measured"].value) == (0, 1)
    assert points(reader, POOL + "idle.max")["measured",].value == 2
    assert points(reader, POOL + "pending_requests")["measured",].value == 0
    assert points(reader, POOL + "timeouts")["measured",].value == 1
    for name in ("wait_time", "use_time"):
        point = points(reader, POOL + name)["measured",]
        assert point.count == 1
        assert 0 < point.sum < 10
        assert point.explicit_bounds[0] == 0.001


def test_the_meter_is_the_global_one(engine: Any, reader: InMemoryMetricReader, monkeypatch: Any) -> None:
    """Without a meter, that of the provider is used which the application has set."""
    monkeypatch.setattr(metrics, "get_meter", MeterProvider([reader]).get_meter)

    def app(environ: Any, start_response: Any) -> Any:
        answer(start_response)
        return []

    request(SessionMiddleware(app, engine, recorder=Recorder(on_finish=measure())))

    assert points(reader, "wsgi_session.requests")["not committed",].value == 1


def test_replicas_are_measured(recorder: Recorder, reader: InMemoryMetricReader) -> None:
    """Requests have their server and their reason, and each replica what it was asked."""
    primary, replica = (create_engine(f"postgresql+psycopg://127.0.0.1:1/{name}") for name in ("measured", "followed"))
    replicas = Replicas(primary, [replica])

    def app(environ: Any, start_response: Any) -> Any:
        environ[KEY].execute(text("SELECT 1"))

    carrying = replicas.middleware(SessionMiddleware(app, primary, bind=replicas), "of this test alone")
    for method in ("GET", "POST"):
        with pytest.raises(OperationalError):
            request(carrying, method)
    replicas._replicas[0]._behind = 0.25

    requests = points(reader, "wsgi_session.replicas.requests")
    assert requests["its method may write", "postgresql:measured at 127.0.0.1:1"].value == 1
    assert requests["it has come so far", "postgresql:followed at 127.0.0.1:1"].value == 1
    for name, value in (("polls", 0), ("failures", 1), ("behind", 0.25)):
        assert points(reader, f"wsgi_session.replicas.{name}")["postgresql:followed at 127.0.0.1:1",].value == value
    for name in ("waits", "wait_time"):
        assert points(reader, f"wsgi_session.replicas.{name}")[()].value >= 0
