"""Parquet."""

import datetime
import gzip
import tempfile

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import parquet_bytes, read_bytes, read_file, refusal, texts

from restill import readers
from restill.settings import ColumnSettings, FormatSettings

NOON = datetime.datetime(2024, 1, 2, 12, 0, 0, 5)
BERLIN = pa.timestamp("us", tz="Europe/Berlin")


def table(**columns: object) -> pa.Table:
    return pa.table({"text_a": ["a"], "text_b": ["b"]} | columns)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable Parquet"),
        (b"PAR1", "not readable Parquet"),
        (b"text_a,text_b\na,b\n", "not readable Parquet"),
        (parquet_bytes(table())[:-9], "not readable Parquet"),
        (parquet_bytes(table())[9:], "p.parquet"),
        (parquet_bytes(table().slice(0, 0)), "no rows"),
        (parquet_bytes(pa.table({"text_a": ["a"]})), "there is no column 'text_b'"),
        (parquet_bytes(table(text_a=[1])), "column 'text_a': its type is int64"),
        (parquet_bytes(table(text_a=[b"a"])), "column 'text_a': its type is binary"),
        (parquet_bytes(table(text_a=[["a"]])), "column 'text_a': its type is list"),
        (parquet_bytes(table(label=[NOON])), "column 'label': its type is timestamp"),
        (parquet_bytes(table(created_at=[1])), "column 'created_at': its type is int64"),
        (parquet_bytes(table(split=[1])), "column 'split': its type is int64"),
        (parquet_bytes(pa.Table.from_arrays([pa.array(["a"])] * 3, ["text_a", "text_b", "text_a"])), "names 2 columns"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, content, said):
    assert said in refusal(tmp_path, "p.parquet", content)


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_of_every_kind_is_read(tmp_path, kind):
    values = ["转账", None, "", "转账"]
    content = parquet_bytes(pa.table({"text_b": pa.array(values, kind), "text_a": pa.array(values)}))
    assert texts(read_bytes(tmp_path, "p.parquet", content)) == [(value, value) for value in values]


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        (pa.array([0, 1, None]), ["0", "1", None]),
        (pa.array([0.0, 0.25, None], pa.float32()), ["0", "0.25", None]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.nulls(3), [None] * 3),
        (pa.array(["0", "x", None]).dictionary_encode(), ["0", "x", None]),
    ],
)
def test_labels_become_text(tmp_path, labels, read):
    content = parquet_bytes(pa.table({"text_a": ["a"] * 3, "text_b": ["b"] * 3, "label": labels}))
    assert read_bytes(tmp_path, "p.parquet", content)["label"].to_pylist() == read


@pytest.mark.parametrize(
    ("times", "read"),
    [
        (pa.array([NOON.date(), None]), "2024-01-02"),
        (pa.array([NOON, None]), "2024-01-02T12:00:00.000005"),
        (pa.array([NOON, None], BERLIN), "2024-01-02T12:00:00.000005Z"),
        (pa.array([NOON.replace(microsecond=0), None], pa.timestamp("s")), "2024-01-02T12:00:00.000"),
        (pa.array(["yesterday", None]), "yesterday"),
    ],
)
def test_times_become_iso_text(tmp_path, times, read):
    content = parquet_bytes(pa.table({"text_a": ["a"] * 2, "text_b": ["b"] * 2, "created_at": times}))
    assert read_bytes(tmp_path, "p.parquet", content)["created_at"].to_pylist() == [read, None]


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    for values in (bad, bad.dictionary_encode(), bad.cast(pa.large_string())):
        assert "Invalid UTF8" in refusal(tmp_path, "p.parquet", parquet_bytes(table(text_a=values)))


def test_a_flipped_bit_is_found_by_the_pages_checksum(tmp_path):
    content = parquet_bytes(table(text_a=["needle"]), write_page_checksum=True, compression="none")
    assert content.count(b"needle") > 0
    assert "p.parquet" in refusal(tmp_path, "p.parquet", content.replace(b"needle", b"noodle", 1))


def test_names_with_dots_and_nested_columns_are_told_apart(tmp_path):
    content = parquet_bytes(pa.table({"a": [{"b": 1}], "a.b": ["x"], "c": ["y"], "c.d": ["z"]}))
    assert texts(read_bytes(tmp_path, "p.parquet", content, ColumnSettings(text_a="a.b", text_b="c"))) == [("x", "y")]


def test_a_compressed_file_is_unpacked_and_its_temporary_file_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    packed = gzip.compress(parquet_bytes(table()))
    assert texts(read_bytes(tmp_path, "p.parquet.gz", packed)) == [("a", "b")]
    assert "cannot be read" in refusal(tmp_path, "p.parquet.gz", packed[:-3])
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_full_disk_while_unpacking_is_not_the_files_fault(tmp_path):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, _):
            raise OSError(28, "No space left on device")

    path = tmp_path / "p.parquet.gz"
    path.write_bytes(gzip.compress(parquet_bytes(table())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", Full)
        with pytest.raises(OSError, match="No space left"):
            read_file(path)


def test_one_huge_row_group_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "p.parquet"
    rng = np.random.default_rng(1)
    texts_a = pa.array([rng.bytes(300).hex() for _ in range(100_000)])  # 600 bytes each, no two alike
    with pq.ParquetWriter(
        path, pa.schema([("text_a", pa.string()), ("text_b", pa.string())]), compression="none"
    ) as sink:
        sink.write_table(pa.table({"text_a": pa.concat_arrays([texts_a] * 3), "text_b": ["b"] * 300_000}), 300_000)
    assert path.stat().st_size > 170e6
    assert pq.ParquetFile(path).num_row_groups == 1
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated() + texts_a.nbytes
    del texts_a
    process = psutil.Process()
    with readers.open_file(path, ColumnSettings(), FormatSettings()) as reading:
        rows, most, first = 0, 0, None
        for batch in reading:
            rows += batch.num_rows
            first = first or process.memory_info().rss
            most = max(most, process.memory_info().rss - first, pool.bytes_allocated() - before)
    assert rows == 300_000
    assert most < 120e6
