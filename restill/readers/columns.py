"""What every file is read into, and where its columns are."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from restill.readers.refusals import missing_columns, refusal
from restill.settings import ColumnSettings

CHUNK_ROWS = 65_536
CHUNK_BYTES = 16 * 1024**2  # a chunk of long rows ends earlier
TEXT_COLUMNS = ("text_a", "text_b", "label", "source", "language", "created_at", "split")
REQUIRED = ("text_a", "text_b")

# Everything as the text it was, and `row`, 1 for the first row after the header. Blank lines are no rows. A value that
# is absent is null.
RAW_SCHEMA = pa.schema([pa.field(name, pa.large_string()) for name in TEXT_COLUMNS] + [pa.field("row", pa.int64())])


def named_columns(columns: ColumnSettings) -> dict[str, str]:
    """Return the name in the file for each of TEXT_COLUMNS."""
    return {own: getattr(columns, own) for own in TEXT_COLUMNS}


def wanted_columns(columns: ColumnSettings) -> list[str]:
    """Return the names that a file must have: an optional column may be absent, unless the user named it."""
    defaults = named_columns(ColumnSettings())
    return [named for own, named in named_columns(columns).items() if own in REQUIRED or named != defaults[own]]


def find_columns(header: Sequence[str], columns: ColumnSettings, name: str, note: str = "") -> dict[str, int]:
    """Return the place in `header` of each of TEXT_COLUMNS that the file has.

    Raises: DataRejected if a wanted column is absent, or one that would be read is there twice.
    """
    if absent := [column for column in wanted_columns(columns) if column not in header]:
        raise missing_columns(name, "header", absent, header, note)
    times = Counter(header)
    for column in named_columns(columns).values():
        if times[column] > 1:
            raise refusal(name, "header", f"{column!r} names {times[column]} columns", "one column of that name")
    return {own: header.index(named) for own, named in named_columns(columns).items() if named in times}


def text_array(values: Sequence[str | None]) -> pa.LargeStringArray:
    """Return `values` in Arrow; the replacement character stands for what has no UTF-8, and the row rules find it."""
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:
        return pa.array([None if value is None else without_surrogates(value) for value in values], pa.large_string())


def without_surrogates(value: str) -> str:
    """Return text with U+FFFD for each lone surrogate; JSON can spell them, no encoding can."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def raw_batch(columns: dict[str, pa.Array], rows: int, first_row: int) -> pa.RecordBatch:
    """Return a batch of RAW_SCHEMA: null where a column is absent, rows numbered from `first_row`."""
    arrays = [columns[own] if own in columns else pa.nulls(rows, pa.large_string()) for own in TEXT_COLUMNS]
    numbers = pa.array(np.arange(first_row, first_row + rows, dtype=np.int64))
    return pa.record_batch([*arrays, numbers], schema=RAW_SCHEMA)
