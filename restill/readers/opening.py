"""Opens a file of pairs, whatever its format and compression, and says what was found."""

import contextlib
import gzip
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import IO, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from restill.errors import DataRejected
from restill.readers.delimited import Delimited, shown_character
from restill.readers.json_lines import JsonLines
from restill.readers.parquet import ParquetRows
from restill.readers.refusals import refusing, shown_name
from restill.readers.text import Text
from restill.settings import ColumnSettings, FormatSettings

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
FORMATS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON Lines", ".ndjson": "JSON Lines", ".parquet": "Parquet"}
COPY_BYTES = 1024**2


class Detected(BaseModel):
    """How a file turned out to be written; None where its format has no such thing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str  # a value of FORMATS
    compression: str | None
    encoding: str | None
    delimiter: str | None
    quote: str | None
    line_end: str | None  # LF, CRLF, CR or mixed, in the first rows; None also if there is one line without end
    columns: tuple[str, ...]
    declared: tuple[str, ...]  # which of FormatSettings the user declared

    @property
    def sentence(self) -> str:
        """Return it for a person, such as "CSV, gzip, UTF-8, ';' between fields (detected), CRLF"."""

        def origin(field: str) -> str:
            return " (declared)" if field in self.declared else ""

        parts = [self.format, self.compression, self.encoding and self.encoding + origin("encoding")]
        if self.delimiter is not None:
            found = self.format == "CSV" and "header" not in self.declared  # else it is the format's own
            how = origin("delimiter") or (" (detected)" if found else "")
            parts.append(f"{shown_character(self.delimiter)} between fields{how}")
        if "quote" in self.declared:
            parts.append(f"{shown_character(self.quote) if self.quote else 'nothing'} around fields (declared)")
        if "escape" in self.declared:
            parts.append("escaped characters (declared)")
        if "header" in self.declared:
            parts.append("no header (declared)")
        parts.append(self.line_end)
        return ", ".join(part for part in parts if part)


class Reading:
    """A file that is being read: iterate over it once for batches of RAW_SCHEMA, at most CHUNK_ROWS rows each.

    Iterating raises DataRejected at whatever cannot be read as declared, and at the end if there was no row.
    """

    def __init__(self, path: Path, detected: Detected, batches: Iterator[pa.RecordBatch]) -> None:
        """Take what `open_file` found."""
        self.detected = detected
        self._path = path
        self._batches = batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches in order."""
        rows = 0
        while True:
            with refusing(self._path):  # around the reading alone: what the caller does with a batch may fail too
                batch = next(self._batches, None)
            if batch is None:
                break
            rows += batch.num_rows
            yield batch
        if rows == 0:
            raise DataRejected(f"{shown_name(self._path)} has no rows.", hint="Check how the file was made.")


class _Rows(Protocol):
    @property
    def header(self) -> tuple[str, ...]: ...

    def batches(self) -> Iterator[pa.RecordBatch]: ...


def is_known(name: str) -> bool:
    """Return whether a file's name says a known format."""
    return _formats(name)[0] is not None


@contextlib.contextmanager
def open_file(path: Path, columns: ColumnSettings, file_format: FormatSettings) -> Iterator[Reading]:
    """Open a file of pairs to be read in one pass, or refuse it.

    The format is told by the name: .csv, .tsv, .jsonl or .ndjson, .parquet, each also with .gz or .zst behind it.
    Text is UTF-8 unless a byte order mark or `file_format` says otherwise.

    Raises: DataRejected naming file, line or byte, what was found and what was expected, for what header and first
        bytes show; iterating raises it for the rest. OSError if there is no room to unpack a compressed Parquet file.
    """
    kind, compression = _formats(path.name)
    name = shown_name(path)
    if kind is None:
        packed = " A zip archive is none; unpack it." if path.suffix.lower() == ".zip" else ""
        raise DataRejected(
            f"{name}: its name says no known format.",
            hint=f"Name it {', '.join(FORMATS)}, with .gz or .zst behind if it is compressed.{packed}",
        )
    with contextlib.ExitStack() as opened:
        with refusing(path):
            file = opened.enter_context(_unpacking(path, compression))
        if kind == "Parquet" and compression:
            file = opened.enter_context(_unpacked(file, path))
        with refusing(path):
            detected, rows = _begin(file, name, kind, compression, columns, file_format)
        yield Reading(path, detected, rows.batches())


def _begin(
    file: IO[bytes],
    name: str,
    kind: str,
    compression: str | None,
    columns: ColumnSettings,
    file_format: FormatSettings,
) -> tuple[Detected, _Rows]:
    """Read as far as the header."""
    encoding = delimiter = quote = line_end = None
    declared: tuple[str, ...] = ()
    heeded: tuple[str, ...] = ("encoding",)
    rows: ParquetRows | JsonLines | Delimited
    if kind == "Parquet":
        rows = ParquetRows(file, name, columns)
    else:
        text = Text(file, name, file_format)
        encoding = text.encoding
        if kind == "JSON Lines":
            rows = JsonLines(text, columns)
        else:
            rows = Delimited(text, columns, file_format, tabs=kind == "TSV")
            delimiter, quote = rows.delimiter, file_format.quote
            heeded = tuple(FormatSettings.model_fields)
        line_end = rows.line_end
        defaults = FormatSettings()
        declared = tuple(field for field in heeded if getattr(file_format, field) != getattr(defaults, field))
    return (
        Detected(
            format=kind,
            compression=compression,
            encoding=encoding,
            delimiter=delimiter,
            quote=quote,
            line_end=line_end,
            columns=rows.header,
            declared=declared,
        ),
        rows,
    )


def _formats(name: str) -> tuple[str | None, str | None]:
    """Return format and compression that a file's name says."""
    path = PurePath(name)
    compression = COMPRESSIONS.get(path.suffix.lower())
    return FORMATS.get((PurePath(path.stem) if compression else path).suffix.lower()), compression


@contextlib.contextmanager
def _unpacking(path: Path, compression: str | None) -> Iterator[IO[bytes]]:
    """Open a file as a stream of what is in it. Several gzip members or zstd frames are one stream."""
    with path.open("rb") as plain:
        if compression == "gzip":
            # gzip checks length and CRC of each member, and refuses what is behind the last, but zeros.
            with gzip.open(plain, "rb") as packed, io.BufferedReader(packed, COPY_BYTES) as file:
                yield file
        elif compression == "zstd":
            with pa.input_stream(plain, compression="zstd") as packed, io.BufferedReader(packed, COPY_BYTES) as file:
                yield file
        else:
            yield plain


@contextlib.contextmanager
def _unpacked(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Unpack into a temporary file: Parquet is read from its end, which a compressed stream cannot give."""
    with tempfile.TemporaryFile() as plain:
        while True:
            with refusing(path):
                block = file.read(COPY_BYTES)
            if not block:
                break
            plain.write(block)  # a full disk is not the file's fault
        plain.seek(0)
        yield plain
