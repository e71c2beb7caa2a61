"""The judgement on one file: what its rows are, where they belong, and whether the batch may enter the data set.

The steps are read and row rules (`staging`) → what the data set has (`history`) → split (`splits`) → write aside
(`partitions`) → batch rules (`batch_rules`, `expectations`) → report. Nothing here changes the data set.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from restill import batch_rules, expectations, ingest_reports, partitions, readers, splits
from restill.errors import DataRejected
from restill.examples import ROWS, Examples
from restill.figures import BatchFigures
from restill.files import write_whole
from restill.forgotten import NOTHING_FORGOTTEN, Forgotten
from restill.history import Entry, History
from restill.keys import Keys
from restill.ledger import BatchOutcome, Decided, ledger_key
from restill.pairs import CODES, NAMES, SPLITS
from restill.partitions import Distributed
from restill.settings import DataSettings, Settings, Severity
from restill.snapshots import Snapshot
from restill.splits import TEST, UNDECIDED, Known, Splits
from restill.staging import Staged, as_it_came, content_digest, stage

REPORTS = "reports/ingest"
OUTCOME = "outcome.json"  # in a report: what was decided
LARGE_BYTES = 16 * 1024**2  # reading such a file takes longer than loading the libraries that come after it

Progress = Callable[[int, int, str], None]  # rows done, rows in all (0: not known yet), what is done


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Judged:
    """What was decided on a file."""

    outcome: BatchOutcome
    folder: Path  # of the report on this machine
    entry: Entry | None = None  # of an accepted batch, for the history


def judge(
    path: Path,
    key: str,
    settings: Settings,
    snapshot: Snapshot | None,
    past: History,
    work: Path,
    *,
    gone: Forgotten = NOTHING_FORGOTTEN,
    released_from: str | None = None,
    progress: Progress = silent,
) -> Judged:
    """Judge one file; if it is accepted, its partition lies whole in `work`.

    Args:
        path: the file.
        key: its ledger key.
        settings: rules and limits.
        snapshot: the data set it would join; None: there is none yet.
        past: what that has.
        work: a folder for the staged file, the partition and the quarantine; is there.
        gone: what was removed on request.
        released_from: the report whose quarantine the rows come from.
        progress: called as rows are read and written.
    """
    data = _lenient(settings.data) if released_from else settings.data
    seen = f"{key}:{snapshot.version if snapshot else ''}"  # the same judgement gives the same report
    folder = settings.state_dir / REPORTS / hashlib.sha256(seen.encode()).hexdigest()[:16]
    shutil.rmtree(folder, ignore_errors=True)
    facts: dict[str, Any] = {
        "file_name": readers.shown_name(path),
        "released_from": released_from,
        "at": datetime.now(UTC),
    }
    try:
        staged, detected = _read(path, data, work, gone, progress)
        if ledger_key(path, settings.data) != key:
            facts["final"] = False
            raise DataRejected(f"{facts['file_name']} changed while it was read.", hint="Run again when it is whole.")
    except DataRejected as error:
        return _refused(error, folder, facts)
    facts["detected"] = detected
    compared = _compare(staged, past)
    if compared.repeated and not staged.accepted.any() and set(staged.reasons) <= _HARMLESS:
        return Judged(_outcome("unchanged", staged, None, facts), folder)

    split = _split(staged, past, data)
    batch_id = content_digest(staged, split.splits)[:16] if staged.accepted.any() else None
    staged.rest = staged.rest[:0].copy()  # it was for the digest; with ten million rows it is 80 MB
    written = partitions.distribute(
        staged,
        split.splits,
        split.groups,
        work,
        max_characters=None if "too_long" in data.row_rules.off else data.row_rules.max_characters,
        unseen=None if past.figures is None else past.unseen_characters(),
        progress=lambda done, total: progress(done, total, "writing"),
    )
    figures, leaked = _measure(staged, compared, split, written, past)
    if len(leaked) and not data.honour_split:
        raise AssertionError(f"{len(leaked)} sentences would be in more than one split: splitting is broken")
    leak_severity: Severity = "warn" if data.honour_split else "refuse"
    validation = expectations.validate(
        batch_rules.rules(figures, past.figures, data.batch_rules, leak_severity=leak_severity),
        docs_dir=folder / ingest_reports.DATA_DOCS,
        batch_name=f"{facts['file_name']}, batch {batch_id or '–'}",
    )
    decided: Decided = "accepted" if validation.passed else "refused"
    outcome = _outcome(decided, staged, batch_id, facts, validation.reasons, validation.warnings)
    ingest_reports.write_summary(
        folder,
        outcome.sentence,
        validation=validation,
        detected=(detected,),
        splits=split.counts(staged),
        rows_in=outcome.rows_in,
        accepted=outcome.accepted,
        reasons=outcome.quarantined,
        quarantine_examples=_first_kept_out(staged),
        examples=Examples(
            staged, figures, past, data.batch_rules, split.known, compared.labels, split.giant, leaked
        ).of,
        leaked_sentences=len(leaked),
        notes=_notes(figures, split),
        report_id=folder.name,
    )
    shutil.move(work / partitions.QUARANTINE, folder / partitions.QUARANTINE)
    write_whole(folder / OUTCOME, outcome.model_dump_json(indent=1).encode())
    if decided == "refused" or batch_id is None:
        return Judged(outcome, folder)
    return Judged(outcome, folder, _completed(path, batch_id, staged, split, written, work))


def _completed(path: Path, batch_id: str, staged: Staged, split: "_Split", written: Distributed, work: Path) -> Entry:
    """Write the facts that make the partition in `work` whole, and return what the history gets of it."""
    kept = staged.accepted
    digest = partitions.write_facts(
        work,
        batch_id,
        written.figures,
        split.counts(staged),
        partitions.digest_of_test(staged.pair[kept], staged.labels[kept], split.splits[kept]),
        quarantined=staged.reasons,
        source_sha256=partitions.file_digest(path),
        suite_version=expectations.SUITE_VERSION,
    )
    return Entry(
        batch_id,
        digest,
        written.figures,
        written.vocabulary,
        **{name: getattr(staged, name)[kept] for name in ("key_a", "key_b", "pair", "labels", "swapped")},
        splits=split.splits[kept],
        groups=split.groups[kept],
        known=split.known,
    )


def _read(path: Path, data: DataSettings, work: Path, gone: Forgotten, progress: Progress) -> tuple[Staged, str]:
    """Return the rows of a file, judged by themselves and in their file, and how the file was read, in words.

    Raises: DataRejected.
    """
    with readers.open_file(path, data.columns, data.format) as reading:
        if path.stat().st_size > LARGE_BYTES:
            expectations.load_in_background()
        rows = _counted(reading, progress)
        staged = stage(rows, work, data.row_rules, honour_split=data.honour_split, gone=gone)
        return staged, reading.detected.sentence


def _refused(error: DataRejected, folder: Path, facts: dict[str, Any]) -> Judged:
    reason = f"{error} {error.hint}".rstrip()
    outcome = BatchOutcome(
        outcome="refused", batch_id=None, rows_in=0, accepted=0, quarantined={}, reasons=(reason,), **facts
    )
    ingest_reports.write_refusal(folder, outcome.sentence, outcome.reasons)
    return Judged(outcome, folder)


def _outcome(
    decided: Decided,
    staged: Staged,
    batch_id: str | None,
    facts: dict[str, Any],
    reasons: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> BatchOutcome:
    return BatchOutcome(
        outcome=decided,
        batch_id=batch_id,
        rows_in=len(staged),
        accepted=int(staged.accepted.sum()),
        quarantined=staged.reasons,
        reasons=reasons,
        warnings=warnings,
        **facts,
    )


def _measure(
    staged: Staged, compared: "_Compared", split: "_Split", written: Distributed, past: History
) -> tuple[BatchFigures, Keys]:
    """Return the figures that the batch rules look at, and the sentences that would be in several splits."""
    kept = staged.accepted
    leaked = splits.leaked_keys(staged.key_a[kept], staged.key_b[kept], split.splits[kept], split.known)
    tests = split.known.keys[split.known.splits == TEST]
    overlap = np.isin(staged.key_a, tests) | np.isin(staged.key_b, tests)
    is_first = past.figures is None
    figures = BatchFigures(
        rows_in=len(staged),
        quarantined=staged.reasons,
        accepted=written.figures,
        new_characters=None if is_first else written.vocabulary.new_characters,
        new_words=None if is_first else past.new_words(written.vocabulary),
        test_overlap=int((overlap & kept).sum()),
        repeated=compared.repeated,
        swapped=compared.swapped,
        contradicting=compared.contradicting,
        leaked_sentences=len(leaked),
        largest_group=split.largest_group,
        giant_pairs=int(split.giant.sum()),
        violations=written.violations,
    )
    return figures, leaked


@dataclass(frozen=True)
class _Compared:
    """Which rows the data set has already."""

    repeated: int
    swapped: int  # of those
    contradicting: int
    labels: NDArray[np.float32]  # [rows], of the stored pair; NaN: none


def _compare(staged: Staged, past: History) -> _Compared:
    """Keep out what was forgotten on request and what the data set has: a stored pair stays as it is."""
    staged.keep_out(staged.forgotten, "forgotten")  # whatever else they are: what they say is not kept
    labels = np.full(len(staged), np.nan, np.float32)
    rows = np.flatnonzero(staged.accepted)
    if past.figures is None or not len(rows):
        return _Compared(0, 0, 0, labels)
    stored = past.stored(staged.pair[rows])
    labels[rows] = stored.labels
    mine = staged.labels[rows]
    # A pair that was stored without a label and comes with one is new: it says more.
    says_more = np.isnan(stored.labels) & ~np.isnan(mine)
    differs = ~np.isnan(stored.labels) & ~np.isnan(mine) & (stored.labels != mine)
    repeated = stored.found & ~says_more & ~differs
    staged.keep_out(rows[repeated], "already_stored")
    staged.keep_out(rows[stored.found & differs], "contradicts_stored")
    swapped = repeated & (stored.swapped != staged.swapped[rows])
    return _Compared(int(repeated.sum()), int(swapped.sum()), int((stored.found & differs).sum()), labels)


@dataclass(frozen=True)
class _Split:
    """Where the rows go; arrays over all rows of the file, whose rows without a place got their reason."""

    splits: Splits
    groups: Keys
    known: Known
    largest_group: int
    giant: NDArray[np.bool_]

    def counts(self, staged: Staged) -> dict[str, int]:
        """Return the accepted rows of each split."""
        counts = np.bincount(self.splits[staged.accepted], minlength=len(SPLITS))
        return {name: int(count) for name, count in zip(SPLITS, counts, strict=True)}


def _split(staged: Staged, past: History, data: DataSettings) -> _Split:
    kept = staged.accepted
    freeze = data.freeze_test and past.figures is not None
    assigned = splits.assign(
        staged.key_a[kept],
        staged.key_b[kept],
        past.known,
        test_share=data.test_share,
        validation_share=data.validation_share,
        asked=staged.asked[kept] if data.honour_split else None,
        freeze_test=freeze,
    )
    split, groups, giant = (
        np.full(len(staged), UNDECIDED, np.int8),
        np.zeros(len(staged), np.uint64),
        np.zeros(len(staged), np.bool_),
    )
    split[kept], groups[kept], giant[kept] = assigned.splits, assigned.groups, assigned.giant
    staged.keep_out(kept & (split == UNDECIDED), "joins_two_splits")
    if freeze:
        staged.keep_out(kept & (split == TEST), "frozen_test")
    return _Split(split, groups, assigned.known, assigned.largest_group, giant)


def _notes(figures: BatchFigures, split: _Split) -> list[str]:
    notes = []
    if split.giant.any():
        notes.append(
            f"{int(split.giant.sum()):,} pairs hang together by shared sentences in groups so large that one could "
            f"outweigh a split (the largest: {split.largest_group:,} pairs). They were divided sentence by sentence."
        )
    elif figures.largest_group > 1:
        notes.append(f"The largest group of pairs that hang together by shared sentences has {split.largest_group:,}.")
    if figures.accepted.rows and not figures.accepted.labelled:
        notes.append("No pair has a label: the batch is used for the soft loss only, and label rules do not apply.")
    return notes


def _first_kept_out(staged: Staged) -> pl.DataFrame:
    """Return the first rows that were kept out, as they came, with their reason."""
    # What was removed on request is not shown again.
    places = np.flatnonzero(~staged.accepted & (staged.reason != CODES["forgotten"]))[:ROWS]
    found = []
    for place, frame in staged.chunks():
        here = places[(places >= place.start) & (places < place.stop)]
        if len(here):
            names = pl.Series("reason", np.array(NAMES)[staged.reason[here]], dtype=pl.String)
            found.append(as_it_came(frame[here - place.start]).with_columns(names))
        if not len(places) or place.stop > places[-1]:
            break
    columns = ["row", "reason", "text_a", "text_b", "label"]
    return pl.concat(found).select(columns) if found else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))


def _lenient(data: DataSettings) -> DataSettings:
    """Return the settings for rows that a person has corrected: few, and unlike the rest."""
    severity = dict.fromkeys(_COMPARING, "warn") | {
        name: chosen for name, chosen in data.batch_rules.severity.items() if chosen == "off"
    }
    rules = data.batch_rules.model_copy(update={"min_rows": 1, "severity": {**data.batch_rules.severity, **severity}})
    return data.model_copy(update={"batch_rules": rules})


_COMPARING = (
    "positive-share",
    "mean-length-ratio",
    "language-shift",
    "new-characters",
    "new-words",
    "test-overlap",
    "repeated-pairs",
    "contradicting-pairs",
)
_HARMLESS = frozenset({"already_stored", "forgotten", "duplicate"})  # a file with only these says nothing new


def _counted(reading: readers.Reading, progress: Progress) -> Iterator[pa.RecordBatch]:
    rows = 0
    for chunk in reading:
        yield chunk
        rows += chunk.num_rows
        progress(rows, 0, "reading")
