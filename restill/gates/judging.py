"""Measurements + limits → Verdict. Pure: nothing is read, measured or written here.

A gate answers pass, fail or inconclusive from an interval, not from a point. Only a verdict whose every gate passes
promotes; a missing measurement is inconclusive, so no gate can be passed by its absence.
"""

from collections.abc import Callable

from restill.errors import ConfigurationError
from restill.gates import behaviour, quality, speed
from restill.gates.verdict import Answer, GateRow, Verdict
from restill.measurements import Measurements
from restill.settings import GateSettings

GATES: dict[str, Callable[[str, Measurements, GateSettings], GateRow]] = {
    "accuracy_floor": quality.floor("accuracy", lambda limits: limits.min_accuracy),
    "f1_floor": quality.floor("f1", lambda limits: limits.min_f1),
    "roc_auc_floor": quality.floor("roc_auc", lambda limits: limits.min_roc_auc),
    "champion_non_inferiority": quality.champion_non_inferiority,
    "champion_superiority": quality.champion_superiority,
    "teacher_retention": quality.teacher_retention,
    "slices": quality.slices,
    "calibration": quality.calibration,
    "test_split": quality.test_split,
    "golden_pairs": behaviour.golden_pairs,
    "symmetry": behaviour.symmetry,
    "invariances": behaviour.invariances,
    "p99_budget": speed.p99_budget,
    "p50_ratio": speed.ratio("p50"),
    "p99_ratio": speed.ratio("p99"),
    "cold_start": speed.cold_start,
    "memory": speed.memory,
    "artifact_size": speed.artifact_size,
}


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
