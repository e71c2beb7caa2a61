"""Classification quality of challenger, champion and teacher on the same frozen rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from restill.measurements import Accuracy, Interval, McNemar, SliceComparison
from restill.measurements.rows import Bools, Floats, Rows
from restill.measurements.statistics import (
    bootstrap_p_value,
    effective_clusters,
    expected_calibration_error,
    mcnemar,
    paired_difference,
)


@dataclass(frozen=True)
class Predictions:
    """What one model says of the rows."""

    cosines: Floats
    probabilities: Floats
    threshold: float  # on the probability, chosen on validation

    @property
    def decisions(self) -> Bools:
        """Return which pairs the model calls the same."""
        decided: Bools = self.probabilities >= self.threshold
        return decided


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows."""

    difference: Interval | None  # challenger minus champion, accuracy
    error: float | None  # standard error of the difference
    mcnemar: McNemar
    slices: tuple[SliceComparison, ...]


def best_threshold(probabilities: Floats, labels: Bools) -> float:
    """Return the probability from which calling a pair the same is right most often; midway between neighbours.

    Ties go to the threshold nearest to 0.5. With one class only there is nothing to choose: 0.5.
    """
    if labels.all() or not labels.any():
        return 0.5
    order = np.argsort(probabilities, kind="stable")
    values, positives = probabilities[order], labels[order].astype(int)
    # Right decisions when exactly the first k rows in order are called different.
    right = (
        np.concatenate([[0], np.cumsum(1 - positives)]) + positives.sum() - np.concatenate([[0], np.cumsum(positives)])
    )
    edges = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0]])
    distinct = np.concatenate([[True], values[1:] > values[:-1], [True]])
    best = right[distinct].max()
    candidates = edges[distinct & (right == best)]
    return float(candidates[np.argmin(np.abs(candidates - 0.5))])


def measure(predictions: Predictions, rows: Rows, *, reference: Floats | None = None) -> Accuracy:
    """Return every quality measure; those that cannot be taken are None, with the reason beside them.

    Args:
        predictions: what the model says of the rows.
        rows: the pairs and their labels.
        reference: ``[pairs]``, the teacher's cosines, which Spearman's ρ is of where labels are not graded.
    """
    from sklearn import metrics  # late, as SciPy below: a second to import, and most runs measure nothing

    labels, decisions = rows.labels, predictions.decisions
    absent = "a pair with label 1" if not labels.any() else "a pair with label 0" if labels.all() else None
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, decisions, average="binary", zero_division=0.0
    )
    # Ranks are of the cosines: two of them never have one calibrated probability only because it was rounded.
    of_two_classes: dict[str, Callable[[], Any]] = {
        "precision": lambda: precision,
        "recall": lambda: recall,
        "f1": lambda: f1,
        "roc_auc": lambda: metrics.roc_auc_score(labels, predictions.cosines),
        "average_precision": lambda: metrics.average_precision_score(labels, predictions.cosines),
    }
    reasons = dict.fromkeys(of_two_classes, f"there is not {absent}") if absent else {}
    targets = rows.grades if rows.graded else reference
    spearman, why = _spearman(predictions.cosines, targets)
    if why is not None:
        reasons["spearman"] = why
    return Accuracy(
        pairs=len(labels),
        accuracy=float(metrics.accuracy_score(labels, decisions)),
        **{name: None if absent else float(value()) for name, value in of_two_classes.items()},
        calibration_error=expected_calibration_error(predictions.probabilities, labels),
        spearman=spearman,
        not_measurable=reasons,
    )


def _spearman(cosines: Floats, targets: Floats | None) -> tuple[float | None, str | None]:
    if targets is None:
        return None, "labels are not graded, and there is no teacher's score"
    if np.ptp(cosines) == 0 or np.ptp(targets) == 0:
        return None, "all values are the same"
    from scipy.stats import spearmanr

    return float(spearmanr(cosines, targets).statistic), None


def compare(
    challenger: Predictions,
    champion: Predictions,
    rows: Rows,
    *,
    confidence: float,
    resamples: int,
    margin: float,
    min_pairs: int,
    min_clusters: int,
) -> Comparison:
    """Return challenger minus champion in accuracy, on all rows and on every slice.

    With fewer than `min_clusters` groups of connected sentences there is no interval. Slices with fewer than that, or
    than `min_pairs` pairs, are listed without one: they are reported, not judged.
    """
    right = challenger.decisions == rows.labels
    champion_right = champion.decisions == rows.labels

    def difference(members: Bools) -> tuple[Interval, Floats]:
        return paired_difference(
            right[members], champion_right[members], rows.clusters[members], confidence=confidence, resamples=resamples
        )

    def clusters(members: Bools) -> int:
        return len(np.unique(rows.clusters[members]))

    everywhere = np.ones(len(rows.labels), np.bool_)
    # Resampling a handful of groups gives intervals that are far too narrow.
    overall = difference(everywhere) if clusters(everywhere) >= min_clusters else None
    parts = []
    for name, members in rows.slices.items():
        pairs, groups = int(members.sum()), clusters(members)
        interval, p_value, not_judged = None, None, None
        if pairs == 0:
            not_judged = f"not measurable: none of its {rows.unlabelled.get(name, 0):,} pairs has a label"
        elif pairs < min_pairs:
            not_judged = f"fewer than {min_pairs:,} pairs"
        elif groups < min_clusters:
            not_judged = f"fewer than {min_clusters} groups of sentences"
        else:
            interval, means = difference(members)
            p_value = bootstrap_p_value(means, -margin, effective_clusters(rows.clusters[members]))
        parts.append(
            SliceComparison(
                name=name,
                pairs=pairs,
                clusters=groups,
                difference=interval,
                p_value=p_value,
                challenger=float(right[members].mean()) if pairs else None,
                champion=float(champion_right[members].mean()) if pairs else None,
                not_judged=not_judged,
            )
        )
    return Comparison(
        difference=overall[0] if overall else None,
        error=float(overall[1].std()) if overall else None,
        mcnemar=mcnemar(right, champion_right),
        slices=tuple(parts),
    )
