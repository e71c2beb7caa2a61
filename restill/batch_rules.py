"""Batch rules: what a batch as a whole must satisfy. The figures of two sets of pairs in, one rule per measure out.

Pure: nothing is read and nothing is decided here. `expectations.validate` holds the measures to their limits.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from restill.figures import BatchFigures, PairFigures
from restill.pairs import CHINESE, NO_FAULT, UNKNOWN
from restill.settings import BatchRuleSettings, RuleName, Severity

SHOWN_LANGUAGES = 6
TINY = 1e-9
DIGITS = 12  # 0.7 + 0.1 is 0.7999…: rounded, so that the limit itself is allowed
MIN_LABELLED = 20  # fewer labels say nothing about a share

WELL_FORMED: Final = "rows-well-formed"
AnyRule = RuleName | Literal["rows-well-formed"]

_BY_SPLIT = ("joins_two_splits", "frozen_test")  # reasons that a pair gets after groups were made

_LIMITS = "data.batch_rules."
_NO_DATA_SET = "there is no data set yet to compare with"
_NO_ROW = "no row was accepted"
_NO_LABEL = "the batch has no labels"


@dataclass(frozen=True)
class Kind:
    """What is always true of a rule, whatever the batch."""

    name: AnyRule  # as written in configuration under data.batch_rules.severity
    severity: Severity  # where the configuration says nothing
    setting: str  # where the limit is set; empty: nowhere
    note: str  # what it is for
    bounded_below: bool = False  # has a least value too; all have a most
    as_share: bool = True


KINDS = (
    Kind(
        WELL_FORMED,
        "refuse",
        "",
        "Rows about to be stored keep the stored schema; a net under the row rules, so it cannot be switched off.",
        as_share=False,
    ),
    Kind(
        "row-count",
        "refuse",
        f"{_LIMITS}min_rows and max_rows",
        "A batch that is far too small or too large is a broken export.",
        bounded_below=True,
        as_share=False,
    ),
    Kind(
        "quarantine-share",
        "refuse",
        f"{_LIMITS}max_quarantine_share",
        "Many faulty rows mean a faulty file. Rows kept out through no fault of their own do not count.",
    ),
    Kind(
        "positive-share",
        "refuse",
        f"{_LIMITS}max_label_shift",
        "Labels that shift suddenly were made by other rules, or their meaning was swapped.",
        bounded_below=True,
    ),
    Kind(
        "mean-length-ratio",
        "refuse",
        f"{_LIMITS}max_length_ratio",
        "Sentences far shorter or longer than before are cut texts, or whole documents.",
        bounded_below=True,
        as_share=False,
    ),
    Kind("language-shift", "refuse", f"{_LIMITS}max_language_shift", "Other languages than before."),
    Kind("new-characters", "refuse", f"{_LIMITS}max_new_characters", "Another script, or a wrong encoding."),
    Kind("new-words", "warn", f"{_LIMITS}max_new_words", "Another domain or language, or damaged text."),
    Kind(
        "test-overlap",
        "refuse",
        f"{_LIMITS}max_test_overlap",
        "The batch was made from the frozen test split, or the test split has leaked.",
    ),
    Kind(
        "repeated-pairs",
        "warn",
        f"{_LIMITS}max_repeated_share",
        "An old export sent again: its pairs are in the data set, with the same label or one.",
    ),
    Kind(
        "contradicting-pairs",
        "refuse",
        f"{_LIMITS}max_contradicting_share",
        "Labels that deny what the data set says: the meaning was swapped, or the annotators disagree.",
    ),
    Kind(
        "leaked-sentences",
        "refuse",
        "",
        "A sentence in two splits makes the test flatter the model.",
        as_share=False,
    ),
    Kind(
        "giant-groups",
        "warn",
        f"{_LIMITS}max_giant_share",
        "So many pairs hang together over shared sentences that each sentence is split by itself, and pairs are lost.",
    ),
)


@dataclass(frozen=True)
class Rule:
    """One measure and its limits, or why it cannot be taken."""

    name: AnyRule
    value: float | None  # None: not applicable, and `sentence` says why
    least: float | None
    most: float | None
    severity: Severity
    sentence: str  # what was seen and what is allowed, without the full stop
    as_share: bool
    setting: str  # where the limit is set
    note: str  # what the rule is for

    @property
    def observed(self) -> str:
        """Return the measure, for a person."""
        return "–" if self.value is None else self._show(self.value)

    @property
    def allowed(self) -> str:
        """Return the limits, for a person."""
        if self.most is None:
            return "–" if self.least is None else f"at least {self._show(self.least)}"
        if self.least is None:
            return f"at most {self._show(self.most)}" if self.most else "none"
        return f"{self._show(self.least)} to {self._show(self.most)}"

    def _show(self, value: float) -> str:
        if self.as_share:
            return _percent(value)
        return f"{value:,.4g}" if not math.isfinite(value) or value % 1 else f"{value:,.0f}"


def rules(
    batch: BatchFigures, data_set: PairFigures | None, limits: BatchRuleSettings, *, leak_severity: Severity = "refuse"
) -> tuple[Rule, ...]:
    """Return every rule, once, in the order of `KINDS`, with what was measured.

    Args:
        batch: figures of the batch, after row rules and split.
        data_set: figures of the stored data set; None if there is none yet, and rules that compare do not apply.
        limits: limits and severities.
        leak_severity: of leaked sentences where `limits` says nothing; `warn` when the split comes with the file.
    """
    measures = _Measures(batch, data_set, limits)
    made = {
        WELL_FORMED: measures.well_formed(),
        "row-count": measures.row_count(),
        "quarantine-share": measures.quarantine_share(),
        "positive-share": measures.positive_share(),
        "mean-length-ratio": measures.mean_length_ratio(),
        "language-shift": measures.language_shift(),
        "new-characters": measures.unseen(batch.new_characters, limits.max_new_characters, "characters"),
        "new-words": measures.unseen(batch.new_words, limits.max_new_words, "words"),
        "test-overlap": measures.test_overlap(),
        "repeated-pairs": measures.repeated_pairs(),
        "contradicting-pairs": measures.contradicting_pairs(),
        "leaked-sentences": measures.leaked_sentences(),
        "giant-groups": measures.giant_groups(),
    }
    return tuple(
        Rule(
            kind.name,
            _rounded(made[kind.name].value),
            _rounded(made[kind.name].least),
            _rounded(made[kind.name].most),
            _severity(kind, batch, limits, leak_severity),
            made[kind.name].sentence,
            kind.as_share,
            kind.setting,
            kind.note,
        )
        for kind in KINDS
    )


def language_shift(batch: Mapping[str, float], data_set: Mapping[str, float]) -> float:
    """Return the total-variation distance of two language distributions, 0 to 1.

    Where either side has rows that do not tell their language, only Chinese (which is recognised by its characters)
    is held against everything else: an absent language column is no drift.
    """
    if UNKNOWN in batch or UNKNOWN in data_set:
        return abs(_chinese(batch) - _chinese(data_set))
    return 0.5 * sum(abs(batch.get(name, 0.0) - data_set.get(name, 0.0)) for name in batch.keys() | data_set.keys())


def _severity(kind: Kind, batch: BatchFigures, limits: BatchRuleSettings, leak_severity: Severity) -> Severity:
    if kind.name == WELL_FORMED or (kind.name == "row-count" and not batch.accepted.rows):
        return "refuse"  # whatever is configured: there would be nothing to store, or nothing fit to be stored
    return limits.severity.get(kind.name, leak_severity if kind.name == "leaked-sentences" else kind.severity)


@dataclass(frozen=True)
class _Measure:
    sentence: str
    value: float | None = None
    most: float | None = None
    least: float | None = None


@dataclass(frozen=True)
class _Measures:
    """Each rule's measure, limits and sentence."""

    batch: BatchFigures
    data_set: PairFigures | None
    limits: BatchRuleSettings

    def well_formed(self) -> _Measure:
        if not self.batch.accepted.rows:
            return _not_applicable(_NO_ROW)
        broken = {name: count for name, count in self.batch.violations.items() if count}
        listed = ", ".join(f"{name} ({count:,})" for name, count in broken.items())
        return _Measure(
            f"the row rules let through what must not be stored, a fault of Restill and not of the file: {listed}"
            if broken
            else f"{len(self.batch.violations)} checks on the rows to be stored found nothing",
            sum(broken.values()),
            0,
        )

    def row_count(self) -> _Measure:
        rows, least, most = self.batch.accepted.rows, self.limits.min_rows, self.limits.max_rows
        return _Measure(f"{_rows(rows)} accepted; a batch has {least:,} to {most:,}", rows, most, least)

    def quarantine_share(self) -> _Measure:
        kept_out = self.batch.quarantined
        faulty = sum(count for reason, count in kept_out.items() if reason not in NO_FAULT)
        others = sum(kept_out.values()) - faulty
        beside = f", besides {others:,} for no fault of their own" if others else ""
        what = f"row rules kept out {faulty:,} of {self.batch.rows_in:,} rows"
        return self._of_rows_in(faulty, self.limits.max_quarantine_share, what, beside)

    def positive_share(self) -> _Measure:
        if self.batch.accepted.rows and not self.batch.accepted.labelled:
            return _not_applicable(_NO_LABEL)
        here, there = self.batch.accepted, self._compared()
        if isinstance(there, str):
            return _not_applicable(there)
        shares = here.positive_share, there.positive_share
        if min(here.labelled, there.labelled) < MIN_LABELLED or shares[0] is None or shares[1] is None:
            return _not_applicable(
                f"the batch has {here.labelled:,} labels and the data set {there.labelled:,}; "
                f"{MIN_LABELLED} are needed on both sides"
            )
        shift = self.limits.max_label_shift
        return _Measure(
            f"{_percent(shares[0])} of the labels are positive, in the data set {_percent(shares[1])}; "
            f"{shift * 100:g} points apart are allowed",
            shares[0],
            min(1.0, shares[1] + shift),
            max(0.0, shares[1] - shift),
        )

    def mean_length_ratio(self) -> _Measure:
        there = self._compared()
        if isinstance(there, str):
            return _not_applicable(there)
        mean, reference, factor = self.batch.accepted.mean_length, there.mean_length, self.limits.max_length_ratio
        return _Measure(
            f"sentences have {mean:.1f} characters on average, the data set's {reference:.1f}; "
            f"a factor of up to {factor:g} is allowed",
            mean / reference if reference else math.nan,
            factor,
            1 / factor,
        )

    def language_shift(self) -> _Measure:
        there = self._compared()
        if isinstance(there, str):
            return _not_applicable(there)
        languages, reference = self.batch.accepted.language_shares, there.language_shares
        shift, most = language_shift(languages, reference), self.limits.max_language_shift
        return _Measure(
            f"languages ({_shares(languages)}) differ from the data set's ({_shares(reference)}) by "
            f"{_percent(shift)}; at most {_percent(most)} is allowed",
            shift,
            most,
        )

    def unseen(self, share: float | None, most: float, what: str) -> _Measure:
        there = self._compared()
        if isinstance(there, str):
            return _not_applicable(there)
        # The data set is there, so a share that is not is a fault of whoever measured, and never passes.
        seen = math.nan if share is None else share
        return _Measure(
            f"{_percent(seen)} of the {what} never occur in the data set; at most {_percent(most)} is allowed",
            seen,
            most,
        )

    def test_overlap(self) -> _Measure:
        there = self._compared()
        if isinstance(there, str):
            return _not_applicable(there)
        count, rows, most = self.batch.test_overlap, self.batch.accepted.rows, self.limits.max_test_overlap
        return _Measure(
            f"{count:,} of {rows:,} accepted rows ({_percent(count / rows)}) repeat a sentence of the frozen test "
            f"split; at most {_percent(most)} is allowed",
            count / rows,
            most,
        )

    def repeated_pairs(self) -> _Measure:
        count, swapped = self.batch.repeated, self.batch.swapped
        sides = f", {swapped:,} of them with their sides swapped" if swapped else ""
        what = f"{count:,} of {self.batch.rows_in:,} rows are in the data set already"
        return self._stored(count, self.limits.max_repeated_share, what, sides)

    def contradicting_pairs(self) -> _Measure:
        count = self.batch.contradicting
        if not count and self.batch.accepted.rows and not self.batch.accepted.labelled:
            return _not_applicable(_NO_LABEL)
        what = f"{count:,} of {self.batch.rows_in:,} rows are in the data set with another label"
        return self._stored(count, self.limits.max_contradicting_share, what)

    def leaked_sentences(self) -> _Measure:
        if not self.batch.accepted.rows:
            return _not_applicable(_NO_ROW)
        count = self.batch.leaked_sentences
        would_be = "1 sentence would be" if count == 1 else f"{count:,} sentences would be"
        return _Measure(f"{would_be} in more than one split; none is allowed", count, 0)

    def giant_groups(self) -> _Measure:
        # Pairs that the split keeps out have left the accepted ones, but belonged to the groups.
        pairs = self.batch.accepted.rows + sum(self.batch.quarantined.get(reason, 0) for reason in _BY_SPLIT)
        if not pairs:
            return _not_applicable(_NO_ROW)
        share, most = self.batch.giant_pairs / pairs, self.limits.max_giant_share
        return _Measure(
            f"{self.batch.giant_pairs:,} of {pairs:,} pairs ({_percent(share)}) are in groups of connected sentences "
            f"so large that they were divided, the largest has {self.batch.largest_group:,}; "
            f"at most {_percent(most)} is allowed",
            share,
            most,
        )

    def _compared(self) -> PairFigures | str:
        """Return the data set to compare the accepted rows with, or why they cannot be."""
        if not self.batch.accepted.rows:
            return _NO_ROW
        return self.data_set if self.data_set is not None and self.data_set.rows else _NO_DATA_SET

    def _stored(self, count: int, most: float, what: str, more: str = "") -> _Measure:
        if self.data_set is None or not self.data_set.rows:
            return _not_applicable(_NO_DATA_SET)
        return self._of_rows_in(count, most, what, more)

    def _of_rows_in(self, count: int, most: float, what: str, more: str) -> _Measure:
        if not self.batch.rows_in:
            return _not_applicable("the file has no rows")
        share = count / self.batch.rows_in
        return _Measure(f"{what} ({_percent(share)}){more}; at most {_percent(most)} is allowed", share, most)


def _not_applicable(why: str) -> _Measure:
    return _Measure(why)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)


def _rows(count: int) -> str:
    return "1 row was" if count == 1 else f"{count:,} rows were"


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"  # four digits: what is just over a limit does not look like the limit


def _chinese(languages: Mapping[str, float]) -> float:
    return sum(share for name, share in languages.items() if name.split("-")[0] == CHINESE)


def _shares(languages: Mapping[str, float]) -> str:
    # Tags come from the file and go into web pages, so only what looks like a tag is shown.
    tags = {name: share for name, share in languages.items() if re.fullmatch(r"[a-z0-9-]{1,16}", name)}
    common = sorted(tags.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_LANGUAGES]
    rest = 1 - sum(share for _, share in common)
    return ", ".join(f"{name} {share:.0%}" for name, share in common) + (f", others {rest:.0%}" if rest > TINY else "")
