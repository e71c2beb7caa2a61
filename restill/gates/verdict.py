"""What a decision is: a row for each gate, and the verdict that they add up to."""

import hashlib
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, JsonValue

from restill.manifests import Document, canonical_json
from restill.measurements import Interval, Measurements

LATENCY_GATES = ("p99_budget", "p50_ratio", "p99_ratio", "cold_start")  # what another measurement might decide


class Answer(StrEnum):
    """What a gate says."""

    PASS = "pass"  # noqa: S105 (an answer, not a password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    OFF = "off"  # disabled in the configuration
    NOT_APPLICABLE = "n/a"  # there is no champion to compare with, or nothing was configured to check


class GateRow(BaseModel):
    """One gate's answer, with everything it was decided from."""

    model_config = ConfigDict(frozen=True, extra="allow")

    gate: str
    answer: Answer
    observed: str
    limit: str
    sentence: str


class Verdict(Document):
    """The decision on one challenger against one champion, and the reasons."""

    passed: bool
    bootstrap: bool  # the first champion: absolute gates only
    reason: str
    rows: tuple[GateRow, ...]
    limits: dict[str, JsonValue]  # as they stood, so that a later Restill with other limits can read this
    measurements: Measurements

    def document(self) -> bytes:
        """Return the verdict as canonical JSON, the form that is stored and digested.

        Of one that was stored these are its bytes, also if another Restill wrote it, with fewer or more fields: its
        digest is what a promotion names.
        """
        given = self.model_dump(mode="json", exclude_unset=True)
        return canonical_json({"schema_version": self.schema_version, **given})

    @property
    def sha256(self) -> str:
        """Return the hex digest a promotion names as its reason."""
        return hashlib.sha256(self.document()).hexdigest()

    @property
    def decisive_first(self) -> list[GateRow]:
        """Return the rows for a table that is read from its top: what failed or is open, then what passed."""
        order = (Answer.FAIL, Answer.INCONCLUSIVE, Answer.PASS, Answer.OFF, Answer.NOT_APPLICABLE)
        return sorted(self.rows, key=lambda found: order.index(found.answer))

    @property
    def retryable(self) -> bool:
        """Return whether every gate that did not pass might still pass when latency is measured again."""
        open_rows = [found for found in self.rows if found.answer in (Answer.FAIL, Answer.INCONCLUSIVE)]
        return bool(open_rows) and all(
            found.answer is Answer.INCONCLUSIVE and found.gate in LATENCY_GATES for found in open_rows
        )


def row(gate: str, answer: Answer, observed: str, limit: str, sentence: str) -> GateRow:
    """Return a gate's row."""
    return GateRow(gate=gate, answer=answer, observed=observed, limit=limit, sentence=sentence)


def unmeasured(gate: str, limit: str, why: str) -> GateRow:
    """Return the row of a gate whose measurement is missing: inconclusive, which is not pass."""
    return row(gate, Answer.INCONCLUSIVE, "not measurable", limit, why)


def not_applicable(gate: str, why: str) -> GateRow:
    """Return the row of a gate that has nothing to decide."""
    return row(gate, Answer.NOT_APPLICABLE, "", "", why)


def points(interval: Interval) -> str:
    """Return an interval of accuracies in points."""
    return f"{100 * interval.estimate:+.2f} [{100 * interval.lower:+.2f}, {100 * interval.upper:+.2f}] points"
