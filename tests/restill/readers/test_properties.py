"""Whatever the bytes: rows as an oracle reads them, or DataRejected, and nothing else."""

import csv
import gzip
import io
import json
import string
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from reading import (
    csv_bytes,
    json_bytes,
    parquet_bytes,
    plain_pairs,
    read_bytes,
    texts,
    unzstd,
    zstd,
)

from restill.errors import DataRejected
from restill.readers import columns, delimited, text
from restill.readers.text import Text
from restill.settings import ColumnSettings, FormatSettings

few = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SUFFIXES = st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"])
PACKS = st.sampled_from(["", ".gz", ".zst"])
WORDS = st.one_of(st.text(max_size=8), st.text("a,\"'\n\r\t;|\\ 转\ufeff", max_size=8))
# What a UTF-8 file can hold: no lone surrogates, and NUL is refused.
FIELDS = WORDS.map(lambda word: word.encode("utf-8", "ignore").decode().replace("\0", ""))
PAIRS = st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=12)
BLOCKS = st.sampled_from([5, 16, 64, 256 * 1024])


@contextmanager
def small(block: int) -> Iterator[Path]:
    """Read in tiny blocks and chunks, so that every boundary is met."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(text, "BLOCK_BYTES", block)
        patch.setattr(delimited, "CHUNK_ROWS", 3)
        yield Path(folder)


def rows_or_none(folder: Path, name: str, content: bytes, **options: Any) -> list[Any] | None:
    try:
        return texts(read_bytes(folder, name, content, ColumnSettings(), FormatSettings(**options)))
    except DataRejected as error:
        if not (str(error).startswith(name) and error.hint):
            pytest.fail(f"{error} {error.hint}")
        return None


@few
@given(st.binary(max_size=300), SUFFIXES, PACKS, BLOCKS)
@example(b"\xff\xfe", ".csv", "", 5)
@example(b"\xff\xfe\0\0a", ".csv", "", 5)
@example(b"\xef\xbb\xbf\r", ".tsv", "", 5)
def test_random_bytes_are_rows_or_a_refusal(content, suffix, pack, block):
    with small(block) as folder:
        rows_or_none(folder, f"p{suffix}{pack}", content)
        packed = {"": bytes, ".gz": gzip.compress, ".zst": zstd}[pack](content)
        rows_or_none(folder, f"p{suffix}{pack}", packed)


@few
@given(
    st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b"\r\n", b"a", "é".encode(), b"\xff", b"\0", b" ", b'""'])),
    BLOCKS,
)
def test_random_csv_is_what_the_oracle_says(pieces, block):
    """Refused exactly if the plain csv module, on the whole text, refuses it or finds ragged rows."""
    content = b"text_a,text_b\n" + b"".join(pieces)
    with small(block) as folder:
        assert rows_or_none(folder, "p.csv", content, delimiter=",") == plain_pairs(content)


@few
@given(
    PAIRS,
    st.sampled_from(",;\t|: a"),
    st.sampled_from("\"'~"),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    BLOCKS,
)
def test_whatever_a_csv_writer_writes_is_read_back(pairs, delimiter, quote, quoting, end, doubled, block):
    if end != "\r\n" and quoting == csv.QUOTE_MINIMAL:  # before Python 3.13 the writer leaves the other line end bare
        pairs = [tuple(field.replace("\r", "").replace("\n", "") for field in pair) for pair in pairs]
    content = csv_bytes(
        [("text_a", "text_b"), *pairs],
        delimiter=delimiter,
        quotechar=quote,
        quoting=quoting,
        lineterminator=end,
        doublequote=doubled,
        escapechar=None if doubled else "\\",
    )
    options = {"delimiter": delimiter, "quote": quote, "escape": "" if doubled else "\\"}
    if not doubled:  # before Python 3.12.? the writer leaves the escape character itself bare
        assume(not any("\\" in field for pair in pairs for field in pair))
    with small(block) as folder:
        assert rows_or_none(folder, "p.csv", content, **options) == pairs
        if delimiter in ",;\t|":
            assert rows_or_none(folder, "p.csv", content, **(options | {"delimiter": "auto"})) == pairs


@few
@given(st.lists(st.tuples(*[st.text(string.ascii_letters + "|' \"转", max_size=6)] * 2), min_size=1), BLOCKS)
def test_fields_without_quotes_are_read_back_as_they_are(pairs, block):
    content = "".join(f"{a}\t{b}\n" for a, b in [("text_a", "text_b"), *pairs]).encode()
    with small(block) as folder:
        assert rows_or_none(folder, "p.tsv", content, quote="") == pairs


@few
@given(PAIRS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030"]), BLOCKS)
def test_every_encoding_is_read_back_across_blocks(pairs, encoding, block):
    content = csv_bytes([("text_a", "text_b"), *pairs], quoting=csv.QUOTE_ALL).decode().encode(encoding)
    declared = "auto" if encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32") else encoding
    with small(block) as folder:
        assert rows_or_none(folder, "p.csv", content, encoding=declared) == pairs


@few
@given(st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=6)), st.text(max_size=6)), min_size=1), st.booleans())
def test_whatever_json_dumps_is_read_back(pairs, ascii_only):
    content = json_bytes([{"text_a": a, "text_b": b} for a, b in pairs], ensure_ascii=ascii_only)
    with small(64) as folder:
        assert rows_or_none(folder, "p.jsonl", content) == pairs


@few
@given(st.lists(st.tuples(st.one_of(st.none(), FIELDS), FIELDS), min_size=1), st.integers(1, 4), st.booleans())
def test_whatever_arrow_writes_is_read_back(pairs, group, dictionary):
    table = pa.table({"text_b": [b for _, b in pairs], "text_a": pa.array([a for a, _ in pairs], pa.string())})
    content = parquet_bytes(table, row_group_size=group, use_dictionary=dictionary)
    with small(64) as folder:
        assert rows_or_none(folder, "p.parquet", content) == pairs


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "drop"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=3,
)


def mutated(content: bytes, mutations: list[tuple[str, int, bytes]]) -> bytes:
    for kind, where, data in mutations:
        at = where % (len(content) + 1)
        match kind:
            case "flip":
                content = (
                    content[:at]
                    + bytes([content[at] ^ data[0] for at in range(at, min(at + 1, len(content)))])
                    + content[at + 1 :]
                )
            case "cut":
                content = content[:at]
            case "insert":
                content = content[:at] + data + content[at:]
            case _:
                content = content[:at] + content[at + len(data) :]
    return content


@few
@given(PAIRS, MUTATIONS, BLOCKS)
def test_a_damaged_csv_is_refused_or_is_what_the_oracle_reads(pairs, mutations, block):
    content = mutated(csv_bytes([("text_a", "text_b"), *pairs]), mutations)
    assume(not content.startswith((b"\xff\xfe", b"\xfe\xff")))
    with small(block) as folder:
        assert rows_or_none(folder, "p.csv", content, delimiter=",") == plain_pairs(content)


@few
@given(PAIRS, MUTATIONS, st.sampled_from(["gz", "zst"]))
def test_a_damaged_archive_is_refused_or_unpacks_to_what_is_read(pairs, mutations, pack):
    original = csv_bytes([("text_a", "text_b"), *pairs * 3])
    content = mutated({"gz": gzip.compress, "zst": zstd}[pack](original), mutations)
    with small(256 * 1024) as folder:
        got = rows_or_none(folder, f"p.csv.{pack}", content, delimiter=",")
    if got is not None:
        try:
            unpacked = gzip.decompress(content) if pack == "gz" else unzstd(content)
        except (OSError, EOFError, zlib.error):
            pytest.fail("a damaged archive was read")
        assert got == plain_pairs(unpacked)


@few
@given(PAIRS, MUTATIONS)
def test_damaged_json_lines_are_refused_or_are_what_json_reads(pairs, mutations):
    content = mutated(json_bytes([{"text_a": a, "text_b": b} for a, b in pairs], ensure_ascii=False), mutations)
    with small(16) as folder:
        got = rows_or_none(folder, "p.jsonl", content)
    if got is not None:
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
        objects = [json.loads(line) for line in lines if line.strip(" \t\r\n")]
        assert len(objects) == len(got)
        # A lone surrogate that came in by damage to an escape has become U+FFFD.
        expected = [
            tuple(columns.without_surrogates(row[own] or "") for own in ("text_a", "text_b")) for row in objects
        ]
        assert [(a or "", b or "") for a, b in got] == expected


@few
@given(PAIRS, MUTATIONS, st.sampled_from(["none", "snappy", "zstd"]))
def test_damaged_parquet_is_refused_or_is_what_arrow_reads(pairs, mutations, codec):
    table = pa.table({"text_a": [a for a, _ in pairs], "text_b": [b for _, b in pairs]})
    content = mutated(parquet_bytes(table, compression=codec, row_group_size=5), mutations)
    with small(64) as folder:
        got = rows_or_none(folder, "p.parquet", content)
    if got is not None:
        whole = pq.read_table(io.BytesIO(content), columns=["text_a", "text_b"])
        assert got == list(zip(whole["text_a"].to_pylist(), whole["text_b"].to_pylist(), strict=True))


@few
@given(
    st.binary(max_size=60),
    st.sampled_from(["utf-8", "utf-16-le", "utf-32-be", "gb18030", "cp932", "cp1252", "hz"]),
    BLOCKS,
)
def test_a_byte_that_does_not_decode_is_where_the_whole_text_says(content, encoding, block):
    """The place found block by block is the one that decoding everything at once gives."""
    assume(not content.startswith(tuple(text._MARKS)) and not content.startswith(tuple(text._MAGIC)))
    with small(block):
        try:
            lines = list(Text(io.BytesIO(content), "p.csv", FormatSettings(encoding=encoding)).lines())
        except DataRejected as error:
            said = str(error)
        else:
            assert "".join(lines) == content.decode(encoding).removeprefix("\ufeff")
            assert lines == list(io.StringIO("".join(lines), newline=""))
            return
    try:
        whole = content.decode(encoding)
    except UnicodeDecodeError as error:
        whole = content[: error.start].decode(encoding)
        place = error.start
        if "\0" not in whole:
            assert f"byte {place:,} (0x{content[place]:02x})" in said
    if "\0" in whole:
        place = len(whole[: whole.index("\0")].encode(encoding))
        assert encoding in ("hz", "cp932", "gb18030") or f"byte {place:,} is NUL" in said
    before = content[:place].decode(encoding, "ignore")
    ends = before.count("\n") + before.count("\r") - before.count("\r\n")
    assert encoding == "hz" or f"line {ends + 1:,}:" in said
