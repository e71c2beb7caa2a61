"""JSON Lines: one object in each line."""

import json
from collections.abc import Iterator
from itertools import chain
from json import JSONDecodeError
from typing import Any

import pyarrow as pa

from restill.errors import DataRejected
from restill.readers.columns import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    REQUIRED,
    named_columns,
    raw_batch,
    text_array,
    wanted_columns,
    without_surrogates,
)
from restill.readers.refusals import missing_columns
from restill.readers.text import Text, line_end, split_lines
from restill.settings import ColumnSettings

_BLANK = " \t\r\n"  # what JSON calls whitespace
_TEXT = {str, type(None)}


class JsonLines:
    """The rows of one JSON Lines file.

    Attributes:
        header: the names in its first object; later ones may leave out optional columns.
        line_end: LF, CRLF, CR, mixed, or None in a file of one line.
    """

    def __init__(self, text: Text, columns: ColumnSettings) -> None:
        """Read the first object.

        Raises: DataRejected if it is not a valid object with the required columns.
        """
        self._text = text
        self._named = named_columns(columns)
        self._wanted = wanted_columns(columns)
        self._objects = self._decoded()
        self._first = next(self._objects, None)
        self.header = tuple(map(without_surrogates, self._first[1])) if self._first else ()
        self.line_end = line_end(split_lines(text.first))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield batches of RAW_SCHEMA; once only.

        Raises: DataRejected at the first line that is no object with the required columns, all text but the label.
        """
        objects: list[dict[str, Any]] = []
        numbers: list[int] = []  # the line of each
        done = 0
        # A null may be left out of an object, but a name that never occurs is a wrong name.
        unseen = set(self._wanted)
        enough = self._text.bytes_read + CHUNK_BYTES
        for number, members in chain((self._first,) if self._first else (), self._objects):
            objects.append(members)
            numbers.append(number)
            if unseen:
                unseen -= members.keys()
            if len(objects) == CHUNK_ROWS or self._text.bytes_read > enough:
                yield self._batch(objects, numbers, done + 1)
                done += len(objects)
                objects, numbers = [], []
                enough = self._text.bytes_read + CHUNK_BYTES
        if unseen and self._first:
            raise missing_columns(self._text.name, "all lines", sorted(unseen), self.header, " in the first line")
        if objects:
            yield self._batch(objects, numbers, done + 1)

    def _batch(self, objects: list[dict[str, Any]], numbers: list[int], first_row: int) -> pa.RecordBatch:
        arrays = {}
        for own, name in self._named.items():
            values = [members.get(name) for members in objects]
            if not set(map(type, values)) <= _TEXT:
                values = [self._as_text(*item, own) for item in zip(numbers, values, strict=True)]
            arrays[own] = text_array(values)
        return raw_batch(arrays, len(objects), first_row)

    def _decoded(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each line that is not blank, and its object."""
        decode = json.JSONDecoder(object_pairs_hook=_members).raw_decode
        required = {self._named[own] for own in REQUIRED}
        for number, line in enumerate(self._text.lines(), 1):
            body = line.rstrip(_BLANK)
            if not body:
                continue  # a blank line is no row
            try:
                members, end = decode(body, 0 if body[0] == "{" else len(body) - len(body.lstrip(_BLANK)))
            except (ValueError, RecursionError) as error:
                where = f"{error.msg}, at character {error.colno}" if isinstance(error, JSONDecodeError) else error
                raise self._refusal(number, line, f"not valid JSON: {where}") from error
            if end < len(body):
                raise self._refusal(number, line, f"not valid JSON: more than one value, at character {end + 1}")
            if type(members) is not dict:
                raise self._refusal(number, line, f"found a JSON {_kind(members)}")
            if not required <= members.keys():
                absent = [name for name in required if name not in members]
                raise missing_columns(self._text.name, f"line {number:,}", sorted(absent), list(members))
            yield number, members

    def _refusal(self, number: int, line: str, found: str) -> DataRejected:
        array = ", as JSON Lines has it, and no array around them" if line.lstrip(_BLANK).startswith("[") else ""
        return self._text.refusal(number, found, f"one JSON object in each line{array}")

    def _as_text(self, line: int, value: Any, own: str) -> str | None:
        if value is None or isinstance(value, str):
            return value
        if own == "label" and isinstance(value, bool | int | float):
            return str(value)
        name = self._named[own]
        raise self._text.refusal(line, f"{name!r} is a JSON {_kind(value)}", f"{name!r} to be text")


def _kind(value: Any) -> str:
    kinds = {dict: "object", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return kinds.get(type(value), "list")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members
