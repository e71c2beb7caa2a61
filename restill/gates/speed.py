"""Gates on speed and size of the artifact that would be served."""

from collections.abc import Callable

from restill.gates.verdict import Answer, GateRow, not_applicable, row, unmeasured
from restill.measurements import Interval, Measurements
from restill.settings import GateSettings


def p99_budget(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether the slowest answers are within the budget."""
    limit = f"upper end ≤ {limits.max_p99_latency_ms:g} ms"
    if (latency := measurements.latency) is None:
        return unmeasured(gate, limit, "Latency was not measured.")
    return _upper_bound(
        gate,
        latency.challenger.p99_ms,
        limits.max_p99_latency_ms,
        limit,
        "p99 of one pair",
        "ms",
        disturbance=latency.disturbance,
        max_disturbance=limits.max_disturbance,
    )


def ratio(name: str) -> Callable[[str, Measurements, GateSettings], GateRow]:
    """Return the gate that holds a quantile of latency to the champion's."""

    def decide(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
        limit = f"upper end ≤ {limits.max_latency_ratio:.2f}"
        if measurements.champion is None:
            return not_applicable(gate, "There is no champion yet.")
        latency = measurements.latency
        interval: Interval | None = getattr(latency, f"{name}_ratio") if latency else None
        if latency is None or interval is None:
            return unmeasured(gate, limit, "Latency against the champion was not measured.")
        return _upper_bound(
            gate,
            interval,
            limits.max_latency_ratio,
            limit,
            f"{name} relative to the champion",
            "times",
            disturbance=latency.disturbance,
            max_disturbance=limits.max_disturbance,
        )

    return decide


def _upper_bound(
    gate: str,
    interval: Interval,
    bound: float,
    limit: str,
    what: str,
    unit: str,
    *,
    disturbance: float,
    max_disturbance: float,
) -> GateRow:
    observed = f"{interval.estimate:.2f} [{interval.lower:.2f}, {interval.upper:.2f}] {unit}"
    if disturbance > max_disturbance:
        return row(
            gate,
            Answer.INCONCLUSIVE,
            observed,
            limit,
            f"The machine was disturbed while {what} was measured ({disturbance:.0%} drift).",
        )
    if interval.upper <= bound:
        return row(gate, Answer.PASS, observed, limit, f"{what} is {observed}, within {bound:g}.")
    if interval.lower > bound:
        return row(gate, Answer.FAIL, observed, limit, f"{what} is {observed}, above {bound:g}.")
    return row(gate, Answer.INCONCLUSIVE, observed, limit, f"{what} is {observed}: not shown to be within {bound:g}.")


def artifact_size(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether what is served is small enough."""
    size = measurements.artifact_mb
    answer = Answer.PASS if size <= limits.max_artifact_mb else Answer.FAIL
    return row(
        gate,
        answer,
        f"{size:.1f} MB",
        f"≤ {limits.max_artifact_mb:g} MB",
        f"The served artifact takes {size:.1f} MB; {limits.max_artifact_mb:g} MB are allowed.",
    )
