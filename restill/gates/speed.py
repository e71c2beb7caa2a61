"""Gates on speed and size of the artifact that would be served."""

from collections.abc import Callable

from restill.gates.verdict import Answer, GateRow, not_applicable, row, unmeasured
from restill.measurements import Interval, Latency, Measurements
from restill.settings import GateSettings


def p99_budget(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether the slowest answers are within the budget."""
    bound = limits.max_p99_latency_ms
    limit = f"upper end ≤ {bound:g} ms"
    if (latency := measurements.latency) is None:
        return unmeasured(gate, limit, "Latency was not measured.")
    interval = latency.challenger.p99_ms
    observed = _measured(interval, "ms")
    if disturbed := _disturbed(latency, limits):
        return row(gate, Answer.INCONCLUSIVE, observed, limit, f"p99 of one pair is not decided: {disturbed}")
    found = _upper_bound(gate, interval, bound, limit, "p99 of one pair", observed)
    if found.answer is Answer.FAIL and latency.champion is not None and latency.champion.p99_ms.upper > bound:
        # What keeps the champion, too, from its budget is more likely the machine than the challenger.
        why = f"the champion does not keep to {bound:g} ms here either, {_measured(latency.champion.p99_ms, 'ms')}."
        return row(gate, Answer.INCONCLUSIVE, observed, limit, f"p99 of one pair is {observed}, but {why}")
    return found


def ratio(name: str) -> Callable[[str, Measurements, GateSettings], GateRow]:
    """Return the gate that holds a quantile of latency to the champion's."""

    def decide(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
        bound = limits.max_latency_ratio
        limit = f"upper end ≤ {bound:.2f}"
        if measurements.champion is None:
            return not_applicable(gate, "There is no champion yet.")
        latency = measurements.latency
        interval: Interval | None = getattr(latency, f"{name}_ratio") if latency else None
        if latency is None or interval is None:
            return unmeasured(gate, limit, "Latency against the champion was not measured.")
        what, observed = f"{name} relative to the champion", _measured(interval, "times")
        control: Interval | None = getattr(latency, f"control_{name}_ratio")
        if why := _disturbed(latency, limits) or _twins_differ(control, bound):
            return row(gate, Answer.INCONCLUSIVE, observed, limit, f"{what} is not decided: {why}")
        found = _upper_bound(gate, interval, bound, limit, what, observed)
        if found.answer is Answer.FAIL and control is not None and interval.lower <= bound * max(1.0, control.upper):
            # Its excess over the limit is no larger than what chance makes of two processes with one artifact.
            why = f"two processes with one artifact may differ as much, {_measured(control, 'times')}."
            return row(gate, Answer.INCONCLUSIVE, observed, limit, f"{what} is {observed}, but {why}")
        return found

    return decide


def _measured(interval: Interval, unit: str) -> str:
    return f"{interval.estimate:.2f} [{interval.lower:.2f}, {interval.upper:.2f}] {unit}"


def _disturbed(latency: Latency, limits: GateSettings) -> str | None:
    """Return why a run decides nothing: the machine changed too much meanwhile."""
    if latency.disturbance <= limits.max_disturbance:
        return None
    by = f" ({latency.disturbed_by})" if latency.disturbed_by else ""
    return f"the machine changed by {latency.disturbance:.0%} meanwhile{by}."


def _twins_differ(control: Interval | None, bound: float) -> str | None:
    """Return why a ratio decides nothing: two processes with one artifact differ by more than the limit allows.

    Also if the twin is the faster one: the champion's process is then slow, and a slower challenger would look fine.
    """
    bound = max(bound, 1 / bound)  # a limit below 1 demands a faster challenger, and says as much about twins
    if control is None or (control.lower <= bound and control.upper >= 1 / bound):
        return None
    return f"two processes with one artifact differ here, {_measured(control, 'times')}."


def _upper_bound(gate: str, interval: Interval, bound: float, limit: str, what: str, observed: str) -> GateRow:
    if interval.upper <= bound:
        return row(gate, Answer.PASS, observed, limit, f"{what} is {observed}, within {bound:g}.")
    if interval.lower > bound:
        return row(gate, Answer.FAIL, observed, limit, f"{what} is {observed}, above {bound:g}.")
    return row(gate, Answer.INCONCLUSIVE, observed, limit, f"{what} is {observed}: not shown to be within {bound:g}.")


def cold_start(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether a new process answers soon enough."""
    limit = f"≤ {limits.max_cold_start_ms:,.0f} ms"
    latency = measurements.latency
    if latency is None or (taken := latency.challenger.cold_start_ms) is None:
        return unmeasured(gate, limit, "The time to a first answer was not measured.")
    observed = f"{taken:,.0f} ms"
    sentence = f"From the start of the process to its first answer it took {observed}"
    if taken <= limits.max_cold_start_ms:
        return row(gate, Answer.PASS, observed, limit, f"{sentence}.")
    if disturbed := _disturbed(latency, limits):  # which makes it longer, never shorter
        return row(gate, Answer.INCONCLUSIVE, observed, limit, f"{sentence}, but {disturbed}")
    return row(gate, Answer.FAIL, observed, limit, f"{sentence}; {limits.max_cold_start_ms:,.0f} ms are allowed.")


def memory(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether the serving process takes little enough memory."""
    limit = f"≤ {limits.max_memory_mb:,.0f} MB"
    latency = measurements.latency
    if latency is None or (peak := latency.challenger.peak_memory_mb) is None:
        return unmeasured(gate, limit, "The memory of the serving process cannot be measured on this system.")
    answer = Answer.PASS if peak <= limits.max_memory_mb else Answer.FAIL
    return row(
        gate,
        answer,
        f"{peak:,.0f} MB",
        limit,
        f"The serving process takes up to {peak:,.0f} MB; {limits.max_memory_mb:,.0f} MB are allowed.",
    )


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
