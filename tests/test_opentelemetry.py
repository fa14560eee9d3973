"""The recorder's part in a trace, with OpenTelemetry's own SDK and middleware."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import use_span
from sqlalchemy import text

from tests.helpers import App, Exchange, answer, request
from wsgi_session import SessionMiddleware
from wsgi_session.observe import Recorder
from wsgi_session.opentelemetry import annotate_span


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Return what keeps the spans that have ended."""
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> TracerProvider:
    """Return a provider of tracers, which is not the process's."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def stack(app: App, engine: Any, tracing: TracerProvider, *, statements: bool = True) -> Any:
    """Put OpenTelemetry's middleware around ours."""
    recorder = Recorder(statements=statements, on_begin=annotate_span)
    return OpenTelemetryMiddleware(SessionMiddleware(app, engine, recorder=recorder), tracer_provider=tracing)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of ours."""
    found = dict(span.attributes or {})
    return {name.removeprefix("wsgi_session."): found[name] for name in found if name.startswith("wsgi_session.")}


def loops(environ: Any, start_response: Any) -> Any:
    """Send five statements of one shape, from one line."""
    for number in range(5):
        environ["sqlalchemy.session"].execute(text(f"SELECT 'secret', {number}"))
    answer(start_response)
    return [b"."]


def streams(environ: Any, start_response: Any) -> Any:
    """Send five statements of one shape while the body is iterated."""
    answer(start_response)
    for number in range(5):
        environ["sqlalchemy.session"].execute(text(f"SELECT 'secret', {number}"))
        yield b"."


@pytest.mark.parametrize("app", [loops, streams])
def test_the_span_of_a_request_has_its_record(
    engine: Any, tracing: TracerProvider, exporter: InMemorySpanExporter, app: App
) -> None:
    """The span that OpenTelemetry has made gets the numbers and the findings, also when the body is streamed."""
    request(stack(app, engine, tracing))

    (span,) = exporter.get_finished_spans()
    found = attributes(span)
    assert found["statement_count"] == 5
    assert found["findings"] == ("query in a loop",)
    assert 0 < found["in_database"] <= found["held"]
    assert {name for name in found if isinstance(found[name], float)} == {"waited", "held", "idle", "in_database"}
    assert "secret" not in span.to_json()


def test_a_finding_is_an_event(engine: Any, tracing: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """A finding is an event of the span, with what it is about, its line and its cure."""
    request(stack(loops, engine, tracing))

    (event,) = exporter.get_finished_spans()[0].events
    said = dict(event.attributes or {})
    assert event.name == "wsgi_session.finding"
    assert str(said.pop("line")).startswith("tests/test_opentelemetry.py:")
    assert said == {
        "kind": "query in a loop",
        "subject": "SELECT ?, ?",
        "count": 5,
        "cure": "ask for all at once, by IN or a join",
    }


def test_without_statements_there_is_less(engine: Any, tracing: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """A recorder that records no statements tells the waits and the holds."""
    request(stack(loops, engine, tracing, statements=False))

    assert set(attributes(exporter.get_finished_spans()[0])) == {"waited", "held", "outcome", "findings"}


def test_interleaved_responses_have_their_own_spans(
    engine: Any, new_engine: Any, tracing: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Each of two bodies that a server interleaves on one thread annotates the span of its own request."""
    app = stack(streams, new_engine(pool_size=2), tracing)
    first, second = Exchange(app, path="/a"), Exchange(app, path="/b")
    for _ in range(3):
        first.step()
    second.read().close()
    first.close()

    counts = [attributes(span)["statement_count"] for span in exporter.get_finished_spans()]
    assert counts == [5, 3]


def test_no_span_is_made(engine: Any, exporter: InMemorySpanExporter) -> None:
    """Where nobody traces, nothing is annotated, and no span is made."""
    app = SessionMiddleware(loops, engine, recorder=(recorder := Recorder(on_begin=annotate_span)))

    request(app)

    assert len(recorder.records) == 1
    assert annotate_span({}) is None


def test_a_span_that_has_ended_is_left_alone(
    engine: Any, tracing: TracerProvider, exporter: InMemorySpanExporter, caplog: Any
) -> None:
    """A response that is closed after its span has ended changes nothing, without a word."""
    app = SessionMiddleware(streams, engine, recorder=Recorder(on_begin=annotate_span))
    span = tracing.get_tracer("test").start_span("GET")
    with use_span(span, end_on_exit=True):
        exchange = Exchange(app)

    exchange.read().close()

    assert attributes(exporter.get_finished_spans()[0]) == {}
    assert caplog.text == ""
