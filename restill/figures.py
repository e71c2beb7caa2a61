"""The figures that batch rules look at: of the batch that comes, and of the data set it would join.

All of them are counts that add up over chunks and over batches, so neither has to be in memory to be described.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

POSITIVE_FROM = 0.5  # graded labels count as positive from here


@dataclass(frozen=True)
class PairFigures:
    """Counts over any set of pairs: a batch's accepted ones, or the whole data set's."""

    rows: int = 0
    labelled: int = 0
    positive: int = 0  # of the labelled: label at least POSITIVE_FROM
    characters: int = 0  # of both sentences of all pairs
    languages: Mapping[str, int] = field(default_factory=dict)  # rows by language tag

    @property
    def positive_share(self) -> float | None:
        """Return the positive share of the labelled pairs; None if none is labelled."""
        return self.positive / self.labelled if self.labelled else None

    @property
    def mean_length(self) -> float:
        """Return the characters of an average sentence; 0 if there is none."""
        return self.characters / (2 * self.rows) if self.rows else 0.0

    @property
    def language_shares(self) -> dict[str, float]:
        """Return the share of rows of each language."""
        return {name: count / self.rows for name, count in self.languages.items()}

    def __add__(self, other: "PairFigures") -> "PairFigures":
        """Return the figures of both sets together."""
        languages = dict(self.languages)
        for name, count in other.languages.items():
            languages[name] = languages.get(name, 0) + count
        return PairFigures(
            rows=self.rows + other.rows,
            labelled=self.labelled + other.labelled,
            positive=self.positive + other.positive,
            characters=self.characters + other.characters,
            languages=dict(sorted(languages.items())),
        )


@dataclass(frozen=True)
class BatchFigures:
    """What one incoming file turned out to be, after row rules and split."""

    rows_in: int
    quarantined: Mapping[str, int]  # rows by reason
    accepted: PairFigures
    new_characters: float | None  # share of the characters that the data set has never shown; None: no data set yet
    new_words: float | None  # share of the words (runs of letters; single Han, kana, Hangul) it has never shown
    test_overlap: int  # accepted rows that repeat a sentence of the frozen test split
    repeated: int  # rows that are in the data set already with this label; they are among the quarantined
    swapped: int  # of those, the ones with their sides the other way round
    contradicting: int  # rows that are in the data set with another label; they are among the quarantined
    leaked_sentences: int  # sentences that would be in more than one split, those of the data set counted in
    largest_group: int  # pairs of the largest group of connected sentences, before giants are divided
    giant_pairs: int  # pairs of groups so large that they were decided sentence by sentence
    violations: Mapping[str, int]  # what is checked of the rows to be stored, and how many break it: 0 each, always
