"""Measurements + limits → Verdict. Pure: nothing is read, measured or written here.

A gate answers pass, fail or inconclusive from an interval, not from a point. Only a verdict whose every gate passes
promotes; a missing measurement is inconclusive, so no gate can be passed by its absence.
"""

import hashlib
from collections.abc import Callable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue

from restill.errors import ConfigurationError
from restill.manifests import canonical_json
from restill.measurements import Accuracy, Interval, Latency, Measurements, SliceComparison
from restill.measurements.statistics import holm
from restill.settings import GateSettings


class Answer(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105 (an answer, not a password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    OFF = "off"  # disabled in the configuration
    NOT_APPLICABLE = "n/a"  # there is no champion to compare with, or nothing was configured to check


class GateRow(BaseModel):
    """One gate's answer, with everything it was decided from."""

    model_config = ConfigDict(frozen=True)

    gate: str
    answer: Answer
    observed: str
    limit: str
    sentence: str


class Verdict(BaseModel):
    """The decision on one challenger against one champion, and the reasons."""

    model_config = ConfigDict(frozen=True)

    schema_version: str = "1.0"
    passed: bool
    bootstrap: bool  # the first champion: absolute gates only
    reason: str
    rows: tuple[GateRow, ...]
    limits: dict[str, JsonValue]  # as they stood, so that a later Restill with other limits can read this
    measurements: Measurements

    def document(self) -> bytes:
        """Return the verdict as canonical JSON, the form that is stored and digested."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def sha256(self) -> str:
        """Return the hex digest a promotion names as its reason."""
        return hashlib.sha256(self.document()).hexdigest()

    @property
    def retryable(self) -> bool:
        """Return whether every gate that did not pass might still pass when latency is measured again."""
        open_rows = [row for row in self.rows if row.answer in (Answer.FAIL, Answer.INCONCLUSIVE)]
        return bool(open_rows) and all(
            row.answer is Answer.INCONCLUSIVE and row.gate in LATENCY_GATES for row in open_rows
        )


LATENCY_GATES = ("p99_budget", "p50_ratio", "p99_ratio", "cold_start")


def judge(measurements: Measurements, limits: GateSettings) -> Verdict:
    """Decide on a challenger: one row a gate, passed only if every gate that is on and applies passes.

    Raises: ConfigurationError if `limits.disabled` names a gate that does not exist.
    """
    unknown = sorted(set(limits.disabled) - set(GATES))
    if unknown:
        raise ConfigurationError(
            f"gates.disabled names no gate of ours: {', '.join(unknown)}.",
            hint=f"Gates are: {', '.join(GATES)}.",
        )
    rows = tuple(
        GateRow(gate=name, answer=Answer.OFF, observed="", limit="", sentence="Turned off in the configuration.")
        if name in limits.disabled
        else decide(name, measurements, limits)
        for name, decide in GATES.items()
    )
    open_rows = [row for row in rows if row.answer in (Answer.FAIL, Answer.INCONCLUSIVE)]
    judged = [row for row in rows if row.answer is Answer.PASS]
    failed = [row for row in open_rows if row.answer is Answer.FAIL]
    if failed:
        reason = f"Refused{_more(failed)}: {failed[0].sentence}"
    elif open_rows:
        reason = f"Not promoted, undecided{_more(open_rows)}: {open_rows[0].sentence}"
    elif not judged:
        reason = "Not promoted: every gate is off, so nothing speaks for this challenger."
    else:
        reason = f"All {len(judged)} gates passed."
    return Verdict(
        passed=not open_rows and bool(judged),
        bootstrap=measurements.champion is None,
        reason=reason,
        rows=rows,
        limits=limits.model_dump(mode="json"),
        measurements=measurements,
    )


def _more(rows: list[GateRow]) -> str:
    return f" by {len(rows)} gates, first" if len(rows) > 1 else ""


def _row(gate: str, answer: Answer, observed: str, limit: str, sentence: str) -> GateRow:
    return GateRow(gate=gate, answer=answer, observed=observed, limit=limit, sentence=sentence)


def _unmeasured(gate: str, limit: str, why: str) -> GateRow:
    return _row(gate, Answer.INCONCLUSIVE, "not measurable", limit, why)


def _not_applicable(gate: str, why: str) -> GateRow:
    return _row(gate, Answer.NOT_APPLICABLE, "", "", why)


def _challenger(measurements: Measurements) -> Accuracy:
    return measurements.accuracy["challenger"]


def _floor(
    metric: str, limit_of: Callable[[GateSettings], float]
) -> Callable[[str, Measurements, GateSettings], GateRow]:
    def decide(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
        floor = limit_of(limits)
        value: float | None = getattr(_challenger(measurements), metric)
        if value is None:
            return _unmeasured(gate, f"≥ {floor:.3f}", f"{metric} cannot be measured on this test split.")
        answer = Answer.PASS if value >= floor else Answer.FAIL
        relation = "reaches" if answer is Answer.PASS else "is below"
        return _row(
            gate,
            answer,
            f"{value:.3f}",
            f"≥ {floor:.3f}",
            f"Test {metric} {value:.3f} {relation} the floor {floor:.3f}.",
        )

    return decide


def _points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.2f} [{100 * interval.lower:+.2f}, {100 * interval.upper:+.2f}] points"


def _champion_non_inferiority(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    margin = limits.max_accuracy_loss
    limit = f"lower end > {-100 * margin:+.2f}"
    if measurements.champion is None:
        return _not_applicable(gate, "There is no champion yet.")
    if (difference := measurements.difference) is None:
        return _unmeasured(
            gate,
            limit,
            f"The test split has fewer than {limits.min_clusters} groups of sentences: too few for an interval.",
        )
    observed = _points(difference)
    if difference.lower > -margin:
        return _row(gate, Answer.PASS, observed, limit, f"Accuracy against the champion is {observed}: no worse.")
    if difference.upper < -margin:
        return _row(
            gate,
            Answer.FAIL,
            observed,
            limit,
            f"Accuracy against the champion is {observed}: worse than allowed.",
        )
    return _row(
        gate,
        Answer.INCONCLUSIVE,
        observed,
        limit,
        f"Accuracy against the champion is {observed}: a loss beyond {100 * margin:.2f} points cannot be ruled out.",
    )


def _champion_superiority(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    limit = "lower end > 0"
    if not limits.require_superiority:
        return _not_applicable(gate, "Not asked for (gates.require_superiority).")
    if measurements.champion is None:
        return _not_applicable(gate, "There is no champion yet.")
    if (difference := measurements.difference) is None:
        return _unmeasured(gate, limit, "The difference to the champion was not measured.")
    observed = _points(difference)
    if difference.lower > 0:
        return _row(gate, Answer.PASS, observed, limit, f"The challenger is better: {observed}.")
    answer = Answer.FAIL if difference.upper < 0 else Answer.INCONCLUSIVE
    return _row(gate, answer, observed, limit, f"The challenger is not shown to be better: {observed}.")


def _teacher_retention(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    limit = f"≥ {limits.min_teacher_retention:.3f}"
    teacher = measurements.accuracy.get("teacher")
    student = _challenger(measurements)
    if teacher is None or not teacher.accuracy or student.accuracy is None:
        return _unmeasured(gate, limit, "Accuracy of teacher or challenger cannot be measured on this test split.")
    retention = student.accuracy / teacher.accuracy
    answer = Answer.PASS if retention >= limits.min_teacher_retention else Answer.FAIL
    return _row(
        gate,
        answer,
        f"{retention:.3f}",
        limit,
        f"Accuracy is {student.accuracy:.3f}, the teacher's {teacher.accuracy:.3f}: ratio {retention:.3f}.",
    )


def _slices(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    margin = limits.max_slice_loss
    limit = f"lower ends > {-100 * margin:+.2f}, Holm"
    if measurements.champion is None:
        return _not_applicable(gate, "There is no champion yet.")
    judged = [part for part in measurements.slices if part.difference is not None and part.p_value is not None]
    unmeasured = [
        part.name
        for part in measurements.slices
        if part not in judged and part.pairs >= limits.min_slice_pairs and part.clusters >= limits.min_clusters
    ]
    if unmeasured:
        return _unmeasured(gate, limit, f"The difference on {', '.join(unmeasured)} was not measured.")
    if not judged:
        return _not_applicable(gate, f"No slice has {limits.min_slice_pairs} labelled test pairs.")
    levels = holm([part.p_value for part in judged if part.p_value is not None], level=1 - limits.confidence)
    undecided = [part for part, level in zip(judged, levels, strict=True) if not _beats(part, level)]
    worst = min(judged, key=_estimate)
    observed = f"{len(judged)} slices, worst {worst.name} {100 * _estimate(worst):+.2f}"
    failed = [part for part in undecided if part.difference is not None and part.difference.upper < -margin]
    if failed:
        names = ", ".join(part.name for part in failed)
        return _row(gate, Answer.FAIL, observed, limit, f"Worse than allowed on {names}.")
    if undecided:
        names = ", ".join(part.name for part in undecided)
        return _row(
            gate,
            Answer.INCONCLUSIVE,
            observed,
            limit,
            f"A loss beyond {100 * margin:.1f} points cannot be ruled out on {names}.",
        )
    return _row(gate, Answer.PASS, observed, limit, f"No worse on any of {len(judged)} slices.")


def _beats(part: SliceComparison, level: float) -> bool:
    return part.p_value is not None and part.p_value <= level


def _estimate(part: SliceComparison) -> float:
    return part.difference.estimate if part.difference is not None else 0.0


def _calibration(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    limit = f"≤ {limits.max_calibration_error:.3f}"
    error = _challenger(measurements).calibration_error
    if error is None:
        return _unmeasured(gate, limit, "Calibration cannot be measured on this test split.")
    answer = Answer.PASS if error <= limits.max_calibration_error else Answer.FAIL
    return _row(
        gate,
        answer,
        f"{error:.3f}",
        limit,
        f"Stated probabilities are off by {error:.3f} on average; {limits.max_calibration_error:.3f} is allowed.",
    )


def _golden_pairs(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    if limits.golden_pairs is None:
        return _not_applicable(gate, "No golden pairs are configured (gates.golden_pairs).")
    failures = measurements.golden_failures
    if failures is None:
        return _unmeasured(gate, "all right", "The golden pairs were not scored.")
    if failures:
        return _row(gate, Answer.FAIL, f"{len(failures)} wrong", "all right", f"Wrong on golden pair {failures[0]}.")
    return _row(gate, Answer.PASS, "all right", "all right", "Every golden pair is right.")


def _p99_budget(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    bound = limits.max_p99_latency_ms
    limit = f"upper end ≤ {bound:g} ms"
    if (latency := measurements.latency) is None:
        return _unmeasured(gate, limit, "Latency was not measured.")
    interval = latency.challenger.p99_ms
    observed = _measured(interval, "ms")
    if disturbed := _disturbed(latency, limits):
        return _row(gate, Answer.INCONCLUSIVE, observed, limit, f"p99 of one pair is not decided: {disturbed}")
    row = _upper_bound(gate, interval, bound, limit, "p99 of one pair", observed)
    if row.answer is Answer.FAIL and latency.champion is not None and latency.champion.p99_ms.upper > bound:
        # What keeps the champion, too, from its budget is more likely the machine than the challenger.
        why = f"the champion does not keep to {bound:g} ms here either, {_measured(latency.champion.p99_ms, 'ms')}."
        return _row(gate, Answer.INCONCLUSIVE, observed, limit, f"p99 of one pair is {observed}, but {why}")
    return row


def _ratio(name: str) -> Callable[[str, Measurements, GateSettings], GateRow]:
    def decide(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
        bound = limits.max_latency_ratio
        limit = f"upper end ≤ {bound:.2f}"
        if measurements.champion is None:
            return _not_applicable(gate, "There is no champion yet.")
        latency = measurements.latency
        interval: Interval | None = getattr(latency, f"{name}_ratio") if latency else None
        if latency is None or interval is None:
            return _unmeasured(gate, limit, "Latency against the champion was not measured.")
        what, observed = f"{name} relative to the champion", _measured(interval, "times")
        control: Interval | None = getattr(latency, f"control_{name}_ratio")
        if why := _disturbed(latency, limits) or _twins_differ(control, bound):
            return _row(gate, Answer.INCONCLUSIVE, observed, limit, f"{what} is not decided: {why}")
        row = _upper_bound(gate, interval, bound, limit, what, observed)
        if row.answer is Answer.FAIL and control is not None and interval.lower <= bound * max(1.0, control.upper):
            # Its excess over the limit is no larger than what chance makes of two processes with one artifact.
            why = f"two processes with one artifact may differ as much, {_measured(control, 'times')}."
            return _row(gate, Answer.INCONCLUSIVE, observed, limit, f"{what} is {observed}, but {why}")
        return row

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
        return _row(gate, Answer.PASS, observed, limit, f"{what} is {observed}, within {bound:g}.")
    if interval.lower > bound:
        return _row(gate, Answer.FAIL, observed, limit, f"{what} is {observed}, above {bound:g}.")
    return _row(gate, Answer.INCONCLUSIVE, observed, limit, f"{what} is {observed}: not shown to be within {bound:g}.")


def _cold_start(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    limit = f"≤ {limits.max_cold_start_ms:,.0f} ms"
    latency = measurements.latency
    if latency is None or (taken := latency.challenger.cold_start_ms) is None:
        return _unmeasured(gate, limit, "The time to a first answer was not measured.")
    observed = f"{taken:,.0f} ms"
    sentence = f"From the start of the process to its first answer it took {observed}"
    if taken <= limits.max_cold_start_ms:
        return _row(gate, Answer.PASS, observed, limit, f"{sentence}.")
    if disturbed := _disturbed(latency, limits):  # which makes it longer, never shorter
        return _row(gate, Answer.INCONCLUSIVE, observed, limit, f"{sentence}, but {disturbed}")
    return _row(gate, Answer.FAIL, observed, limit, f"{sentence}; {limits.max_cold_start_ms:,.0f} ms are allowed.")


def _memory(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    limit = f"≤ {limits.max_memory_mb:,.0f} MB"
    latency = measurements.latency
    if latency is None or (peak := latency.challenger.peak_memory_mb) is None:
        return _unmeasured(gate, limit, "The memory of the serving process cannot be measured on this system.")
    answer = Answer.PASS if peak <= limits.max_memory_mb else Answer.FAIL
    return _row(
        gate,
        answer,
        f"{peak:,.0f} MB",
        limit,
        f"The serving process takes up to {peak:,.0f} MB; {limits.max_memory_mb:,.0f} MB are allowed.",
    )


def _artifact_size(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    size = measurements.artifact_mb
    answer = Answer.PASS if size <= limits.max_artifact_mb else Answer.FAIL
    return _row(
        gate,
        answer,
        f"{size:.1f} MB",
        f"≤ {limits.max_artifact_mb:g} MB",
        f"The served artifact takes {size:.1f} MB; {limits.max_artifact_mb:g} MB are allowed.",
    )


GATES: dict[str, Callable[[str, Measurements, GateSettings], GateRow]] = {
    "accuracy_floor": _floor("accuracy", lambda limits: limits.min_accuracy),
    "f1_floor": _floor("f1", lambda limits: limits.min_f1),
    "roc_auc_floor": _floor("roc_auc", lambda limits: limits.min_roc_auc),
    "champion_non_inferiority": _champion_non_inferiority,
    "champion_superiority": _champion_superiority,
    "teacher_retention": _teacher_retention,
    "slices": _slices,
    "calibration": _calibration,
    "golden_pairs": _golden_pairs,
    "p99_budget": _p99_budget,
    "p50_ratio": _ratio("p50"),
    "p99_ratio": _ratio("p99"),
    "cold_start": _cold_start,
    "memory": _memory,
    "artifact_size": _artifact_size,
}
