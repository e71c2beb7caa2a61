"""The frozen test pairs that challenger, champion and teacher answer, and the slices they are looked at in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restill.errors import MeasurementFailed
from restill.snapshots import Snapshot

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

MIN_PAIRS = 20  # fewer labelled pairs measure nothing
MAX_SOURCES = 20  # more different sources are no slices but notes
OVERLAP_EDGES = (1 / 3, 2 / 3)
_COLUMNS = ("pair_id", "text_a", "text_b", "label", "source", "language", "group")


@dataclass(frozen=True)
class Rows:
    """The labelled pairs of one split, in a fixed order."""

    pair_ids: list[str]
    text_a: list[str]
    text_b: list[str]
    grades: Floats  # labels as they came, in [0, 1]
    clusters: NDArray[np.str_]  # group of connected sentences
    slices: dict[str, Bools]  # slice name → which rows belong to it; none holds all rows
    unlabelled: dict[str, int]  # slice name → its pairs without a label, which nothing can be measured on

    @property
    def labels(self) -> Bools:
        """Return which pairs are the same; graded labels count as positive from 0.5."""
        positive: Bools = self.grades >= 0.5
        return positive

    @property
    def graded(self) -> bool:
        """Return whether a label is neither 0 nor 1."""
        return bool(((self.grades > 0) & (self.grades < 1)).any())

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the rows as pairs of sentences."""
        return list(zip(self.text_a, self.text_b, strict=True))


def read_rows(snapshot: Snapshot, split: str, *, new_batches: frozenset[str] = frozenset()) -> Rows:
    """Return the labelled pairs of a split with their slices.

    Slices: language, source, batches the champion has not seen against earlier ones, thirds by length of both
    sentences, thirds of lexical overlap, and, where both occur, graded against binary labels.

    Args:
        snapshot: the data version.
        split: `test`, or another split for an analysis.
        new_batches: those that the champion was not trained on.
    Raises: MeasurementFailed if there are fewer than 20 labelled pairs.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    new: list[bool] = []
    for batch_id in snapshot.batches:
        for batch in snapshot.read(_COLUMNS, split=split, batch=batch_id):
            new.extend([batch_id in new_batches] * batch.num_rows)
            for name, values in columns.items():
                values.extend(batch[name].to_pylist())
    labelled = np.array([label is not None for label in columns["label"]], np.bool_)
    if int(labelled.sum()) < MIN_PAIRS:
        raise MeasurementFailed(
            f"The {split} split of data version {snapshot.short} has {int(labelled.sum())} labelled pairs; "
            f"at least {MIN_PAIRS} are needed to measure anything.",
            hint="Ingest more labelled pairs.",
        )
    slices = dict(_slices(columns, np.array(new, np.bool_) if new_batches else None, labelled))
    kept = np.flatnonzero(labelled)
    return Rows(
        pair_ids=[columns["pair_id"][row] for row in kept],
        text_a=[columns["text_a"][row] for row in kept],
        text_b=[columns["text_b"][row] for row in kept],
        grades=np.array([columns["label"][row] for row in kept], np.float64),
        clusters=np.array([columns["group"][row] for row in kept]),
        slices={name: members[labelled] for name, members in slices.items() if not members[labelled].all()},
        unlabelled={name: count for name, members in slices.items() if (count := int((members & ~labelled).sum()))},
    )


def _slices(columns: dict[str, list[Any]], new: Bools | None, labelled: Bools) -> Iterable[tuple[str, Bools]]:
    """Yield the slices over all pairs of the split, labelled or not."""
    for column in ("language", "source"):
        values = np.array([value or "none" for value in columns[column]])
        found = sorted(set(values.tolist()))
        if len(found) <= MAX_SOURCES:
            yield from ((f"{column}={value}", values == value) for value in found)
    if new is not None:
        yield from (("batch=new", new), ("batch=earlier", ~new))
    pairs = list(zip(columns["text_a"], columns["text_b"], strict=True))
    yield from _thirds("length", np.array([len(a) + len(b) for a, b in pairs]), labelled)
    overlaps = np.array([lexical_overlap(a, b) for a, b in pairs])
    low, high = OVERLAP_EDGES
    yield "overlap=low", overlaps < low
    yield "overlap=middle", (overlaps >= low) & (overlaps < high)
    yield "overlap=high", overlaps >= high
    graded = np.array([label is not None and 0 < label < 1 for label in columns["label"]], np.bool_)
    if graded.any():
        yield from (("label=graded", graded), ("label=binary", ~graded & labelled))


def _thirds(name: str, values: NDArray[np.int64], labelled: Bools) -> Iterable[tuple[str, Bools]]:
    """Yield three slices of about equal size, named after the lengths in them."""
    low, high = (int(edge) for edge in np.quantile(values[labelled], [1 / 3, 2 / 3]))
    yield f"{name}=short (to {low} characters)", values <= low
    yield f"{name}=middle", (values > low) & (values <= high)
    yield f"{name}=long (over {high} characters)", values > high


def lexical_overlap(text_a: str, text_b: str) -> float:
    """Return the share of character pairs that two sentences have in common (Jaccard index), in [0, 1].

    Character pairs, not words: Chinese has no spaces.
    """
    a, b = (
        {text[at : at + 2] for at in range(max(len(text) - 1, 1))} for text in (text_a.casefold(), text_b.casefold())
    )
    return len(a & b) / len(a | b)
