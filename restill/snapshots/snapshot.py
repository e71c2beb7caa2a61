"""What one version holds, on this machine: its batches, their rows, and where their files are."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from restill.errors import IntegrityError
from restill.snapshots import contents, records
from restill.snapshots.contents import FileRecord
from restill.snapshots.records import BatchRecord, VersionRecord
from restill.snapshots.working_copy import DATA, PAIRS, POINTER

PARQUET_FILE = "part-0.parquet"
BATCH_FILE = "batch.json"
READ_ROWS = 65_536


@dataclass(frozen=True)
class Snapshot:
    """One version of the data set, present on this machine."""

    version: str  # DVC's digest of the data folder, 32 hex digits
    root: Path  # data/pairs
    batches: tuple[str, ...]  # ids, sorted
    rows: dict[str, int]  # pairs per split
    test_version: str = ""  # 12 hex digits, the same as long as the test split is; empty: there is none
    replaced: frozenset[str] = frozenset()  # batches that live on in others, less what was forgotten
    digests: tuple[str, ...] = ()  # SHA-256 of the Parquet file of each of `batches`
    sources: frozenset[str] = frozenset()  # SHA-256 of the files that the batches came in

    def holds(self, batch: str) -> bool:
        """Return whether a batch is in this version, or what was left of it when pairs were forgotten."""
        return batch in self.batches or batch in self.replaced

    def replaces(self, batch: str) -> tuple[str, ...]:
        """Return the batches that one is the rest of."""
        facts = json.loads((self._file(batch).parent / BATCH_FILE).read_text("utf-8"))
        return tuple(facts.get("replaces", ()))

    @property
    def short(self) -> str:
        """Return the version as people are shown it."""
        return self.version[:12]

    def files(self) -> tuple[Path, ...]:
        """Return the Parquet file of each batch, in the order of `batches`."""
        return tuple(self._file(batch) for batch in self.batches)

    def read(
        self, columns: Sequence[str], *, split: str | None = None, batch: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows batch by batch in a fixed order; memory is bounded by one of them.

        Args:
            columns: stored columns to read, in this order.
            split: only this split.
            batch: only this batch's rows.
        """
        needed = list(columns) if split is None or "split" in columns else [*columns, "split"]
        for identity in self.batches if batch is None else (batch,):
            with pq.ParquetFile(self._file(identity)) as file:
                for rows in file.iter_batches(READ_ROWS, columns=needed, use_threads=False):
                    kept = rows if split is None else rows.filter(pc.equal(rows["split"], split))
                    if kept.num_rows:
                        yield kept.select(list(columns))

    def sentences(self) -> Iterator[str]:
        """Yield both sentences of every pair, repeats included."""
        for rows in self.read(("text_a", "text_b")):
            for column in rows.columns:
                yield from column.to_pylist()

    def batch_rows(self, batch: str) -> int:
        """Return the number of pairs of a batch."""
        return int(pq.read_metadata(self._file(batch)).num_rows)

    def _file(self, batch: str) -> Path:
        return self.root / f"batch={batch}" / PARQUET_FILE


def record(
    root: Path, files: Sequence[FileRecord], *, parent: str | None, reason: str, at: datetime | None
) -> VersionRecord:
    """Return the version record of the working copy.

    Args:
        files: what `scan` found there.
    Raises: IntegrityError if a batch's file is not the one that its batch.json was written for.
    """
    digests = {file.path: file.sha256 for file in files}
    batches = []
    for identity, facts in _batches(root / PAIRS):
        batch = BatchRecord.model_validate({"rows": sum(facts["splits"].values()), **facts, "batch": identity})
        path = (PAIRS / f"batch={identity}" / PARQUET_FILE).relative_to(DATA).as_posix()
        if batch.parquet_sha256 is not None and batch.parquet_sha256 != digests.get(path):
            raise IntegrityError(
                f"{root / DATA / path} changed after it was written: expected SHA-256 {batch.parquet_sha256}, "
                f"found {digests.get(path)}.",
                hint="Run the ingestion again; if this stays, look at the disk.",
            )
        batches.append(batch)
    return VersionRecord(
        version=contents.version_of(files),
        parent=parent,
        at=at or datetime.now(UTC),
        reason=reason,
        batches=tuple(batches),
        files=tuple(files),
        size=sum(file.bytes for file in files),
        nfiles=len(files),
    )


def describe(pairs: Path, version: str) -> Snapshot:
    """Return the version that a folder of batches is.

    Raises: IntegrityError if a batch does not say what it is.
    """
    rows = {"train": 0, "validation": 0, "test": 0}
    batches, tests, digests, sources, replaced = [], [], [], set[str](), set[str]()
    for identity, facts in _batches(pairs):
        batches.append(identity)
        digests.append(str(facts.get("parquet_sha256", "")))
        sources.add(str(facts.get("source_sha256", "")))
        replaced.update(facts.get("replaces", ()))
        tests.append(facts.get("test_sha256", ""))
        for split, count in facts["splits"].items():
            rows[split] += count
    return Snapshot(
        version,
        pairs,
        tuple(batches),
        rows,
        records.test_version(tests),
        frozenset(replaced),
        tuple(digests),
        frozenset(sources),
    )


def _batches(pairs: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each batch's id and what its batch.json says, by id.

    Raises: IntegrityError if there is none, or it does not tell the pairs of each split.
    """
    for identity in sorted(path.name.removeprefix("batch=") for path in pairs.glob("batch=*")):
        path = pairs / f"batch={identity}" / BATCH_FILE
        try:
            facts = json.loads(path.read_text("utf-8"))
            if not set(facts["splits"]) <= {"train", "validation", "test"}:
                raise ValueError(f"its splits are {list(facts['splits'])}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{path} does not describe its batch: {error!r}.",
                hint=f"This version was not made by Restill. Name another one: git checkout … -- {POINTER}",
            ) from error
        yield identity, facts
