"""Classification quality of challenger, champion and teacher on the same frozen rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from restill.errors import MeasurementFailed
from restill.measurements import Accuracy, Interval, SliceComparison
from restill.measurements.statistics import expected_calibration_error, paired_difference
from restill.snapshots import Snapshot

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

MIN_PAIRS = 20  # fewer labelled pairs measure nothing


@dataclass(frozen=True)
class Rows:
    """The labelled pairs of one split, in a fixed order."""

    text_a: list[str]
    text_b: list[str]
    labels: Bools  # graded labels count as positive from 0.5
    clusters: NDArray[np.str_]  # group of connected sentences
    slices: dict[str, Bools]  # slice name → which rows belong to it

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the rows as pairs of sentences."""
        return list(zip(self.text_a, self.text_b, strict=True))


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


def read_rows(snapshot: Snapshot, split: str, *, new_batches: frozenset[str] = frozenset()) -> Rows:
    """Return the labelled pairs of a split, sliced by language and by new against earlier batches.

    Raises: MeasurementFailed if there are fewer than 20 labelled pairs.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("text_a", "text_b", "label", "group", "language")}
    new: list[bool] = []
    for batch_id in snapshot.batches:
        for batch in snapshot.read(tuple(columns), split=split, batch=batch_id):
            new.extend([batch_id in new_batches] * batch.num_rows)
            for name, values in columns.items():
                values.extend(batch[name].to_pylist())
    kept = [row for row, label in enumerate(columns["label"]) if label is not None]
    if len(kept) < MIN_PAIRS:
        raise MeasurementFailed(
            f"The {split} split of data version {snapshot.short} has {len(kept)} labelled pairs; "
            f"at least {MIN_PAIRS} are needed to measure anything.",
            hint="Ingest more labelled pairs.",
        )

    def column(name: str) -> list[str]:
        return [str(columns[name][row]) for row in kept]

    slices = {f"language={value}": members for value, members in _members(column("language"))}
    if new_batches:
        is_new = np.array(new)[kept]
        slices |= {"batch=new": is_new, "batch=earlier": ~is_new}
    return Rows(
        text_a=column("text_a"),
        text_b=column("text_b"),
        labels=np.array([float(columns["label"][row]) >= 0.5 for row in kept]),
        clusters=np.array(column("group")),
        slices={name: members for name, members in slices.items() if members.any() and not members.all()},
    )


def _members(values: list[str]) -> Iterable[tuple[str, Bools]]:
    array = np.array(values)
    for value in sorted(set(values)):
        yield value, array == value


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


def measure(predictions: Predictions, labels: Bools) -> Accuracy:
    """Return every quality measure; those that need both classes are None where one is missing."""
    decisions = predictions.decisions
    both = bool(labels.any() and not labels.all())
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, decisions, average="binary", zero_division=0.0
    )
    return Accuracy(
        pairs=len(labels),
        accuracy=float(metrics.accuracy_score(labels, decisions)),
        precision=float(precision) if both else None,
        recall=float(recall) if both else None,
        f1=float(f1) if both else None,
        roc_auc=float(metrics.roc_auc_score(labels, predictions.probabilities)) if both else None,
        average_precision=float(metrics.average_precision_score(labels, predictions.probabilities)) if both else None,
        calibration_error=expected_calibration_error(predictions.probabilities, labels),
    )


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
) -> tuple[Interval | None, tuple[SliceComparison, ...]]:
    """Return challenger minus champion in accuracy, on all rows and on every slice.

    With fewer than `min_clusters` groups of connected sentences there is no interval. Slices with fewer than that, or
    than `min_pairs` pairs, are listed without one: they are reported, not judged.
    """
    right = challenger.decisions == rows.labels
    champion_right = champion.decisions == rows.labels

    def difference(members: Bools) -> tuple[Interval, Floats] | None:
        if len(np.unique(rows.clusters[members])) < min_clusters:
            return None  # resampling a handful of groups gives intervals that are far too narrow
        return paired_difference(
            right[members], champion_right[members], rows.clusters[members], confidence=confidence, resamples=resamples
        )

    overall = difference(np.ones(len(rows.labels), np.bool_))
    parts = []
    for name, members in rows.slices.items():
        pairs, clusters = int(members.sum()), len(np.unique(rows.clusters[members]))
        found = difference(members) if pairs >= min_pairs else None
        interval, p_value = None, None
        if found is not None:
            interval, means = found
            # One-sided bootstrap p-value of "the loss is at least the margin"; never exactly 0.
            p_value = float((np.count_nonzero(means <= -margin) + 1) / (resamples + 1))
        parts.append(SliceComparison(name=name, pairs=pairs, clusters=clusters, difference=interval, p_value=p_value))
    return overall[0] if overall else None, tuple(parts)
