"""Gates on quality: floors, the champion, the teacher, slices, calibration, and how worn the test split is."""

from collections.abc import Callable

from restill.gates.verdict import Answer, GateRow, not_applicable, points, row, unmeasured
from restill.measurements import Accuracy, Interval, Measurements, SliceComparison
from restill.measurements.statistics import holm
from restill.settings import GateSettings

Gate = Callable[[str, Measurements, GateSettings], GateRow]


def _challenger(measurements: Measurements) -> Accuracy:
    return measurements.accuracy["challenger"]


def floor(
    metric: str, limit_of: Callable[[GateSettings], float]
) -> Callable[[str, Measurements, GateSettings], GateRow]:
    """Return the gate that holds a measure to an absolute floor."""

    def decide(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
        floor = limit_of(limits)
        value: float | None = getattr(_challenger(measurements), metric)
        if value is None:
            why = _challenger(measurements).not_measurable.get(metric, "the test split does not allow it")
            return unmeasured(gate, f"≥ {floor:.3f}", f"{metric} cannot be measured: {why}.")
        answer = Answer.PASS if value >= floor else Answer.FAIL
        relation = "reaches" if answer is Answer.PASS else "is below"
        return row(
            gate,
            answer,
            f"{value:.3f}",
            f"≥ {floor:.3f}",
            f"Test {metric} {value:.3f} {relation} the floor {floor:.3f}.",
        )

    return decide


def champion_non_inferiority(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether the challenger is no worse than the champion, but for the margin."""
    margin = limits.max_accuracy_loss
    limit = f"lower end > {-100 * margin:+.2f}"
    if measurements.champion is None:
        return not_applicable(gate, "There is no champion yet.")
    if (difference := measurements.difference) is None:
        return unmeasured(
            gate,
            limit,
            f"The test split has fewer than {limits.min_clusters} groups of sentences: too few for an interval.",
        )
    observed = points(difference)
    answer = non_inferiority(difference, margin)
    meaning = {
        Answer.PASS: "no worse",
        Answer.FAIL: "worse than allowed",
        Answer.INCONCLUSIVE: f"a loss beyond {100 * margin:.2f} points cannot be ruled out",
    }[answer]
    return row(gate, answer, observed, limit, f"Accuracy against the champion is {observed}: {meaning}.")


def non_inferiority(difference: Interval, margin: float) -> Answer:
    """Answer whether a difference, challenger minus champion, is above -`margin`: yes, no, or not known."""
    if difference.lower > -margin:
        return Answer.PASS
    return Answer.FAIL if difference.upper < -margin else Answer.INCONCLUSIVE


def champion_superiority(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether the challenger is better than the champion, if that is asked for."""
    limit = "lower end > 0"
    if not limits.require_superiority:
        return not_applicable(gate, "Not asked for (gates.require_superiority).")
    if measurements.champion is None:
        return not_applicable(gate, "There is no champion yet.")
    if (difference := measurements.difference) is None:
        return unmeasured(gate, limit, "The difference to the champion was not measured.")
    observed = points(difference)
    if difference.lower > 0:
        return row(gate, Answer.PASS, observed, limit, f"The challenger is better: {observed}.")
    answer = Answer.FAIL if difference.upper < 0 else Answer.INCONCLUSIVE
    return row(gate, answer, observed, limit, f"The challenger is not shown to be better: {observed}.")


def teacher_retention(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether enough of the teacher's accuracy is kept."""
    limit = f"≥ {limits.min_teacher_retention:.3f}"
    teacher = measurements.accuracy.get("teacher")
    student = _challenger(measurements)
    if teacher is None or not teacher.accuracy or student.accuracy is None:
        return unmeasured(gate, limit, "Accuracy of teacher or challenger cannot be measured on this test split.")
    retention = student.accuracy / teacher.accuracy
    answer = Answer.PASS if retention >= limits.min_teacher_retention else Answer.FAIL
    return row(
        gate,
        answer,
        f"{retention:.3f}",
        limit,
        f"Accuracy is {student.accuracy:.3f}, the teacher's {teacher.accuracy:.3f}: ratio {retention:.3f}.",
    )


def slices(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether the challenger is no worse than the champion on any large slice, corrected after Holm."""
    margin = limits.max_slice_loss
    limit = f"lower ends > {-100 * margin:+.2f}, Holm"
    if measurements.champion is None:
        return not_applicable(gate, "There is no champion yet.")
    judged = [part for part in measurements.slices if part.difference is not None and part.p_value is not None]
    missing = [
        part.name
        for part in measurements.slices
        if part not in judged and part.pairs >= limits.min_slice_pairs and part.clusters >= limits.min_clusters
    ]
    if missing:
        return unmeasured(gate, limit, f"The difference on {', '.join(missing)} was not measured.")
    if not judged:
        return not_applicable(gate, f"No slice has {limits.min_slice_pairs} labelled test pairs.")
    levels = holm([part.p_value for part in judged if part.p_value is not None], level=1 - limits.confidence)
    undecided = [part for part, level in zip(judged, levels, strict=True) if not _beats(part, level)]
    worst = min(judged, key=_estimate)
    observed = f"{len(judged)} slices, worst {worst.name} {100 * _estimate(worst):+.2f}"
    failed = [part for part in undecided if part.difference is not None and part.difference.upper < -margin]
    if failed:
        names = ", ".join(part.name for part in failed)
        return row(gate, Answer.FAIL, observed, limit, f"Worse than allowed on {names}.")
    if undecided:
        names = ", ".join(part.name for part in undecided)
        return row(
            gate,
            Answer.INCONCLUSIVE,
            observed,
            limit,
            f"A loss beyond {100 * margin:.1f} points cannot be ruled out on {names}.",
        )
    return row(gate, Answer.PASS, observed, limit, f"No worse on any of {len(judged)} slices.")


def _beats(part: SliceComparison, level: float) -> bool:
    return part.p_value is not None and part.p_value <= level


def _estimate(part: SliceComparison) -> float:
    return part.difference.estimate if part.difference is not None else 0.0


def calibration(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether stated probabilities are what is observed."""
    limit = f"≤ {limits.max_calibration_error:.3f}"
    error = _challenger(measurements).calibration_error
    if error is None:
        return unmeasured(gate, limit, "Calibration cannot be measured on this test split.")
    answer = Answer.PASS if error <= limits.max_calibration_error else Answer.FAIL
    return row(
        gate,
        answer,
        f"{error:.3f}",
        limit,
        f"Stated probabilities are off by {error:.3f} on average; {limits.max_calibration_error:.3f} is allowed.",
    )


def test_split(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether the test split may still decide, after all the challengers it has decided on.

    Beyond the limit, by default only a gain larger than its own standard error counts: the step of the parameter-free
    Ladder (Blum and Hardt 2015, https://arxiv.org/abs/1502.04585, section 3.3), under which challengers that are tuned
    on the answers cannot climb on chance.
    """
    limit = f"{limits.max_test_uses:,} challengers"
    split = measurements.test_split
    if split is None:
        return unmeasured(gate, limit, "How often the test split was used is not known.")
    observed = f"{split.decisions:,} before"
    if split.decisions < limits.max_test_uses:
        return row(gate, Answer.PASS, observed, limit, f"Test split {split.version} decided on {observed} this one.")
    worn = f"Test split {split.version} has decided on {split.decisions:,} challengers"
    if limits.after_max_test_uses == "refuse":
        return row(gate, Answer.FAIL, observed, limit, f"{worn}: take in a batch with fresh test pairs.")
    if measurements.champion is None:
        return not_applicable(gate, f"{worn}; there is no champion yet that one could be better than by chance.")
    difference, error = measurements.difference, measurements.difference_error
    if difference is None or error is None:
        return unmeasured(gate, limit, f"{worn}, and the gain over the champion was not measured.")
    needed = f"a gain of {100 * error:.2f} points, its standard error, is needed"
    gain = f"{100 * difference.estimate:+.2f} points"
    if difference.estimate > error:
        return row(gate, Answer.PASS, f"{observed}, {gain}", limit, f"{worn}; {needed}, and it is {gain}.")
    return row(
        gate,
        Answer.FAIL,
        f"{observed}, {gain}",
        limit,
        f"{worn}; {needed}, and it is {gain}. Or take in a batch with fresh test pairs.",
    )
