"""Parquet, a batch of rows at a time."""

import contextlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from restill.errors import DataRejected
from restill.readers.columns import CHUNK_BYTES, CHUNK_ROWS, find_columns, raw_batch
from restill.readers.refusals import refusal
from restill.settings import ColumnSettings

BUFFER_BYTES = 1024**2  # read from a column at once


class ParquetRows:
    """The rows of one Parquet file.

    Attributes:
        header: the names of its columns.
    """

    def __init__(self, file: IO[bytes], name: str, columns: ColumnSettings) -> None:
        """Read the footer.

        Raises: DataRejected if it is no Parquet footer, or a column is absent or neither text nor what stands for it;
            OSError from Arrow if the file is damaged.
        """
        self._name = name
        self._row = 0  # the last one that was read
        with self._refusing():
            # Buffered and not fetched ahead, else Arrow holds whole row groups. Not mapped into memory: a file that
            # another process cuts short would then kill this one.
            self._file = pq.ParquetFile(
                file, pre_buffer=False, buffer_size=BUFFER_BYTES, page_checksum_verification=True
            )
            schema = self._file.schema_arrow
        self.header = tuple(schema.names)
        self._columns = {own: self.header[place] for own, place in find_columns(self.header, columns, name).items()}
        for own, column in self._columns.items():
            _check_type(schema.field(column).type, column, own, name)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of RAW_SCHEMA; once only.

        Raises: DataRejected if a page is damaged, text is not UTF-8, or rows are lacking; OSError from Arrow.
        """
        with self._refusing():
            promised = self._file.metadata.num_rows
            batches = self._file.iter_batches(
                self._batch_rows(), columns=sorted(set(self._columns.values())), use_threads=False
            )
        while True:
            with self._refusing():
                batch = next(batches, None)
                if batch is None:
                    break
                texts = {own: _as_text(batch.column(column)) for own, column in self._columns.items()}
            yield raw_batch(texts, batch.num_rows, self._row + 1)
            self._row += batch.num_rows
        if self._row != promised:
            raise refusal(
                self._name, f"row {self._row:,}", "it is the last one", f"{promised:,} rows, as the footer says"
            )

    def _batch_rows(self) -> int:
        """Return how many rows to decode at once, from how large the footer says they are."""
        groups = [self._file.metadata.row_group(group) for group in range(self._file.metadata.num_row_groups)]
        widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
        return int(max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(widest, 1))))

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, UnicodeDecodeError) as error:  # the second from names that are no UTF-8
            raise DataRejected(
                f"{self._name} is not readable Parquet after row {self._row:,}: {str(error).rstrip('.')}.",
                hint="It is truncated, damaged or not Parquet. Make or copy it again.",
            ) from error


def _check_type(kind: pa.DataType, column: str, own: str, name: str) -> None:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    fits = _is_text(plain) or pa.types.is_null(plain)
    if own == "label":
        is_number = pa.types.is_integer(plain) or pa.types.is_floating(plain) or pa.types.is_boolean(plain)
        fits = fits or is_number or pa.types.is_decimal(plain)
    elif own == "created_at":
        fits = fits or pa.types.is_date(plain) or pa.types.is_timestamp(plain)
    if not fits:
        expected = {"label": "text or a number", "created_at": "text, a date or a timestamp"}.get(own, "text")
        raise refusal(name, f"column {column!r}", f"its type is {kind}", expected)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_text(values: pa.Array) -> pa.LargeStringArray:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_timestamp(kind):
        # A time with a zone is UTC inside Arrow, and its text ends in Z once the zone is UTC too.
        local = values.cast(kind) if kind.tz is None else values.cast(kind).cast(pa.timestamp(kind.unit, "UTC"))
        return pc.replace_substring(local.cast(pa.large_string()), " ", "T")
    text = values.cast(kind).cast(pa.large_string())
    text.validate(full=True)  # Arrow does not look at bytes that a file calls UTF-8 until asked
    return text
