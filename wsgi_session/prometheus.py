"""The recorder's numbers for Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from .observe import PoolGauges, Recorder

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
