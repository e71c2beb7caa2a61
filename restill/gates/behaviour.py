"""Gates on behaviour: golden pairs, swapped sides, and changes that keep the meaning."""

from restill.gates.verdict import Answer, GateRow, not_applicable, row, unmeasured
from restill.measurements import Measurements
from restill.settings import GateSettings


def golden_pairs(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether every named pair is answered as it must be."""
    if limits.golden_pairs is None:
        return not_applicable(gate, "No golden pairs are configured (gates.golden_pairs).")
    failures = measurements.golden_failures
    if failures is None:
        return unmeasured(gate, "all right", "The golden pairs were not scored.")
    if failures:
        return row(gate, Answer.FAIL, f"{len(failures)} wrong", "all right", f"Wrong on golden pair {failures[0]}.")
    return row(gate, Answer.PASS, "all right", "all right", "Every golden pair is right.")


def symmetry(gate: str, measurements: Measurements, _: GateSettings) -> GateRow:
    """Decide whether swapping the two sides of a pair changes nothing, to the last bit."""
    limit = "exactly 0"
    found = measurements.swap_difference
    if found is None:
        return unmeasured(gate, limit, "Swapped pairs were not scored.")
    if found == 0:
        return row(gate, Answer.PASS, "0", limit, "Swapping the sides of a pair changes nothing.")
    return row(
        gate, Answer.FAIL, f"{found:.1e}", limit, f"Swapping the sides of a pair changes its similarity by {found:.1e}."
    )


def invariances(gate: str, measurements: Measurements, limits: GateSettings) -> GateRow:
    """Decide whether changes that keep the meaning change few decisions."""
    limit = f"≤ {limits.max_changed_decisions:.1%} of decisions"
    found = measurements.invariances
    if not found:
        return unmeasured(gate, limit, "Changed pairs were not scored.")
    judged = [check for check in found if check.pairs >= limits.min_changed_pairs]
    if not judged:
        return not_applicable(gate, f"No change applies to {limits.min_changed_pairs} test pairs.")
    worst = max(judged, key=lambda check: check.changed_decisions)
    answer = Answer.PASS if worst.changed_decisions <= limits.max_changed_decisions else Answer.FAIL
    return row(
        gate,
        answer,
        ", ".join(f"{check.name} {check.changed_decisions:.1%}" for check in judged),
        limit,
        f"Changing {worst.name} changes {worst.changed_decisions:.1%} of {worst.pairs:,} decisions, "
        f"a probability by {worst.largest_change:.2f} at most.",
    )
