"""One incoming file: judged, and if it is fit, added to the data set as one immutable partition.

The steps are read and row rules (`staging`) → what the data set has (`history`) → split (`splits`) → write
(`partitions`) → batch rules → publish. What was decided is kept in the object store under `batches/`, so that a file is
not judged again for nothing.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from restill import (
    batch_rules,
    expectations,
    forgotten,
    history,
    ingest_reports,
    partitions,
    readers,
    snapshots,
    splits,
)
from restill.errors import DataRejected, PointerMoved, RestillError
from restill.examples import ROWS, Examples
from restill.figures import BatchFigures
from restill.history import Entry, History
from restill.keys import Keys
from restill.pairs import CODES, NAMES, RULES_VERSION, SPLITS
from restill.settings import DataSettings, Settings
from restill.snapshots import Snapshot
from restill.splits import TEST, UNDECIDED, Known, Splits
from restill.staging import Staged, as_it_came, content_digest, stage
from restill.storage.objects import ObjectNotFound, ObjectStore

LEDGER = "batches"
REPORTS = "reports/ingest"
LARGE_BYTES = 16 * 1024**2  # reading such a file takes longer than loading the libraries that come after it

Progress = Callable[[int, int, str], None]  # rows done, rows in all (0: not known yet), what is done


def _silent(done: int, total: int, what: str) -> None:
    pass


class BatchOutcome(BaseModel):
    """What became of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["accepted", "refused", "unchanged"]  # unchanged: the data set holds these pairs already
    file_name: str
    batch_id: str | None  # None: the file could not be read
    rows_in: int
    accepted: int  # rows
    quarantined: dict[str, int]  # rows by reason
    reasons: tuple[str, ...]  # why it was refused, a sentence each
    warnings: tuple[str, ...] = ()  # what a person should look at, a sentence each
    detected: str | None = None  # how the file was read, in words
    released_from: str | None = None  # the report whose quarantine these rows come from, corrected
    report: str | None  # address of the report's first page
    at: datetime
    dry_run: bool = False

    @property
    def sentence(self) -> str:
        """Return what happened, for a person."""
        if self.outcome == "unchanged":
            held = (
                f"its pairs as batch {self.batch_id}" if self.batch_id else "all pairs of it that row rules let through"
            )
            return f"{self.file_name} changes nothing: the data set holds {held}."
        if self.outcome == "refused":
            refused = "would be refused" if self.dry_run else "was refused, the data set is as before"
            return f"{self.file_name} {refused}: {len(self.reasons)} reason{'s' if len(self.reasons) > 1 else ''}."
        kept_out = ", ".join(f"{count:,} {reason}" for reason, count in self.quarantined.items()) or "none"
        return (
            f"{self.file_name} {'would be' if self.dry_run else 'was'} accepted as batch {self.batch_id}: "
            f"{self.accepted:,} of {self.rows_in:,} rows; quarantined: {kept_out}."
        )


def ingest_file(
    path: Path,
    settings: Settings,
    store: ObjectStore,
    *,
    released_from: str | None = None,
    progress: Progress = _silent,
) -> BatchOutcome:
    """Judge a file and add it to the data set, or refuse it and leave the data set as it was.

    A refusal is an outcome, not an error: its report is in the object store, and the file stays where it is. Doing the
    same again, also with the same pairs under another name, changes nothing and says so.

    Args:
        path: the file.
        settings: rules and limits.
        store: where reports, decisions and the data set go.
        released_from: the report whose quarantine the rows come from. A person has looked at them: rules that hold a
            batch against the data set then warn only, and one row is enough.
        progress: called as rows are read and written.
    Raises: DataRejected if there is no such file; StorageUnreachable, DataMissing, IntegrityError if the data set
        cannot be had or published; what `snapshots.share` raises if data.dvc cannot be committed or pushed.
    """
    key = ledger_key(path, settings.data)
    with snapshots.locked(settings.root):
        for _ in range(settings.data.git.attempts):
            try:
                outcome = _ingest(path, key, settings, store, released_from, progress)
                break
            except PointerMoved as moved:  # somebody else's batch came first: this one goes on top of it
                snapshots.adopt(settings.root, store, moved.pointer)
        else:
            raise RestillError(
                f"Others changed {snapshots.POINTER} {settings.data.git.attempts} times while {shown_name(path)} was "
                "added; the data set is as they left it.",
                hint="Run again, or raise data.git.attempts.",
            )
    _record(outcome, key, store)
    return outcome


def _ingest(
    path: Path, key: str, settings: Settings, store: ObjectStore, released_from: str | None, progress: Progress
) -> BatchOutcome:
    with (
        snapshots.changing(settings.root, store) as snapshot,
        _workspace(settings) as work,
        history.opened(_history(settings), snapshot) as past,
    ):
        judged = _judge(path, key, settings, snapshot, past, work, released_from, progress)
        outcome = judged.outcome
        if outcome.outcome != "unchanged":
            report = f"{REPORTS}/{judged.folder.name}"
            outcome = outcome.model_copy(update={"report": ingest_reports.upload(judged.folder, store, report)})
        if outcome.outcome == "accepted" and judged.entry is not None:
            _move_in(work, settings.root / snapshots.PAIRS / f"batch={outcome.batch_id}")
            counted = f"{outcome.accepted:,} pair{'' if outcome.accepted == 1 else 's'}"
            reason = f"ingested {outcome.file_name} as batch {outcome.batch_id}: {counted}"
            snapshots.publish(settings.root, store, reason=reason)
            _remember(past, judged.entry, settings)
        if outcome.outcome != "refused":  # also of a batch that is there: the run that added it may have died before
            message = f"Data: {outcome.file_name}, batch {outcome.batch_id}"
            snapshots.share(settings.root, store, message, settings.data.git)
    return outcome


def _history(settings: Settings) -> Path:
    return settings.state_dir / "cache" / "history"


def check_file(path: Path, settings: Settings, store: ObjectStore, *, progress: Progress = _silent) -> BatchOutcome:
    """Judge a file as `ingest_file` would, and keep nothing but a report on this machine.

    Raises: as `ingest_file`.
    """
    with snapshots.locked(settings.root):
        snapshot = snapshots.current(settings.root)
        if snapshot is None and snapshots.named_version(settings.root) is not None:
            snapshot = snapshots.pull(settings.root, store)
        with (
            _workspace(settings) as work,
            history.opened(_history(settings), snapshot) as past,
        ):
            judged = _judge(path, ledger_key(path, settings.data), settings, snapshot, past, work, None, progress)
    report = None if judged.outcome.outcome == "unchanged" else str(judged.folder / ingest_reports.SUMMARY)
    return judged.outcome.model_copy(update={"dry_run": True, "report": report})


def known_outcome(path: Path, data: DataSettings, store: ObjectStore) -> BatchOutcome | None:
    """Return what was decided on exactly this file under exactly these rules, or None.

    An acceptance comes before a refusal: the data set may have grown between the two.
    """
    return outcome_of(ledger_key(path, data), store)


def outcome_of(key: str, store: ObjectStore) -> BatchOutcome | None:
    """Return what was decided under a ledger key, or None."""
    for decided in ("accepted", "refused"):
        try:
            return BatchOutcome.model_validate_json(store.get(f"{LEDGER}/{key}/{decided}.json"))
        except ObjectNotFound:
            continue
    return None


def outcomes(store: ObjectStore) -> list[BatchOutcome]:
    """Return everything that was decided on files, oldest first."""
    keys = [found.key for found in store.list(f"{LEDGER}/") if found.key.endswith(".json")]
    found = [BatchOutcome.model_validate_json(store.get(key)) for key in keys]
    return sorted(found, key=lambda outcome: outcome.at)


def ledger_key(path: Path, data: DataSettings) -> str:
    """Return the digest of everything a decision depends on but the data set: file, columns, rules and limits.

    Raises: DataRejected if there is no such file.
    """
    try:
        digest = partitions.file_digest(path)
    except OSError as error:
        raise DataRejected(f"{path} cannot be read: {error.strerror or error}.", hint="Check the path.") from error
    return key_of_digest(digest, data)


def key_of_digest(file_sha256: str, data: DataSettings) -> str:
    """Return the ledger key of a file by its digest."""
    rules = {
        "file": file_sha256,
        "rows": RULES_VERSION,
        "suite": expectations.SUITE_VERSION,
        "settings": data.model_dump(mode="json", exclude={"incoming", "git"}),
    }
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def shown_name(path: Path) -> str:
    """Return a file's name as text that can be stored and shown, also if its bytes are not UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class _Judged:
    outcome: BatchOutcome
    folder: Path  # of the report on this machine
    entry: Entry | None  # what the history gets; None: nothing to add


def _judge(
    path: Path,
    key: str,
    settings: Settings,
    snapshot: Snapshot | None,
    past: History,
    work: Path,
    released_from: str | None,
    progress: Progress,
) -> _Judged:
    """Judge one file; if it is accepted, its partition lies whole in `work`."""
    data = _lenient(settings.data) if released_from else settings.data
    seen = f"{key}:{snapshot.version if snapshot else ''}"  # the same judgement gives the same report
    folder = settings.state_dir / REPORTS / hashlib.sha256(seen.encode()).hexdigest()[:16]
    shutil.rmtree(folder, ignore_errors=True)
    if path.stat().st_size > LARGE_BYTES:
        expectations.load_in_background()
    facts = {"file_name": shown_name(path), "released_from": released_from, "report": None, "at": datetime.now(UTC)}
    try:
        with readers.open_file(path, data.columns, data.format) as reading:
            staged = stage(
                _counted(reading, progress),
                work,
                data.row_rules,
                honour_split=data.honour_split,
                gone=forgotten.read(settings.root),
            )
            facts["detected"] = reading.detected.sentence
    except DataRejected as error:
        outcome = BatchOutcome(
            outcome="refused",
            batch_id=None,
            rows_in=0,
            accepted=0,
            quarantined={},
            reasons=(f"{error} {error.hint}".rstrip(),),
            **facts,
        )
        ingest_reports.write_refusal(folder, outcome.sentence, outcome.reasons)
        return _Judged(outcome, folder, None)

    batch_id = content_digest(staged)[:16]
    staged.rest = staged.rest[:0].copy()  # it was for the digest; with ten million rows it is 80 MB

    def decided(
        outcome: Literal["accepted", "refused", "unchanged"],
        reasons: tuple[str, ...] = (),
        warnings: tuple[str, ...] = (),
    ) -> BatchOutcome:
        return BatchOutcome(
            outcome=outcome,
            batch_id=batch_id if staged.accepted.any() else None,
            rows_in=len(staged),
            accepted=int(staged.accepted.sum()),
            quarantined=staged.reasons,
            reasons=reasons,
            warnings=warnings,
            **facts,
        )

    if snapshot is not None and batch_id in snapshot.batches:
        return _Judged(decided("unchanged"), folder, None)
    compared = _compare(staged, past)
    if compared.repeated and not staged.accepted.any():
        return _Judged(decided("unchanged"), folder, None)

    split = _split(staged, past, data)
    written = partitions.distribute(
        staged,
        split.splits,
        split.groups,
        work,
        max_characters=None if "too_long" in data.row_rules.off else data.row_rules.max_characters,
        unseen=None if past.figures is None else past.unseen_characters(),
        progress=lambda done, total: progress(done, total, "writing"),
    )
    kept = staged.accepted
    leaked = splits.leaked_keys(staged.key_a[kept], staged.key_b[kept], split.splits[kept], split.known)
    overlap = np.isin(staged.key_a, split.tests) | np.isin(staged.key_b, split.tests)
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
    if leaked.size and not data.honour_split:
        raise AssertionError(f"{len(leaked)} sentences would be in more than one split: splitting is broken")
    rules = batch_rules.rules(
        figures, past.figures, data.batch_rules, leak_severity="warn" if data.honour_split else "refuse"
    )
    validation = expectations.validate(
        rules, docs_dir=folder / ingest_reports.DATA_DOCS, batch_name=f"{shown_name(path)}, batch {batch_id}"
    )
    outcome = decided("accepted" if validation.passed else "refused", validation.reasons, validation.warnings)
    counts = np.bincount(split.splits[kept], minlength=len(SPLITS))
    by_split = {name: int(count) for name, count in zip(SPLITS, counts, strict=True)}
    ingest_reports.write_summary(
        folder,
        outcome.sentence,
        validation=validation,
        detected=(str(outcome.detected),),
        splits=by_split,
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
    if outcome.outcome == "refused":
        return _Judged(outcome, folder, None)
    partitions.write_facts(
        work,
        batch_id,
        written.figures,
        by_split,
        partitions.digest_of_test(staged.pair[kept], staged.labels[kept], split.splits[kept]),
        quarantined=outcome.quarantined,
        source_sha256=partitions.file_digest(path),
        suite_version=expectations.SUITE_VERSION,
    )
    entry = Entry(
        batch_id,
        written.figures,
        written.vocabulary,
        **{name: getattr(staged, name)[kept] for name in ("key_a", "key_b", "pair", "labels", "swapped")},
        splits=split.splits[kept],
        groups=split.groups[kept],
        known=split.known.keys,
    )
    return _Judged(outcome, folder, entry)


@dataclass(frozen=True)
class _Compared:
    """Which rows the data set has already."""

    repeated: int
    swapped: int  # of those
    contradicting: int
    labels: NDArray[np.float32]  # [rows], of the stored pair; NaN: none


def _compare(staged: Staged, past: History) -> _Compared:
    """Keep out what was forgotten on request and what the data set has: a stored pair stays as it is."""
    staged.keep_out(staged.accepted & staged.forgotten, "forgotten")
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
    tests: Keys  # sentences of the batch that are in the data set's test split
    largest_group: int
    giant: NDArray[np.bool_]


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
    tests = assigned.known.keys[assigned.known.splits == TEST]
    return _Split(split, groups, assigned.known, tests, assigned.largest_group, giant)


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
)


def _counted(reading: readers.Reading, progress: Progress) -> Iterator[pa.RecordBatch]:
    rows = 0
    for chunk in reading:
        yield chunk
        rows += chunk.num_rows
        progress(rows, 0, "reading")


@contextmanager
def _workspace(settings: Settings) -> Iterator[Path]:
    """Give a folder for one file's work. What a killed run left there goes; callers hold the data set's lock."""
    work = settings.state_dir / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_in(work: Path, partition: Path) -> None:
    """Move the partition's files from `work` to where the data set is, as one folder."""
    whole = work / "partition"
    whole.mkdir()
    for name in (snapshots.PARQUET_FILE, snapshots.BATCH_FILE):
        os.replace(work / name, whole / name)
    os.replace(whole, partition)


def _remember(past: History, entry: Entry, settings: Settings) -> None:
    """Add the batch to the history, which is a cache: where that fails, the next ingestion makes it again."""
    try:
        past.add(entry)
    except duckdb.Error:
        history.forget_file(_history(settings))


def _record(outcome: BatchOutcome, key: str, store: ObjectStore) -> None:
    """Keep the outcome where `known_outcome` finds it. Pairs that are in the data set count as accepted."""
    decided = "refused" if outcome.outcome == "refused" else "accepted"
    kept = outcome.model_copy(update={"outcome": decided})
    store.create(
        f"{LEDGER}/{key}/{decided}.json", kept.model_dump_json(indent=1).encode(), content_type="application/json"
    )
