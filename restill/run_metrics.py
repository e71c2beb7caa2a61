"""What Prometheus is told of runs: derived from their records, so nothing has to be reported and nothing is lost.

Counters count every record that is kept, so they go on where they were after a restart of whoever reads them.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from restill import runs
from restill.errors import RestillError
from restill.registry import Registry
from restill.runs import Ended, Past

_SUCCESS = ("promoted", "refused", "unchanged", "waiting", "done")  # it did its job, whatever came of it


def _sums() -> defaultdict[str, float]:
    return defaultdict(float)


@dataclass
class Totals:
    """All runs that have ended, added up."""

    runs: Counter[tuple[str, str]] = field(default_factory=Counter)  # by flow and result
    seconds: defaultdict[str, float] = field(default_factory=_sums)  # by flow
    device_seconds: defaultdict[str, float] = field(default_factory=_sums)
    steps: Counter[str] = field(default_factory=Counter)  # how often, by step
    step_seconds: defaultdict[str, float] = field(default_factory=_sums)
    rows: Counter[str] = field(default_factory=Counter)  # by what became of them
    gates: Counter[tuple[str, str]] = field(default_factory=Counter)  # by gate and answer
    scored: int = 0
    last: dict[tuple[str, str], datetime] = field(default_factory=dict)  # end, by flow and result

    def add(self, run: Ended) -> None:
        """Take in a run."""
        self.runs[run.flow, run.result] += 1
        self.seconds[run.flow] += run.seconds
        self.device_seconds[run.flow] += run.device_seconds
        for name, seconds in run.steps.items():
            self.steps[name] += 1
            self.step_seconds[name] += seconds
        self.rows.update(
            {"accepted": run.rows.accepted, "quarantined": run.rows.quarantined, "refused": run.rows.refused}
        )
        self.gates.update((gate, answer) for judged in run.judged for gate, answer in judged.gates.items())
        self.scored += run.scored
        place = (run.flow, run.result)
        self.last[place] = max(self.last.get(place, run.ended_at), run.ended_at)


class RunMetrics(Collector):
    """Reads new records whenever it is asked."""

    def __init__(self, registry: Registry, alias: str) -> None:
        """Name the model whose runs are meant, and the alias whose age is."""
        self._registry, self._alias = registry, alias
        self._totals = Totals()
        self._counted: set[str] = set()
        self._newest: dict[str, Past] = {}  # by flow
        self._refusals: list[tuple[datetime, str]] = []  # beginning and result of each retrain that decided
        self._lock = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: registering must not ask the object store."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return every metric; without the store only that it did not answer."""
        with self._lock:
            up = GaugeMetricFamily("restill_metrics_up", "1: the object store answered and what follows is current.")
            try:
                self._look()
                found = [*self._of_runs(), *self._of_the_newest(), *self._of_the_champion()]
            except RestillError:
                up.add_metric([], 0)
                return [up]
            up.add_metric([], 1)
            return [up, *found]

    def _look(self) -> None:
        store, model = self._registry.store, self._registry.model
        folders = runs.keys(store, model)
        new = {folder: ended for folder, ended in folders.items() if folder not in self._counted}
        for run in runs.read(store, new):
            begun = run.started
            newest = self._newest.get(begun.flow)
            if newest is None or begun.started_at >= newest.started.started_at:
                self._newest[begun.flow] = run
            if run.ended is None:
                continue
            self._counted.add(run.key)
            self._totals.add(run.ended)
            if begun.flow == "retrain" and run.ended.result in ("promoted", "refused"):
                self._refusals.append((begun.started_at, run.ended.result))

    def _of_runs(self) -> Iterable[Metric]:
        totals = self._totals
        yield _counter("restill_runs", "Runs that ended, by flow and result.", ("flow", "result"), totals.runs)
        count = Counter[str]()
        for (flow, _), number in totals.runs.items():
            count[flow] += number
        yield _summary("restill_run_seconds", "Wall time of runs.", "flow", count, totals.seconds)
        yield _summary("restill_step_seconds", "Wall time of steps.", "step", totals.steps, totals.step_seconds)
        yield _counter(
            "restill_device_seconds", "Wall time times devices, of scoring and training.", ("flow",),
            {(flow,): seconds for flow, seconds in totals.device_seconds.items()},
        )  # fmt: skip
        yield _counter(
            "restill_rows", "Rows of incoming files, by what became of them.", ("outcome",),
            {(outcome,): number for outcome, number in totals.rows.items()},
        )  # fmt: skip
        yield CounterMetricFamily("restill_scored", "Sentences or pairs that the teacher scored.", value=totals.scored)
        yield _counter("restill_gate_answers", "What gates said.", ("gate", "answer"), totals.gates)

    def _of_the_newest(self) -> Iterable[Metric]:
        ended_at = GaugeMetricFamily(
            "restill_last_run_timestamp_seconds", "When a run last ended so.", labels=["flow", "result"]
        )
        success = GaugeMetricFamily(
            "restill_last_success_timestamp_seconds", "When a run last did its job, refusing included.", labels=["flow"]
        )
        latest: dict[str, datetime] = {}
        for (flow, result), at in self._totals.last.items():
            ended_at.add_metric([flow, result], at.timestamp())
            if result in _SUCCESS:
                latest[flow] = max(latest.get(flow, at), at)
        for flow, at in latest.items():
            success.add_metric([flow], at.timestamp())
        started = GaugeMetricFamily(
            "restill_newest_run_started_timestamp_seconds", "When the newest run began.", labels=["flow"]
        )
        open_ = GaugeMetricFamily(
            "restill_newest_run_open", "1: the newest run has no end yet: it is under way, or was killed.",
            labels=["flow"],
        )  # fmt: skip
        failed = GaugeMetricFamily("restill_newest_run_failed", "1: the newest run failed.", labels=["flow"])
        for flow, run in self._newest.items():
            started.add_metric([flow], run.started.started_at.timestamp())
            open_.add_metric([flow], run.ended is None)
            failed.add_metric([flow], run.ended is not None and run.ended.result == "failed")
        yield from (ended_at, success, started, open_, failed)
        row = 0
        for _, result in sorted(self._refusals):
            row = row + 1 if result == "refused" else 0
        yield GaugeMetricFamily(
            "restill_refusals_in_a_row", "Retrains that refused a file or a challenger since the last that promoted.",
            value=row,
        )  # fmt: skip

    def _of_the_champion(self) -> Iterable[Metric]:
        entry = self._registry.champion(self._alias)
        if entry is not None:
            yield GaugeMetricFamily(
                "restill_registry_champion_promoted_timestamp_seconds",
                "When the version that the registry names was promoted.",
                value=entry.at.timestamp(),
            )
            yield GaugeMetricFamily(
                "restill_registry_champion_sequence", "Promotion number that the registry names.", value=entry.sequence
            )


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: "dict[tuple[str, ...], float] | Counter[tuple[str, str]]"
) -> Metric:
    metric = CounterMetricFamily(name, text, labels=labels)
    for place, value in sorted(values.items()):
        metric.add_metric(list(place), value)
    return metric


def _summary(name: str, text: str, label: str, count: Mapping[str, int], total: Mapping[str, float]) -> Metric:
    metric = SummaryMetricFamily(name, text, labels=[label])
    for place in sorted(count):
        metric.add_metric([place], count[place], total[place])
    return metric
