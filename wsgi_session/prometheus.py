"""The recorder's numbers for Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .replicas._gauges import by_replica, requests_by_reason
from .replicas._replicas import all_gauges

if TYPE_CHECKING:
    from .observe import PoolGauges, Recorder
    from .replicas import ReplicasGauges, ServerGauges

__all__ = ["RecorderCollector"]


class RecorderCollector(Collector):
    """Collects what a recorder and the pools have come to, when somebody asks.  Lives as long as the recorder.

    ::

        REGISTRY.register(RecorderCollector(recorder))

    Each process has its own numbers. Those of pools begin with ``db_client_connection_``, as OpenTelemetry's semantic
    conventions have it: ``count``, by ``state``, ``idle_max``, ``pending_requests``, ``timeouts_total``,
    ``uses_total``, ``use_seconds_total`` and ``wait_seconds_total``; each by ``pool_name``, the label of the engine.
    Those of requests are ``wsgi_session_requests_total``, by ``outcome``, ``wsgi_session_retries_total``, and
    ``wsgi_session_requests_active``.

    Where there are `Replicas`, ``wsgi_session_replicas_requests_total`` has ``server`` and ``reason``, which is ``"it
    has come so far"`` for a replica; ``polls_total``, ``failures_total``, ``up`` and ``behind_seconds`` are by
    ``server``, and ``waits_total`` and ``wait_seconds_total`` are of all reads.
    """

    def __init__(self, recorder: Recorder) -> None:
        """Collect from *recorder*, and from every pool that is watched in this process."""
        self._recorder = recorder

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        gauges = self._recorder.gauges()
        requests = CounterMetricFamily("wsgi_session_requests", "Requests that are over.", labels=["outcome"])
        for outcome, count in gauges.outcomes.items():
            requests.add_metric([outcome], count)
        yield requests
        yield CounterMetricFamily("wsgi_session_retries", "Attempts after the first.", gauges.retries)
        yield GaugeMetricFamily("wsgi_session_requests_active", "Requests that are not over.", gauges.live)
        yield _states(gauges.pools)
        for name, text, number_of in _GAUGES:
            yield _filled(GaugeMetricFamily(_POOL + name, text, labels=["pool_name"]), gauges.pools, number_of)
        for name, text, number_of in _COUNTERS:
            yield _filled(CounterMetricFamily(_POOL + name, text, labels=["pool_name"]), gauges.pools, number_of)
        yield from _of_replicas(all_gauges())


_POOL = "db_client_connection_"
_NumberOf = Callable[["PoolGauges"], float]

_GAUGES: tuple[tuple[str, str, _NumberOf], ...] = (
    ("idle_max", "Connections that a pool keeps.", lambda pool: pool.size or 0),
    ("pending_requests", "Who waits for a connection.", lambda pool: pool.waiting),
)
_COUNTERS: tuple[tuple[str, str, _NumberOf], ...] = (
    ("timeouts", "Who has waited in vain.", lambda pool: pool.timeouts),
    ("uses", "Connections that were taken.", lambda pool: pool.checkouts),
    ("use_seconds", "Seconds that they were in use.", lambda pool: pool.held),
    ("wait_seconds", "Seconds of waiting for them.", lambda pool: pool.waited),
)


def _states(pools: tuple[PoolGauges, ...]) -> Metric:
    """Count the connections of *pools*, by what they do."""
    family = GaugeMetricFamily(_POOL + "count", "Connections that there are.", labels=["pool_name", "state"])
    for engine, used in _sums(pools, lambda pool: pool.out):
        family.add_metric([engine, "used"], used)
    for engine, idle in _sums(pools, lambda pool: pool.open - pool.out):
        family.add_metric([engine, "idle"], idle)
    return family


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, pools: tuple[PoolGauges, ...], number_of: _NumberOf
) -> Metric:
    """Put a number of each pool into *family*."""
    for engine, number in _sums(pools, number_of):
        family.add_metric([engine], number)
    return family


def _sums(pools: tuple[PoolGauges, ...], number_of: _NumberOf) -> Iterator[tuple[str, float]]:
    """Yield a number for each label, for several engines may have the same one."""
    sums: defaultdict[str, float] = defaultdict(float)
    for pool in pools:
        sums[pool.engine] += number_of(pool)
    yield from sums.items()


_REPLICAS = "wsgi_session_replicas_"
_NumberOfReplica = Callable[["ServerGauges"], "float | None"]

_OF_REPLICAS: tuple[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, _NumberOfReplica], ...] = (
    (CounterMetricFamily, "polls", "Questions for positions.", lambda replica: replica.polls),
    (CounterMetricFamily, "failures", "Times that it was put aside.", lambda replica: replica.failures),
    (GaugeMetricFamily, "up", "Whether it is asked.", lambda replica: replica.is_up),
    (GaugeMetricFamily, "behind_seconds", "How late it was when it was last asked.", lambda replica: replica.behind),
)


def _of_replicas(found: list[ReplicasGauges]) -> Iterator[Metric]:
    """Yield what went where, if there are replicas."""
    if not found:
        return
    requests = CounterMetricFamily(_REPLICAS + "requests", "Requests sent to a server.", labels=["server", "reason"])
    for labels, count in requests_by_reason(found).items():
        requests.add_metric(labels, count)
    yield requests
    for kind, name, text, number_of in _OF_REPLICAS:
        family = kind(_REPLICAS + name, text, labels=["server"])
        for server, number in by_replica(found, number_of, sum if kind is CounterMetricFamily else max).items():
            family.add_metric([server], number)
        yield family
    waits, waited = sum(gauges.waits for gauges in found), sum(gauges.waited for gauges in found)
    yield CounterMetricFamily(_REPLICAS + "waits", "Reads that have waited for a replica.", waits)
    yield CounterMetricFamily(_REPLICAS + "wait_seconds", "Seconds that they have waited.", waited)
