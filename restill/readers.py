"""Incoming files, read strictly: either every row is read as declared, or the file is refused whole.

CSV and TSV follow RFC 4180: a quote that opens a field must close it, so nothing is ever merged or lost unseen. A file
is streamed, but its rows are held as one Arrow table: memory is about the size of the text in the file.
"""

import contextlib
import csv
import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from restill.errors import DataRejected
from restill.settings import ColumnSettings

CHUNK_ROWS = 65_536
MAX_LINE_BYTES = 16 * 1024**2  # a longer line is no sentence pair; reading on would fill the memory
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
FORMATS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON Lines", ".ndjson": "JSON Lines", ".parquet": "Parquet"}
REQUIRED = ("text_a", "text_b")
TEXT_COLUMNS = ("text_a", "text_b", "label", "source", "language")

# What a file is read into: everything as the text it was, and `row`, 1 for the first row after the header.
# Blank lines are no rows. A value that is absent is null.
RAW_SCHEMA = pa.schema([pa.field(name, pa.large_string()) for name in TEXT_COLUMNS] + [pa.field("row", pa.int64())])

Record = tuple[str | None, ...]  # the values of one row, in the order of TEXT_COLUMNS


def read_file(path: Path, columns: ColumnSettings) -> pa.Table:
    """Read a file of pairs into a table of `RAW_SCHEMA`, or refuse it.

    The format is told by the name: .csv, .tsv, .jsonl or .ndjson, .parquet, each also with .gz or .zst behind it.
    Text must be UTF-8 (a byte order mark is fine).

    Raises: DataRejected naming file, line or byte, what was found and what was expected.
    """
    compression = COMPRESSIONS.get(path.suffix.lower())
    kind = FORMATS.get((Path(path.stem) if compression else path).suffix.lower())
    if kind is None:
        raise DataRejected(
            f"{path.name}: its name says no known format.",
            hint=f"Name it {', '.join(FORMATS)}, with .gz or .zst behind if it is compressed.",
        )
    try:
        with _opened(path, compression) as file:
            if kind == "Parquet":
                # Parquet is read from its end, which a compressed stream cannot give.
                with _unpacked(file) if compression else contextlib.nullcontext(file) as whole:
                    table = _read_parquet(whole, path.name, columns)
            else:
                lines = _Lines(file, path.name)
                records = (
                    _json_records(lines, columns)
                    if kind == "JSON Lines"
                    else _csv_records(lines, columns, delimiter="\t" if kind == "TSV" else ",")
                )
                table = _collect(records)
    except FileNotFoundError as error:
        raise DataRejected(f"There is no file {path}.", hint="Check the path.") from error
    except (OSError, EOFError, zlib.error) as error:
        # gzip says BadGzipFile or EOFError, Arrow's zstd and Parquet readers say OSError.
        raise DataRejected(
            f"{path.name} cannot be read: {str(error).rstrip('.')}.",
            hint="It is truncated, damaged, or not in the format that its name says. Make or copy it again.",
        ) from error
    if table.num_rows == 0:
        raise DataRejected(f"{path.name} has no rows.", hint="Check how the file was made.")
    return table


def _refusal(name: str, where: str, found: str, expected: str) -> DataRejected:
    return DataRejected(f"{name}, {where}: {found}.", hint=f"Expected: {expected}. Correct it and retry.")


@contextlib.contextmanager
def _opened(path: Path, compression: str | None) -> Iterator[IO[bytes]]:
    if compression == "gzip":
        with gzip.open(path, "rb") as packed, io.BufferedReader(packed, 1 << 20) as file:
            yield file  # gzip checks length and CRC at the end
    elif compression == "zstd":
        with pa.input_stream(path, compression="zstd") as stream, io.BufferedReader(stream, 1 << 20) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file


@contextlib.contextmanager
def _unpacked(file: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as plain:
        shutil.copyfileobj(file, plain, 1 << 20)
        plain.seek(0)
        yield plain


class _Lines:
    """The decoded lines of a file, and how far it was read; lines end in LF or CRLF and keep their ends."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self.number = 0  # of the line given last, from 1
        self._file = file

    def __iter__(self) -> Iterator[str]:
        offset = 0
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            self.number += 1
            if len(line) > MAX_LINE_BYTES:
                raise self.refusal(f"the line is longer than {MAX_LINE_BYTES:,} bytes", "one pair in a line")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                looks = " (it looks like UTF-16)" if offset == 0 and line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
                byte = offset + error.start
                found = f"byte {byte:,} (0x{line[error.start]:02x}) is not UTF-8{looks}"
                raise self.refusal(found, "text in UTF-8") from error
            if "\0" in text:
                raise self.refusal(f"byte {offset + line.index(0):,} is NUL", "text without NUL bytes")
            yield text.removeprefix("\ufeff") if offset == 0 else text
            offset += len(line)

    def refusal(self, found: str, expected: str, *, line: int | None = None) -> DataRejected:
        return _refusal(self.name, f"line {line or self.number:,}", found, expected)


def _csv_records(lines: _Lines, columns: ColumnSettings, *, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE_BYTES)  # a long field is a row to quarantine, not an unreadable file
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    start = 1

    def rows() -> Iterator[list[str]]:
        nonlocal start
        try:
            for row in reader:
                if row:  # a blank line is no row
                    yield row
                start = reader.line_num + 1
        except csv.Error as error:
            raise lines.refusal(
                f"the row that begins here cannot be read: {error}",
                'fields as in RFC 4180: a field that opens with " closes with it, and a " inside is doubled',
                line=start,
            ) from error

    found = rows()
    header = next(found, None)
    if header is None:
        return
    places = _places(header, columns, lines.name)
    picked = [places.get(name) for name in TEXT_COLUMNS]
    for row in found:
        if len(row) != len(header):
            raise lines.refusal(
                f"the row that begins here has {len(row)} fields", f"{len(header)} fields, as in the header", line=start
            )
        yield tuple(None if place is None else row[place] for place in picked)


def _json_records(lines: _Lines, columns: ColumnSettings) -> Iterator[Record]:
    def whole(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a name occurs twice in one object")
        return members

    decode = json.JSONDecoder(object_pairs_hook=whole).decode
    named = columns.model_dump()
    for line in lines:
        if line.isspace():  # a blank line is no row
            continue
        try:
            members = decode(line.strip())
        except (ValueError, RecursionError) as error:
            raise lines.refusal(f"not valid JSON: {error}", "one JSON object in each line") from error
        if not isinstance(members, dict):
            raise lines.refusal(f"found a JSON {type(members).__name__}", "one JSON object in each line")
        if absent := [named[name] for name in REQUIRED if named[name] not in members]:
            raise _missing(lines.name, f"line {lines.number:,}", absent, list(members))
        yield tuple(_json_text(lines, named[name], members.get(named[name]), name) for name in TEXT_COLUMNS)


def _json_text(lines: _Lines, column: str, value: Any, name: str) -> str | None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            # A lone surrogate has no UTF-8. The replacement character stands for it; the row rules find that.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if value is None:
        return None
    if name == "label" and isinstance(value, bool | int | float):
        return str(value)
    raise lines.refusal(f"{column!r} is a {type(value).__name__}", f"{column!r} to be text")


def _collect(records: Iterator[Record]) -> pa.Table:
    batches = []
    row = 1
    chunk: list[Record] = []
    for record in chain(records, (None,)):
        if record is not None:
            chunk.append(record)
        if len(chunk) == CHUNK_ROWS or (record is None and chunk):
            arrays = [pa.array(values, pa.large_string()) for values in zip(*chunk, strict=True)]
            numbers = pa.array(range(row, row + len(chunk)), pa.int64())
            batches.append(pa.record_batch([*arrays, numbers], schema=RAW_SCHEMA))
            row += len(chunk)
            chunk = []
    return pa.Table.from_batches(batches, RAW_SCHEMA)


def _read_parquet(file: IO[bytes], name: str, columns: ColumnSettings) -> pa.Table:
    named: dict[str, str] = columns.model_dump()
    batches = []
    row = 1
    try:
        parquet = pq.ParquetFile(file)
        places = _places(parquet.schema_arrow.names, columns, name)
        for batch in parquet.iter_batches(CHUNK_ROWS, columns=[named[own] for own in places]):
            arrays = [
                _parquet_text(batch[named[own]], named[own], name, own)
                if own in places
                else pa.nulls(batch.num_rows, pa.large_string())
                for own in TEXT_COLUMNS
            ]
            numbers = pa.array(range(row, row + batch.num_rows), pa.int64())
            batches.append(pa.record_batch([*arrays, numbers], schema=RAW_SCHEMA))
            row += batch.num_rows
    except pa.ArrowException as error:
        raise DataRejected(
            f"{name} is not readable Parquet after row {row - 1:,}: {str(error).rstrip('.')}.",
            hint="It is truncated, damaged or not Parquet. Make or copy it again.",
        ) from error
    return pa.Table.from_batches(batches, RAW_SCHEMA)


def _parquet_text(values: pa.Array, column: str, file: str, name: str) -> pa.Array:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not (is_text or pa.types.is_null(kind) or (name == "label" and (is_number or pa.types.is_decimal(kind)))):
        raise _refusal(file, f"column {column!r}", f"its type is {values.type}", "text")
    text = values.cast(pa.large_string())
    text.validate(full=True)  # Arrow does not look at bytes that a file calls UTF-8 until asked
    return text


def _places(header: list[str], columns: ColumnSettings, name: str) -> dict[str, int]:
    """Return where the columns are. An optional one may be absent, unless it was named by the user."""
    named: dict[str, str] = columns.model_dump()
    defaults = ColumnSettings().model_dump()
    wanted = [own for own in TEXT_COLUMNS if own in REQUIRED or named[own] != defaults[own]]
    if absent := [named[own] for own in wanted if named[own] not in header]:
        raise _missing(name, "header", absent, header)
    for column in named.values():
        if header.count(column) > 1:
            raise _refusal(
                name, "header", f"{column!r} names {header.count(column)} columns", "one column of that name"
            )
    return {own: header.index(column) for own, column in named.items() if column in header}


def _missing(name: str, where: str, absent: list[str], header: list[str]) -> DataRejected:
    has = ", ".join(repr(column) for column in header) or "none"
    return DataRejected(
        f"{name}, {where}: there is no column {' or '.join(map(repr, absent))}. Its columns: {has}.",
        hint="Say which columns hold the pairs: --text-a, --text-b and --label, or data.columns in restill.toml.",
    )
