"""The sections on quality: measures, slices, scores, and the pairs that the models disagree on most."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from restill.expectations import as_line
from restill.gates.verdict import points
from restill.measurements import Accuracy, SliceComparison
from restill.measurements.accuracy import Predictions
from restill.measurements.rows import Bools, Floats, Rows
from restill.reports import pictures
from restill.reports.blocks import Block, Picture, Table, Words, cut, number
from restill.reports.judged import MODELS, Judged

MOST_PAIRS = 10  # shown of each direction of disagreement
_NAME_CHARACTERS = 60  # of a slice beside a plot
_BINS = 10  # as in the expected calibration error
_MEASURES = {
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "calibration_error": "expected calibration error",
    "spearman": "Spearman's ρ",
}


def measures(judged: Judged) -> list[Block]:
    """Return every measure of every model, and how challenger and champion differ."""
    accuracy = judged.measurements.accuracy
    names = [name for name in MODELS if name in accuracy]
    shown = [name for name in Accuracy.model_fields if name not in ("pairs", "not_measurable")]
    rows = [
        (_MEASURES.get(measure, measure), *(_measure(accuracy[name], measure) for name in names)) for measure in shown
    ]
    rows.append(("pairs", *(f"{accuracy[name].pairs:,}" for name in names)))
    return [Table("Measures of the same frozen pairs", ("measure", *names), rows), *_difference(judged)]


def _measure(found: Accuracy, measure: str) -> str:
    value: float | None = getattr(found, measure)
    if value is not None:
        return f"{value:.3f}"
    return f"not measurable: {found.not_measurable.get(measure, 'the reason was not kept')}"


def _difference(judged: Judged) -> list[Block]:
    measured = judged.measurements
    if measured.champion is None:
        return [Words("There is no champion to compare with.")]
    if measured.difference is None:
        found = "not measured: the test split has too few groups of connected sentences for an interval."
    else:
        found = f"{points(measured.difference)} ({judged.ends})"
        if measured.difference_error is not None:
            found += f", standard error {100 * measured.difference_error:.2f} points"
        found += "."
    blocks: list[Block] = [Words(f"Accuracy, challenger minus champion: {found}")]
    if (test := measured.mcnemar) is not None:
        blocks.append(
            Words(
                f"Of the pairs that only one of the two decides rightly, the challenger has {test.challenger_only:,} "
                f"and the champion {test.champion_only:,}: McNemar's exact two-sided p = {test.p_value:.3g}. It takes "
                "pairs for independent, which those that share a sentence are not, so no gate decides by it."
            )
        )
    return blocks


def slices(judged: Judged) -> list[Block]:
    """Return the challenger against the champion on each slice, as a forest plot and a table."""
    parts = judged.measurements.slices
    if not parts:
        why = "there is no champion to compare with" if judged.measurements.champion is None else "none were measured"
        return [Words(f"No slices: {why}.")]
    margin = judged.limit("max_slice_loss")
    blocks: list[Block] = []
    marks = [mark for part in parts if (mark := _mark(part)) is not None]
    if marks:
        allowed = "" if margin is None else f" A dashed line at −{100 * margin:g} points is the allowed loss."
        blocks.append(
            Picture(
                pictures.forest(marks, margin=None if margin is None else 100 * margin),
                "Challenger minus champion on each slice",
                f"Forest plot of {len(marks)} slices: accuracy, challenger minus champion, with intervals.{allowed} "
                "The table below has the numbers.",
            )
        )
    if margin is not None:
        blocks.append(
            Words(
                f"On no slice may a loss of {100 * margin:g} points be possible; that is tested at Holm's levels. "
                f"Brackets are {judged.ends}, without that correction."
            )
        )
    rows = [
        (
            cut(part.name),
            f"{part.pairs:,}",
            f"{part.clusters:,}",
            "–" if part.challenger is None else f"{part.challenger:.3f}",
            "–" if part.champion is None else f"{part.champion:.3f}",
            points(part.difference).removesuffix(" points") if part.difference is not None else "–",
            part.not_judged or ("judged" if part.difference is not None else "not judged: the reason was not kept"),
        )
        for part in parts
    ]
    columns = ("slice", "pairs", "groups", "challenger", "champion", "difference, points", "judged?")
    return [*blocks, Table("Accuracy on slices", columns, rows, numbers=frozenset({1, 2, 3, 4, 5}))]


def _mark(part: SliceComparison) -> pictures.Mark | None:
    name = cut(as_line(part.name), _NAME_CHARACTERS)
    if part.difference is not None:
        ends = part.difference
        ends = ends.model_copy(update={end: 100 * getattr(ends, end) for end in ("estimate", "lower", "upper")})
        return pictures.Mark(name, part.pairs, ends.estimate, ends)
    if part.challenger is None or part.champion is None:
        return None
    return pictures.Mark(name, part.pairs, 100 * (part.challenger - part.champion), None)


def scores(judged: Judged) -> list[Block]:
    """Return how scores are distributed, how well they rank, and whether stated probabilities are what is observed."""
    labels = judged.evaluation.rows.labels
    found = dict(judged.predictions())
    borders = {name: float(said.cosines[said.decisions].min()) for name, said in found.items() if said.decisions.any()}
    named = " and ".join([", ".join(list(found)[:-1]), list(found)[-1]])
    return [
        Picture(
            pictures.histograms({name: said.cosines for name, said in found.items()}, labels, borders),
            "Scores of the test pairs",
            f"Histograms of the cosines of {named}, by label. The table below has their quantiles.",
        ),
        Table(
            "Cosines by label",
            ("model and label", "pairs", "10 %", "median", "90 %"),
            [row for name, said in found.items() for row in _quantiles(name, said.cosines, labels)],
            numbers=frozenset({1, 2, 3, 4}),
        ),
        *_curves(judged, found, labels),
        *_calibration(judged),
    ]


def _quantiles(name: str, cosines: Floats, labels: Bools) -> list[tuple[str, ...]]:
    rows = []
    for label, members in (("same", labels), ("different", ~labels)):
        ends = (
            [f"{value:.3f}" for value in np.quantile(cosines[members], [0.1, 0.5, 0.9])] if members.any() else ["–"] * 3
        )
        rows.append((f"{name}, {label}", f"{members.sum():,}", *ends))
    return rows


def _curves(judged: Judged, found: Mapping[str, Predictions], labels: Bools) -> list[Block]:
    both = bool(labels.any() and not labels.all())
    accuracy = judged.measurements.accuracy
    bins = {name: _bins(found[name].probabilities, labels) for name in ("challenger", "teacher") if name in found}

    def of(measure: str) -> dict[str, str]:
        return {name: number(getattr(accuracy[name], measure) if name in accuracy else None) for name in found}

    blocks: list[Block] = []
    if not both:
        blocks.append(Words("No ROC curves: all test pairs have one label."))
    return [
        *blocks,
        Picture(
            pictures.quality_curves(
                {name: roc_curve(labels, said.cosines)[:2] for name, said in found.items()} if both else {},
                of("roc_auc"),
                bins,
                of("calibration_error"),
            ),
            "ROC curves and reliability" if both else "Reliability",
            f"{'ROC curves of each model, and a' if both else 'A'} reliability diagram of challenger and teacher: "
            "observed against stated probability, on the diagonal if they agree. The table below has the bins.",
            in_card=False,
        ),
        _reliability(bins),
    ]


def _bins(probabilities: Floats, labels: Bools) -> pictures.Bins:
    index = np.clip((probabilities * _BINS).astype(int), 0, _BINS - 1)
    counts = np.bincount(index, minlength=_BINS)
    held = counts > 0
    stated = np.bincount(index, weights=probabilities, minlength=_BINS)[held] / counts[held]
    observed = np.bincount(index, weights=labels.astype(np.float64), minlength=_BINS)[held] / counts[held]
    return pictures.Bins(np.flatnonzero(held), stated, observed, counts[held])


def _reliability(bins: Mapping[str, pictures.Bins]) -> Table:
    rows = []
    for place in range(_BINS):
        cells: list[str] = []
        for found in bins.values():
            (at,) = np.nonzero(found.places == place)
            values = (found.pairs[at], found.stated[at], found.observed[at])
            forms = (",", ".3f", ".3f")
            cells += [format(value[0], form) if at.size else "–" for value, form in zip(values, forms, strict=True)]
        rows.append((f"from {place / _BINS:.1f} to {(place + 1) / _BINS:.1f}", *cells))
    columns = [f"{name}: {what}" for name in bins for what in ("pairs", "mean stated", "observed share")]
    return Table(
        "Reliability: what was stated and what was observed",
        ("stated probability", *columns),
        rows,
        numbers=frozenset(range(1, 1 + len(columns))),
    )


def _calibration(judged: Judged) -> list[Block]:
    by_export: Any = judged.training.get("calibration")
    found = by_export.get(judged.manifest.artifact_role) if isinstance(by_export, dict) else None
    if not isinstance(found, dict) or not found.get("method"):
        return [Words("Which calibration was chosen is not in the training report.")]
    method = str(found["method"])
    chosen = f"Calibration of the challenger: {method}, chosen on validation"
    compared = [(name, found[name]) for name in ("platt", "isotonic") if isinstance(found.get(name), dict)]
    if not compared:
        return [Words(f"{chosen}. The two methods were not compared: validation has too few pairs, or one label only.")]
    rows = [
        (
            name,
            number(costs.get("log_loss"), ".4f"),
            number(costs.get("calibration_error"), ".4f"),
            "yes" * (name == method),
        )
        for name, costs in compared
    ]
    return [
        Words(f"{chosen} by its log loss."),
        Table(
            "Calibration methods, cross-validated on validation pairs",
            ("method", "log loss, nats a pair", "expected calibration error", "chosen"),
            rows,
            numbers=frozenset({1, 2}),
        ),
    ]


def disagreements(judged: Judged) -> list[Block]:
    """Return the pairs that challenger and champion (without one, teacher) disagree on most, in both directions."""
    rows = judged.evaluation.rows
    if not any(rows.text_a):  # of predictions that were stored: those hold no sentence
        return []
    challenger, other = (judged.evaluation.predictions[name] for name in ("challenger", judged.other))
    blocks: list[Block] = [
        Words(
            f"A pair is decided to be the same from a probability of {challenger.threshold:.3f} (challenger) and "
            f"{other.threshold:.3f} ({judged.other})."
        )
    ]
    sides = (f"Challenger right, {judged.other} wrong", f"{judged.other.capitalize()} right, challenger wrong")
    for title, members in zip(sides, most_disagreed(rows, challenger, other), strict=True):
        if not members:
            blocks.append(Words(f"{title}: no pair."))
            continue
        blocks.append(
            Table(
                f"{title}: {len(members)} with the largest difference of probability",
                ("pair", "text A", "text B", "label", "challenger", judged.other),
                [
                    (
                        f"{place}",
                        cut(rows.text_a[member]),
                        cut(rows.text_b[member]),
                        f"{'same' if rows.labels[member] else 'different'} ({rows.grades[member]:g})",
                        f"{challenger.probabilities[member]:.3f}",
                        f"{other.probabilities[member]:.3f}",
                    )
                    for place, member in enumerate(members, start=1)
                ],
                numbers=frozenset({3, 4, 5}),
                texts=frozenset({1, 2}),
            )
        )
    return blocks


def most_disagreed(
    rows: Rows, challenger: Predictions, other: Predictions, *, most: int = MOST_PAIRS
) -> tuple[list[int], list[int]]:
    """Return which rows the challenger alone decides rightly, and which the other alone.

    Those with the largest difference of probability come first; of equals, the first row.
    """
    right, other_right = challenger.decisions == rows.labels, other.decisions == rows.labels
    order = np.argsort(-np.abs(challenger.probabilities - other.probabilities), kind="stable")
    ours, theirs = (order[(right & ~other_right)[order]], order[(other_right & ~right)[order]])
    return ours[:most].tolist(), theirs[:most].tolist()
