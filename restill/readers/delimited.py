"""CSV and TSV, row by row, as RFC 4180 has it."""

import contextlib
import csv
import itertools
from collections.abc import Iterator
from typing import Literal, TypedDict

import pyarrow as pa

from restill.errors import DataRejected
from restill.readers.columns import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    REQUIRED,
    find_columns,
    raw_batch,
    text_array,
    wanted_columns,
)
from restill.readers.refusals import missing_columns, refusal
from restill.readers.text import MAX_LINE_BYTES, Text, line_end, split_lines
from restill.settings import ColumnSettings, FormatSettings

DELIMITERS = (",", ";", "\t", "|")  # what is tried when none is declared
LINE_END_ROWS = 1000  # rows that are looked at to tell how lines end


class Dialect(TypedDict):
    """The arguments of `csv.reader`."""

    delimiter: str
    quotechar: str | None
    quoting: Literal[0, 3]  # csv.QUOTE_MINIMAL or csv.QUOTE_NONE
    escapechar: str | None
    strict: bool


class Delimited:
    """The rows of one CSV or TSV file.

    Attributes:
        header: the names of its columns; without a header row they are "1", "2" and so on.
        delimiter: the character between fields.
        line_end: LF, CRLF, CR, mixed, or None in a file of one line.
    """

    def __init__(self, text: Text, columns: ColumnSettings, settings: FormatSettings, *, tabs: bool) -> None:
        """Read the header.

        Raises: DataRejected if it cannot be read, or lacks a column.
        """
        # Text refuses what is too long, and says where. The csv module's own limit is one for the process.
        csv.field_size_limit(2 * MAX_LINE_BYTES)
        self._text = text
        self.delimiter = settings.delimiter
        if self.delimiter == "auto":
            self.delimiter = "\t" if tabs else "," if not settings.header else _find_delimiter(text, columns, settings)
        self._dialect = _dialect(settings, self.delimiter)
        self._reader = csv.reader(text.lines(), **self._dialect)
        self._first: list[str] | None = None  # a row that was read to count its fields
        row = self._next_row()
        if settings.header:
            self.header = tuple(row or ())
        else:
            self.header = tuple(str(number) for number in range(1, len(row or ()) + 1))
            self._first = row
        self.line_end = _row_ends(text.first, self._dialect)
        self._places = find_columns(self.header, columns, text.name) if row is not None else {}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of RAW_SCHEMA; once only.

        Raises: DataRejected at the first row that cannot be read or has not as many fields as the header.
        """
        text, reader, width = self._text, self._reader, len(self.header)
        # One flat list of fields: with a list for each row, up to a third of the time is garbage collection.
        fields: list[str] = [] if self._first is None else self._first[:]
        full = CHUNK_ROWS * width
        done = 0
        enough = text.bytes_read + CHUNK_BYTES
        try:
            for row in reader:
                if len(row) == width:
                    fields += row
                elif row:  # a blank line is no row
                    raise self._unreadable(f"has {_fields(len(row))}", f"{_fields(width)}, as in the {self._model}")
                text.row_start = reader.line_num + 1
                if len(fields) == full or (text.bytes_read > enough and fields):
                    yield self._batch(fields, done + 1)
                    done += len(fields) // width
                    fields = []
                    enough = text.bytes_read + CHUNK_BYTES
        except csv.Error as error:
            raise self._not_csv(error) from error
        if fields:
            yield self._batch(fields, done + 1)

    def _batch(self, fields: list[str], first_row: int) -> pa.RecordBatch:
        width = len(self.header)
        arrays = {own: text_array(fields[place::width]) for own, place in self._places.items()}
        return raw_batch(arrays, len(fields) // width, first_row)

    def _next_row(self) -> list[str] | None:
        self._text.row_start = 1
        try:
            for row in self._reader:
                if row:
                    self._text.row_start = self._reader.line_num + 1
                    return row
                self._text.row_start = self._reader.line_num + 1
        except csv.Error as error:
            raise self._not_csv(error) from error
        return None

    @property
    def _model(self) -> str:
        return "header" if self._first is None else "first row"

    def _not_csv(self, error: csv.Error) -> DataRejected:
        quote = self._dialect["quotechar"]
        expected = (
            f"fields as in RFC 4180: a field that opens with {quote} closes with it, and a {quote} inside is doubled"
            if quote
            else "fields without quotes, as declared"
        )
        return self._unreadable(f"cannot be read: {error}", expected)

    def _unreadable(self, found: str, expected: str) -> DataRejected:
        return self._text.refusal(self._text.row_start or 1, f"the row that begins here {found}", expected)


def shown_character(character: str) -> str:
    """Return a delimiter or quote for a person."""
    return "tab" if character == "\t" else f"'{character}'"


def _fields(number: int) -> str:
    return "1 field" if number == 1 else f"{number:,} fields"


def _dialect(settings: FormatSettings, delimiter: str) -> Dialect:
    # Where an escape character is declared, doubled quotes are still understood: no text can mean something else by
    # them, and writers differ.
    return Dialect(
        delimiter=delimiter,
        quotechar=settings.quote or None,
        quoting=csv.QUOTE_MINIMAL if settings.quote else csv.QUOTE_NONE,
        escapechar=settings.escape or None,
        strict=True,
    )


def _find_delimiter(text: Text, columns: ColumnSettings, settings: FormatSettings) -> str:
    """Return the delimiter under which the header holds the required columns.

    Raises: DataRejected if there is none, or more than one.
    """
    tried: dict[str, list[str]] = {}
    for delimiter in DELIMITERS:
        if delimiter in (settings.quote, settings.escape):
            continue
        rows = csv.reader(split_lines(text.first), **_dialect(settings, delimiter))
        with contextlib.suppress(csv.Error):
            tried[delimiter] = next((row for row in rows if row), [])
    required = {getattr(columns, own) for own in REQUIRED}
    fitting = [delimiter for delimiter, header in tried.items() if required <= set(header)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise refusal(
            text.name,
            "header",
            f"it holds the columns with {' and also with '.join(map(shown_character, fitting))} between fields",
            "data.format.delimiter to say which it is",
        )
    if not any(tried.values()):
        return ","  # nothing to look at, or nothing that can be read: reading on says what is wrong
    closest = max(tried, key=lambda delimiter: (len(required & set(tried[delimiter])), len(tried[delimiter])))
    absent = [column for column in wanted_columns(columns) if column not in tried[closest]]
    note = f" with {shown_character(closest)} between fields (tried: {' '.join(map(shown_character, tried))})"
    raise missing_columns(text.name, "header", absent, tried[closest], note)


def _row_ends(first: str, dialect: Dialect) -> str | None:
    """Return how rows end in the first block; line ends inside quotes are text and don't count."""
    last = [""]

    def lines() -> Iterator[str]:
        for line in split_lines(first):
            last[0] = line
            yield line

    ends: list[str] = []
    with contextlib.suppress(csv.Error):
        ends.extend(last[0] for _ in itertools.islice(csv.reader(lines(), **dialect), LINE_END_ROWS))
    return line_end(ends)
