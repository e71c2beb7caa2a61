"""Whether a challenger may become champion: one row a gate, and the verdict that they add up to."""

from restill.gates.judging import GATES, judge
from restill.gates.verdict import LATENCY_GATES, Answer, GateRow, Verdict

__all__ = ["GATES", "LATENCY_GATES", "Answer", "GateRow", "Verdict", "judge"]
