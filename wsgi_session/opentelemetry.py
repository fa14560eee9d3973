"""The recorder's part in a trace, on the span that a request already has, and what it knows as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.metrics import Observation

from .observe._watches import all_gauges
from .replicas._gauges import by_replica, requests_by_reason
from .replicas._replicas import all_gauges as all_gauges_of_replicas

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from opentelemetry.metrics import CallbackOptions, Meter
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

    from .observe import Finding, PoolGauges, RecordHook, RequestRecord
    from .replicas import ServerGauges

__all__ = ["annotate_span", "measure"]

_PREFIX = "wsgi_session."
_OF_CONNECTIONS = ("waited", "held")
_OF_STATEMENTS = ("idle", "in_database", "statement_count", "commits", "rollbacks")


def annotate_span(_environ: WSGIEnvironment, /) -> RecordHook | None:
    """Return what puts a request's record on the span that is the current one now; for ``Recorder(on_begin=...)``.

    ::

        recorder = Recorder(statements=True, on_begin=annotate_span)
        application = SessionMiddleware(application, Session, recorder=recorder)
        application = OpenTelemetryMiddleware(application)  # outside, so that the span ends after the scope

    The span gets attributes, each ``wsgi_session.`` and the name of a field of the `RequestRecord`: ``waited``,
    ``held``, and with statements ``idle`` and ``in_database``, in seconds, ``statement_count``, ``commits`` and
    ``rollbacks``; ``outcome``, its kind; and ``findings``, their kinds. Each finding is also an event,
    ``wsgi_session.finding``.

    No spans are made: OpenTelemetry's own instrumentations of WSGI and SQLAlchemy are what does that.

    Returns:
        The hook; None where no span is recorded.
    """
    span = trace.get_current_span()
    return partial(_annotate, span) if span.is_recording() else None


def _annotate(span: Span, record: RequestRecord) -> None:
    if span.is_recording():  # it may have ended before the response was closed
        span.set_attributes(_attributes(record))
        for finding in record.findings:
            span.add_event(_PREFIX + "finding", _of_finding(finding))


def _attributes(record: RequestRecord) -> dict[str, AttributeValue]:
    names = _OF_CONNECTIONS if record.in_database is None else _OF_CONNECTIONS + _OF_STATEMENTS
    found: dict[str, AttributeValue] = {_PREFIX + name: getattr(record, name) for name in names}
    found[_PREFIX + "outcome"] = record.outcome.kind.value
    found[_PREFIX + "findings"] = [finding.kind.value for finding in record.findings]
    return found


def _of_finding(finding: Finding) -> dict[str, AttributeValue]:
    said: dict[str, AttributeValue] = {
        "kind": finding.kind.value,
        "subject": finding.subject,
        "count": finding.count,
        "cure": finding.cure,
    }
    return said if finding.line is None else {**said, "line": finding.line}


_POOL = "db.client.connection."
_POOL_NAME = _POOL + "pool.name"
_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""The bounds of the histograms' buckets."""


def measure(meter: Meter | None = None) -> RecordHook:
    """Make the instruments, and return what puts each request's record on them; for ``Recorder(on_finish=...)``.

    ::

        recorder = Recorder(on_finish=measure())

    Of each pool that is watched in this process, by its label, there are those of OpenTelemetry's semantic conventions:
    ``db.client.connection.count``, by its state, ``.idle.max``, ``.pending_requests`` and ``.timeouts``; and of the
    requests that are recorded, ``.wait_time`` and ``.use_time``, in seconds. ``wsgi_session.requests`` counts requests
    by the kind of their outcome, and ``wsgi_session.retries`` the attempts after the first.

    Where there are `Replicas`, ``wsgi_session.replicas.requests`` counts requests by ``server`` and ``reason``, which
    is ``"it has come so far"`` for a replica; of each replica there are ``.polls``, ``.failures`` and ``.behind``, in
    seconds, and ``.waits`` and ``.wait_time`` of all reads.

    Args:
        meter: Makes the instruments; that of the global provider, if it is left out.
    """
    meter = metrics.get_meter("wsgi_session") if meter is None else meter
    _observe_pools(meter)
    _observe_replicas(meter)
    waits = meter.create_histogram(
        _POOL + "wait_time", "s", "Waiting for a connection.", explicit_bucket_boundaries_advisory=_SECONDS
    )
    uses = meter.create_histogram(
        _POOL + "use_time", "s", "Holding a connection.", explicit_bucket_boundaries_advisory=_SECONDS
    )
    requests = meter.create_counter(_PREFIX + "requests", "{request}", "Requests that are over.")
    retries = meter.create_counter(_PREFIX + "retries", "{request}", "Attempts after the first.")

    def measured(record: RequestRecord, /) -> None:
        requests.add(1, {_PREFIX + "outcome": record.outcome.kind.value})
        if record.attempt:
            retries.add(1)
        for held in record.connections:
            waits.record(held.waited, {_POOL_NAME: held.engine})
            uses.record(held.duration, {_POOL_NAME: held.engine})

    return measured


def _observe_pools(meter: Meter) -> None:
    """Make the instruments that are read when somebody asks for them."""
    meter.create_observable_up_down_counter(
        _POOL + "count",
        [_observed(lambda pool: pool.out, "used"), _observed(lambda pool: pool.open - pool.out, "idle")],
        "{connection}",
        "Connections that there are.",
    )
    meter.create_observable_up_down_counter(
        _POOL + "idle.max", [_observed(lambda pool: pool.size or 0)], "{connection}", "Connections that a pool keeps."
    )
    meter.create_observable_up_down_counter(
        _POOL + "pending_requests", [_observed(lambda pool: pool.waiting)], "{request}", "Who waits for a connection."
    )
    meter.create_observable_counter(
        _POOL + "timeouts", [_observed(lambda pool: pool.timeouts)], "{timeout}", "Who has waited in vain."
    )


def _observed(
    number_of: Callable[[PoolGauges], int], state: str | None = None
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Return what reads a number of all pools, added up over those that have one label."""
    also = {} if state is None else {_POOL + "state": state}

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        numbers: Counter[str] = Counter()
        for pool in all_gauges():
            numbers[pool.engine] += number_of(pool)
        return [Observation(number, {_POOL_NAME: engine, **also}) for engine, number in numbers.items()]

    return observe


_REPLICAS = _PREFIX + "replicas."


def _observe_replicas(meter: Meter) -> None:
    """Make the instruments of what went where."""
    meter.create_observable_counter(
        _REPLICAS + "requests", [_observed_requests], "{request}", "Requests that were sent to a server."
    )
    meter.create_observable_counter(
        _REPLICAS + "polls",
        [_observed_of_replicas(lambda replica: replica.polls, sum)],
        "{poll}",
        "Questions for positions.",
    )
    meter.create_observable_counter(
        _REPLICAS + "failures",
        [_observed_of_replicas(lambda replica: replica.failures, sum)],
        "{failure}",
        "Times that a replica was put aside.",
    )
    meter.create_observable_gauge(
        _REPLICAS + "behind",
        [_observed_of_replicas(lambda replica: replica.behind, max)],
        "s",
        "How late a replica was when it was last asked.",
    )
    meter.create_observable_counter(
        _REPLICAS + "waits",
        [lambda _options: [Observation(sum(gauges.waits for gauges in all_gauges_of_replicas()))]],
        "{request}",
        "Reads that have waited for a replica.",
    )
    meter.create_observable_counter(
        _REPLICAS + "wait_time",
        [lambda _options: [Observation(sum(gauges.waited for gauges in all_gauges_of_replicas()))]],
        "s",
        "Seconds that they have waited.",
    )


def _observed_requests(_options: CallbackOptions) -> Iterable[Observation]:
    counts = requests_by_reason(all_gauges_of_replicas())
    return [Observation(count, {"server": server, "reason": reason}) for (server, reason), count in counts.items()]


def _observed_of_replicas(
    number_of: Callable[[ServerGauges], float | None], combine: Callable[[list[float]], float]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Return what reads a number of all replicas."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        numbers = by_replica(all_gauges_of_replicas(), number_of, combine)
        return [Observation(number, {"server": server}) for server, number in numbers.items()]

    return observe
