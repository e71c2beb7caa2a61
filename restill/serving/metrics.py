"""What Prometheus is told: requests as they were answered, and the state of the champion when it asks."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from restill.serving.live import LiveChampion

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one service."""

    def __init__(self, live: LiveChampion) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ChampionState(live))
        self._requests = Counter(
            "restill_requests", "Requests, by path and status.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "restill_request_seconds", "Time of a request.", ["path"], buckets=SECONDS, registry=self._registry
        )
        self._sizes = Histogram(
            "restill_batch_size", "Pairs or texts of a request.", ["path"], buckets=SIZES, registry=self._registry
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, path: str, size: int) -> None:
        """Count what a request asked for."""
        self._sizes.labels(path).observe(size)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)


class _ChampionState(Collector):
    def __init__(self, live: LiveChampion) -> None:
        self._live = live

    def collect(self) -> Iterable[Metric]:
        """Read the state: nobody has to report it, so it cannot be out of date."""
        live, champion = self._live, self._live.current
        yield CounterMetricFamily("restill_reloads", "Versions that took over.", value=live.reloads)
        yield CounterMetricFamily(
            "restill_failed_reloads", "Looks at the alias, or loads, that failed.", value=live.failed_reloads
        )
        yield GaugeMetricFamily(
            "restill_champion_sequence", "Promotion number of what is served.", value=champion.entry.sequence
        )
        yield GaugeMetricFamily(
            "restill_champion_promoted_timestamp_seconds",
            "When what is served was promoted.",
            value=champion.entry.at.timestamp(),
        )
        yield GaugeMetricFamily(
            "restill_champion_loaded_timestamp_seconds",
            "When what is served was loaded.",
            value=champion.loaded_at.timestamp(),
        )
        yield GaugeMetricFamily(
            "restill_champion_checked_timestamp_seconds",
            "When the alias last named what is served.",
            value=live.checked_at.timestamp(),
        )
        info = GaugeMetricFamily("restill_champion_info", "The version that is served; always 1.", labels=["version"])
        info.add_metric([champion.version], 1)
        yield info
