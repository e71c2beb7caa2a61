"""What the stored data set looks like: the figures a new batch is compared with, from one pass over its partitions."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from restill.snapshots import Snapshot
from restill.splits import Membership, sentence_key

CODE_POINTS = 0x110000
POSITIVE_FROM = 0.5  # graded labels count as positive from here

Characters = NDArray[np.bool_]  # [CODE_POINTS], which characters occur


@dataclass(frozen=True)
class DataSetProfile:
    """The stored data set in a few figures."""

    rows: int
    labelled: int
    positive_share: float | None  # of the labelled rows; None if there are none
    mean_length: float  # characters of a sentence
    languages: dict[str, float]  # share of rows
    characters: Characters
    test_sentences: frozenset[str]  # keys of the sentences in the test split, as far as they were asked for


def profile(snapshot: Snapshot, keys: Iterable[str]) -> tuple[DataSetProfile, dict[str, Membership]]:
    """Read the data set once; return its figures, and where the sentences with these keys belong in it.

    Memory is bounded by the number of `keys`, not by the size of the data set.
    """
    wanted = frozenset(keys)
    known: dict[str, Membership] = {}
    rows = labelled = positive = length = 0
    languages: dict[str, int] = {}
    characters = np.zeros(CODE_POINTS, np.bool_)
    for batch in snapshot.read(("text_a", "text_b", "label", "language", "group", "split")):
        frame = pl.DataFrame(pl.from_arrow(batch))
        rows += frame.height
        labelled += frame["label"].count()
        positive += int((frame["label"] >= POSITIVE_FROM).sum())
        length += total_length(frame)
        for language, count in frame["language"].value_counts().iter_rows():
            languages[language] = languages.get(language, 0) + count
        for side in ("text_a", "text_b"):
            characters[code_points(frame[side])] = True
            for text, group, split in frame.select(side, "group", "split").iter_rows():
                if (key := sentence_key(text)) in wanted:
                    known.setdefault(key, Membership(split, group))
    found = DataSetProfile(
        rows=rows,
        labelled=labelled,
        positive_share=positive / labelled if labelled else None,
        mean_length=length / (2 * rows) if rows else 0.0,
        languages={language: count / rows for language, count in sorted(languages.items())},
        characters=characters,
        test_sentences=frozenset(key for key, member in known.items() if member.split == "test"),
    )
    return found, known


def total_length(pairs: pl.DataFrame) -> int:
    """Return the number of characters of all sentences."""
    return int(pairs.select(pl.col("text_a", "text_b").str.len_chars().cast(pl.Int64).sum()).sum_horizontal()[0])


def code_points(texts: pl.Series) -> NDArray[np.uint32]:
    """Return the characters of all texts in a row, as code points."""
    return np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
