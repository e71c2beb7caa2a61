"""Rows of pairs on their way into the data set, for tests."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from restill import history, partitions, readers, splits, staging
from restill.pairs import NAMES
from restill.settings import RowRuleSettings
from restill.snapshots import PARQUET_FILE
from restill.splits import Known
from restill.staging import Staged

Row = tuple[str | None, ...]


def raw(*rows: Row) -> pa.RecordBatch:
    """Return rows as the readers give them: text_a, text_b, label, source, language, created_at, split; rest empty."""
    columns = [[row[place] if place < len(row) else None for row in rows] for place in range(7)]
    texts = [pa.array(values, pa.large_string()) for values in columns]
    return pa.record_batch([*texts, pa.array(range(1, len(rows) + 1), pa.int64())], schema=readers.RAW_SCHEMA)


def staged(
    folder: Path, *rows: Row, rules: RowRuleSettings | None = None, honour_split: bool = False, chunk: int = 10**9
) -> Staged:
    """Stage rows in `folder`, so many in a chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = raw(*rows)
    chunks = [whole.slice(start, chunk) for start in range(0, whole.num_rows, chunk)]
    return staging.stage(chunks, folder, rules or RowRuleSettings(), honour_split=honour_split)


def reasons(found: Staged) -> dict[int, str | None]:
    """Return the reason of each row, None where it is accepted."""
    return {row: NAMES[code] or None for row, code in enumerate(found.reason, start=1)}


def write_partition(found: Staged, folder: Path, known: Known | None = None) -> tuple[pl.DataFrame, history.Entry]:
    """Split staged rows and write them; return what was stored, and its entry for the history."""
    assigned = splits.assign(
        found.key_a[found.accepted],
        found.key_b[found.accepted],
        lambda _: known or Known.nothing(),
        test_share=0.2,
        validation_share=0.2,
    )
    rows = np.flatnonzero(found.accepted)
    split, groups = np.full(len(found), -1, np.int8), np.zeros(len(found), np.uint64)
    split[rows], groups[rows] = assigned.splits, assigned.groups
    found.keep_out(rows[assigned.splits == splits.UNDECIDED], "joins_two_splits")
    folder.mkdir(parents=True, exist_ok=True)
    written = partitions.distribute(found, split, groups, folder, max_characters=None, unseen=None)
    kept = found.accepted
    arrays = {name: getattr(found, name)[kept] for name in ("key_a", "key_b", "pair", "labels", "swapped")}
    entry = history.Entry(
        "b", "digest", written.figures, written.vocabulary, splits=split[kept], groups=groups[kept], **arrays
    )
    return pl.read_parquet(folder / PARQUET_FILE), entry
