"""Everything that one report is about."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from restill.evaluation import Evaluation
from restill.gates import Verdict
from restill.manifests import Manifest
from restill.measurements import Measurements
from restill.measurements.accuracy import Predictions

MODELS = ("challenger", "champion", "teacher")


@dataclass(frozen=True)
class Judged:
    """A challenger, what it was held against, and what came of it."""

    verdict: Verdict
    evaluation: Evaluation
    manifest: Manifest
    training: dict[str, Any]  # the challenger's training report; one of an earlier Restill lacks some of it
    champion: Manifest | None  # None: there is none, or its manifest is not at hand
    at: datetime

    @property
    def measurements(self) -> Measurements:
        """Return what the verdict was decided from."""
        return self.verdict.measurements

    @property
    def other(self) -> str:
        """Return whom the challenger is compared with pair by pair: the champion, or without one the teacher."""
        return "champion" if "champion" in self.evaluation.predictions else "teacher"

    def predictions(self) -> Iterator[tuple[str, Predictions]]:
        """Yield what each model said of the test pairs, the challenger first."""
        yield from ((name, found) for name in MODELS if (found := self.evaluation.predictions.get(name)) is not None)

    def limit(self, name: str) -> float | None:
        """Return a numeric limit as it stood; None if the verdict, of another Restill, does not have it."""
        value = self.verdict.limits.get(name)
        return float(value) if isinstance(value, int | float) else None

    @property
    def ends(self) -> str:
        """Return what the brackets of an interval are, in words."""
        confidence = self.limit("confidence")
        return "one-sided ends" if confidence is None else f"one-sided {100 * confidence:g} % ends"
