"""One incoming file: judged, and if it is fit, added to the data set as one immutable partition.

The steps are read → row rules → split → batch rules → write; each is a function here or in the module it names. What
was decided is kept in the object store under `batches/`, so that a file is not judged again for nothing.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from restill import expectations, ingest_reports, pairs, profiles, readers, snapshots, splits
from restill.errors import DataRejected
from restill.expectations import BatchValidation
from restill.files import write_whole
from restill.profiles import DataSetProfile
from restill.settings import DataSettings, Settings
from restill.snapshots import Snapshot
from restill.splits import Membership
from restill.storage.objects import ObjectNotFound, ObjectStore

ROW_GROUP = 100_000
LEDGER = "batches"
REPORTS = "reports/ingest"


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
    report: str | None  # address of the report's first page
    at: datetime
    dry_run: bool = False

    @property
    def sentence(self) -> str:
        """Return what happened, for a person."""
        if self.outcome == "unchanged":
            return f"{self.file_name} changes nothing: the data set holds its pairs as batch {self.batch_id}."
        if self.outcome == "refused":
            refused = "would be refused" if self.dry_run else "was refused, the data set is as before"
            return f"{self.file_name} {refused}: {len(self.reasons)} reason{'s' if len(self.reasons) > 1 else ''}."
        kept_out = ", ".join(f"{count:,} {reason}" for reason, count in self.quarantined.items()) or "none"
        return (
            f"{self.file_name} {'would be' if self.dry_run else 'was'} accepted as batch {self.batch_id}: "
            f"{self.accepted:,} of {self.rows_in:,} rows; quarantined: {kept_out}."
        )


@dataclass(frozen=True)
class Batch:
    """The rows of one file after row rules and split, ready to be judged and stored."""

    batch_id: str  # 16 hex digits of the digest of what passed the row rules, whatever the data set was
    accepted: pl.DataFrame  # the columns of pairs.PAIR_SCHEMA, and key_a and key_b
    quarantined: pl.DataFrame  # the columns of readers.RAW_SCHEMA, and reason; by row
    leaked_sentences: int  # measured; 0 unless splitting is broken
    reference: DataSetProfile | None  # the data set it was split against

    @property
    def rows_in(self) -> int:
        """Return the number of rows of the file."""
        return self.accepted.height + self.quarantined.height

    @property
    def splits(self) -> dict[str, int]:
        """Return the accepted pairs of each split."""
        counts = dict(self.accepted["split"].value_counts().iter_rows())
        return {split: counts.get(split, 0) for split in pairs.SPLITS}

    @property
    def reasons(self) -> dict[str, int]:
        """Return the quarantined rows by reason, most frequent first."""
        return dict(sorted(Counter(self.quarantined["reason"]).items(), key=lambda item: (-item[1], item[0])))


def ingest_file(path: Path, settings: Settings, store: ObjectStore) -> BatchOutcome:
    """Judge a file and add it to the data set, or refuse it and leave the data set as it was.

    A refusal is an outcome, not an error: its report is in the object store, and the file stays where it is. Doing the
    same again, also with the same pairs under another name, changes nothing and says so.

    Raises: DataRejected if there is no such file; StorageUnreachable, DataMissing, IntegrityError if the data set
        cannot be had or published.
    """
    key = ledger_key(path, settings.data)
    with snapshots.changing(settings.root, store) as snapshot:
        outcome, batch, folder = _judge(path, key, settings, snapshot)
        report = f"{REPORTS}/{folder.name}"
        if outcome.outcome != "unchanged":
            outcome = outcome.model_copy(update={"report": ingest_reports.upload(folder, store, report)})
        if outcome.outcome == "accepted" and batch is not None:
            write_partition(batch, settings.root / snapshots.PAIRS, source_sha256=_file_digest(path))
            snapshots.publish(settings.root, store)
    _record(outcome, key, store)
    return outcome


def check_file(path: Path, settings: Settings, store: ObjectStore) -> BatchOutcome:
    """Judge a file as `ingest_file` would, and keep nothing but a report on this machine.

    Raises: as `ingest_file`.
    """
    snapshot = snapshots.current(settings.root)
    if snapshot is None and snapshots.named_version(settings.root) is not None:
        snapshot = snapshots.pull(settings.root, store)
    outcome, _, folder = _judge(path, ledger_key(path, settings.data), settings, snapshot)
    report = None if outcome.outcome == "unchanged" else str(folder / ingest_reports.SUMMARY)
    return outcome.model_copy(update={"dry_run": True, "report": report})


def known_outcome(path: Path, data: DataSettings, store: ObjectStore) -> BatchOutcome | None:
    """Return what was decided on exactly this file under exactly these rules, or None.

    An acceptance comes before a refusal: the data set may have grown between the two.
    """
    key = ledger_key(path, data)
    for decided in ("accepted", "refused"):
        try:
            return BatchOutcome.model_validate_json(store.get(f"{LEDGER}/{key}/{decided}.json"))
        except ObjectNotFound:
            continue
    return None


def ledger_key(path: Path, data: DataSettings) -> str:
    """Return the digest of everything a decision depends on but the data set: file, columns, rules and limits.

    Raises: DataRejected if there is no such file.
    """
    rules = {
        "file": _file_digest(path),
        "rows": pairs.RULES_VERSION,
        "suite": expectations.SUITE_VERSION,
        "settings": data.model_dump(mode="json", exclude={"incoming"}),
    }
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def shown_name(path: Path) -> str:
    """Return a file's name as text that can be stored and shown, also if its bytes are not UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def split_batch(raw: pa.Table, data: DataSettings, snapshot: Snapshot | None) -> Batch:
    """Apply the row rules to what `readers.read_file` gave, and split the rest against the data set."""
    checked = pairs.check_rows(raw, max_characters=data.max_characters)
    keyed = checked.accepted.with_columns(
        key_a=splits.sentence_keys(checked.accepted["text_a"]), key_b=splits.sentence_keys(checked.accepted["text_b"])
    )
    reference: DataSetProfile | None = None
    known: dict[str, Membership] = {}
    if snapshot is not None:
        reference, known = profiles.profile(snapshot, pl.concat([keyed["key_a"], keyed["key_b"]]).unique())
    assigned = splits.assign(keyed, known, test_share=data.test_share, validation_share=data.validation_share)
    came = pl.DataFrame(pl.from_arrow(raw))
    quarantined = pl.concat(
        [checked.quarantined, came.join(assigned.disagreeing.select("row", "reason"), on="row")]
    ).sort("row")
    batch = Batch(
        batch_id=pairs.content_digest(checked.accepted)[:16],
        accepted=assigned.accepted,
        quarantined=quarantined,
        leaked_sentences=splits.leaked_sentences(assigned.accepted, known),
        reference=reference,
    )
    if batch.rows_in != raw.num_rows or batch.leaked_sentences:
        raise AssertionError(
            f"{raw.num_rows} rows came and {batch.rows_in} were judged; {batch.leaked_sentences} sentences leaked"
        )
    return batch


def validate_batch(batch: Batch, data: DataSettings, docs_dir: Path) -> BatchValidation:
    """Hold a batch to the batch rules and build its Data Docs."""
    return expectations.validate(
        batch.accepted,
        batch.reasons,
        batch.reference,
        data.batch_rules,
        max_characters=data.max_characters,
        docs_dir=docs_dir,
    )


def write_partition(batch: Batch, folder: Path, *, source_sha256: str) -> Path:
    """Write `batch=<id>/` into `folder`, whole or not at all; return it.

    The bytes depend on the rows alone: no clock, no path, and Parquet options are fixed.
    """
    partial = folder / f".batch={batch.batch_id}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rows = batch.accepted.sort("row").select(pairs.PAIR_SCHEMA.names)
    # In one chunk: where polars ends one depends on the machine's cores, and Parquet's pages would follow.
    table = rows.rechunk().to_arrow().cast(pairs.PAIR_SCHEMA).combine_chunks()
    file = partial / snapshots.PARQUET_FILE
    pq.write_table(
        table,
        file,
        row_group_size=ROW_GROUP,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=["source", "language", "split"],
        store_schema=False,
    )
    labels = batch.accepted["label"]
    positive = int((labels >= profiles.POSITIVE_FROM).sum())
    facts = {
        "batch": batch.batch_id,
        "rows": batch.accepted.height,
        "splits": batch.splits,
        "labels": {"negative": labels.count() - positive, "positive": positive, "unlabelled": labels.null_count()},
        "quarantined": batch.reasons,
        "parquet_sha256": _file_digest(file),
        "source_sha256": source_sha256,
        "row_rules_version": pairs.RULES_VERSION,
        "suite_version": expectations.SUITE_VERSION,
    }
    write_whole(partial / snapshots.BATCH_FILE, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    partition = folder / f"batch={batch.batch_id}"
    os.replace(partial, partition)
    return partition


def _judge(
    path: Path, key: str, settings: Settings, snapshot: Snapshot | None
) -> tuple[BatchOutcome, Batch | None, Path]:
    """Return the outcome, the batch if the file could be read, and the local folder of the report."""
    seen = f"{key}:{snapshot.version if snapshot else ''}"  # the same judgement gives the same report
    folder = settings.state_dir / REPORTS / hashlib.sha256(seen.encode()).hexdigest()[:16]
    shutil.rmtree(folder, ignore_errors=True)
    try:
        raw = readers.read_file(path, settings.data.columns)
    except DataRejected as error:
        reason = f"{error} {error.hint}".rstrip()
        outcome = BatchOutcome(
            outcome="refused",
            file_name=shown_name(path),
            batch_id=None,
            rows_in=0,
            accepted=0,
            quarantined={},
            reasons=(reason,),
            report=None,
            at=datetime.now(UTC),
        )
        ingest_reports.write_refusal(folder, outcome.sentence, outcome.reasons)
        return outcome, None, folder
    batch = split_batch(raw, settings.data, snapshot)

    def decided(outcome: Literal["accepted", "refused", "unchanged"], reasons: tuple[str, ...] = ()) -> BatchOutcome:
        return BatchOutcome(
            outcome=outcome,
            file_name=shown_name(path),
            batch_id=batch.batch_id,
            rows_in=batch.rows_in,
            accepted=batch.accepted.height,
            quarantined=batch.reasons,
            reasons=reasons,
            report=None,
            at=datetime.now(UTC),
        )

    if snapshot is not None and batch.batch_id in snapshot.batches:
        return decided("unchanged"), batch, folder
    validation = validate_batch(batch, settings.data, folder / ingest_reports.DATA_DOCS)
    outcome = decided("accepted" if validation.passed else "refused", validation.reasons)
    ingest_reports.write_summary(
        folder,
        outcome.sentence,
        validation=validation,
        splits=batch.splits,
        quarantined=batch.quarantined,
        leaked_sentences=batch.leaked_sentences,
    )
    return outcome, batch, folder


def _record(outcome: BatchOutcome, key: str, store: ObjectStore) -> None:
    """Keep the outcome where `known_outcome` finds it. Pairs that are in the data set count as accepted."""
    decided = "refused" if outcome.outcome == "refused" else "accepted"
    kept = outcome.model_copy(update={"outcome": decided})
    store.create(
        f"{LEDGER}/{key}/{decided}.json", kept.model_dump_json(indent=1).encode(), content_type="application/json"
    )


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataRejected(f"{path} cannot be read: {error.strerror or error}.", hint="Check the path.") from error
