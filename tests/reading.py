"""Files of pairs for tests: written in every way, and read whole into one table."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from restill import readers
from restill.errors import DataRejected
from restill.settings import ColumnSettings, FormatSettings

SHARED = Path(__file__).parents[2] / "shared" / "data"
DIRTY = SHARED / "dirty"
PAIR = ColumnSettings()
PLAIN = FormatSettings()


def read_file(path: Path, columns: ColumnSettings = PAIR, file_format: FormatSettings = PLAIN) -> pa.Table:
    """Read a whole file into a table of RAW_SCHEMA.

    Raises: DataRejected as `open_file` and its reading do.
    """
    with readers.open_file(path, columns, file_format) as reading:
        return pa.Table.from_batches(reading, readers.RAW_SCHEMA)


def read_bytes(
    folder: Path, name: str, content: bytes, columns: ColumnSettings = PAIR, file_format: FormatSettings = PLAIN
) -> pa.Table:
    """Write a file and read it."""
    path = folder / name
    path.write_bytes(content)
    return read_file(path, columns, file_format)


def texts(table: pa.Table) -> list[tuple[str | None, str | None]]:
    """Return text_a and text_b of each row."""
    return list(zip(table["text_a"].to_pylist(), table["text_b"].to_pylist(), strict=True))


def refusal(folder: Path, name: str, content: bytes, columns: ColumnSettings = PAIR, **file_format: Any) -> str | None:
    """Return why a file is refused, None if it is read. Anything else but these two raises."""
    try:
        read_bytes(folder, name, content, columns, FormatSettings(**file_format))
    except DataRejected as error:
        return str(error)
    return None


def plain_rows(content: bytes, delimiter: str = ",") -> list[list[str]] | None:
    """Return the header and the rows that the plain csv module sees in the whole decoded text, None if it refuses.

    The oracle: no stream, no blocks, no chunks.
    """
    try:
        text = content.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        return None
    if "\0" in text or len({len(row) for row in rows}) != 1:
        return None
    return rows


def plain_pairs(content: bytes, delimiter: str = ",", a: str = "text_a", b: str = "text_b") -> list[Any] | None:
    """Return the pairs of a CSV file as the oracle sees them, None if the file must be refused."""
    rows = plain_rows(content, delimiter)
    if rows is None or len(rows) < 2:
        return None
    header, *rows = rows
    read = [name for name in (a, b, *readers.TEXT_COLUMNS[2:]) if name in header]
    if not {a, b} <= set(read) or any(header.count(name) > 1 for name in read):
        return None
    return [(row[header.index(a)], row[header.index(b)]) for row in rows]


def csv_bytes(rows: Sequence[Sequence[Any]], **dialect: Any) -> bytes:
    """Return what csv.writer writes."""
    sink = io.StringIO(newline="")
    csv.writer(sink, **dialect).writerows(rows)
    return sink.getvalue().encode()


def json_bytes(rows: Sequence[Mapping[str, Any]], **options: Any) -> bytes:
    """Return JSON Lines."""
    return "".join(json.dumps(row, **options) + "\n" for row in rows).encode("utf-8", "surrogatepass")


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    """Return a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    """Return one zstd frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def unzstd(content: bytes) -> bytes:
    """Return what is in all frames."""
    with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
        return bytes(stream.read())


def many_rows(count: int, end: str = "\r\n") -> Iterator[str]:
    """Yield rows of three fields, each of two lines."""
    for number in range(count):
        yield f'"first{end}second {number}",转账 {number},1{end}'
