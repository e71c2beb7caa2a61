"""Reading files, row rules and splits."""

import csv
import gzip
import io
import json
import string
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restill import pairs, readers, splits
from restill.errors import DataRejected
from restill.settings import ColumnSettings
from restill.splits import Membership

SHARED = Path(__file__).parents[3] / "shared" / "data"
DIRTY = sorted((SHARED / "dirty").rglob("*.csv*")) if SHARED.is_dir() else []
COLUMNS = ColumnSettings()
HEADER = b"text_a,text_b,label\n"


def read(tmp_path: Path, name: str, content: bytes, columns: ColumnSettings = COLUMNS) -> pa.Table:
    path = tmp_path / name
    path.write_bytes(content)
    return readers.read_file(path, columns)


def raw(*rows: tuple[str | None, str | None, str | None]) -> pa.Table:
    a, b, label = zip(*rows, strict=True)
    nothing = [None] * len(rows)
    columns = [pa.array(values, pa.large_string()) for values in (a, b, label, nothing, nothing)]
    return pa.table([*columns, pa.array(range(1, len(rows) + 1))], schema=readers.RAW_SCHEMA)


def reasons(table: pa.Table, max_characters: int = 50) -> dict[int, str | None]:
    checked = pairs.check_rows(table, max_characters=max_characters)
    found: dict[int, str | None] = dict.fromkeys(checked.accepted["row"])
    return found | dict(checked.quarantined.select("row", "reason").iter_rows())


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


# Reading


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_and_compression_gives_the_same_rows(tmp_path, kind, pack):
    """A newline, a quote and a separator inside a text survive; an empty label stays empty."""
    rows = [{"text_a": 'a "b", c\nd', "text_b": "转账\t吗", "label": "1"}, {"text_a": "e", "text_b": "f", "label": ""}]
    table = pa.Table.from_pylist(rows)
    if kind in ("csv", "tsv"):
        sink = io.StringIO(newline="")
        writer = csv.DictWriter(sink, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        content = sink.getvalue().encode("utf-8-sig")
    else:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode() if kind == "jsonl" else parquet(table)
    suffix = {bytes: "", gzip.compress: ".gz", zstd: ".zst"}[pack]
    got = read(tmp_path, f"p.{kind}{suffix}", pack(content))
    assert got.schema == readers.RAW_SCHEMA
    assert got.select(["text_a", "text_b", "label"]).to_pylist() == rows
    assert got["row"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.csv", b"", "no rows"),
        ("p.csv", HEADER, "no rows"),
        ("p.csv", HEADER + b"a,b,1\nc,d\n", "line 3: the row that begins here has 2 fields"),
        ("p.csv", HEADER + b'a,"b\nb",1\nc,d,1,x\n', "line 4: the row that begins here has 4 fields"),
        ("p.csv", HEADER + b'a,"b,1\nc,d,1\n', "line 2: the row that begins here cannot be read"),
        ("p.csv", HEADER + b'a,"b"c,1\n', "line 2: the row that begins here cannot be read"),
        ("p.csv", HEADER + b"a,b\0,1\n", "line 2: byte 23 is NUL"),
        ("p.csv", HEADER + b"a,\xe9t\xe9,1\n", "line 2: byte 22 (0xe9) is not UTF-8"),
        ("p.csv", "text_a,text_b\na,b\n".encode("utf-16"), "it looks like UTF-16"),
        ("p.csv", b"a,b\nc,d\n", "there is no column 'text_a' or 'text_b'. Its columns: 'a', 'b'"),
        ("p.csv", b"text_a,text_b,label,label\na,b,1,0\n", "'label' names 2 columns"),
        ("p.txt", b"a", "its name says no known format"),
        ("p.csv.gz", gzip.compress(HEADER + b"a,b,1\n" * 999)[:-12], "cannot be read"),
        ("p.csv.zst", zstd(HEADER + b"a,b,1\n" * 999)[:-4], "cannot be read"),
        ("p.parquet", parquet(pa.table({"text_a": ["a"], "text_b": ["b"]}))[:-9], "not readable Parquet"),
        ("p.parquet", parquet(pa.table({"text_a": ["a"]})), "there is no column 'text_b'"),
        ("p.parquet", parquet(pa.table({"text_a": [1], "text_b": ["b"]})), "its type is int64"),
        ("p.jsonl", b'{"text_a": "a", "text_b": "b"}\n{"text_a": "a"\n', "line 2: not valid JSON"),
        ("p.jsonl", b'{"text_a": "a", "text_b": "b", "text_a": "c"}\n', "a name occurs twice"),
        ("p.jsonl", b'{"text_a": "a", "text_b": ["b"]}\n', "'text_b' is a list"),
        ("p.jsonl", b'["a", "b"]\n', "found a JSON list"),
        ("p.jsonl", b"[" * 100_000 + b"\n", "line 1: not valid JSON"),
    ],
)
def test_an_unreadable_file_is_refused_with_its_place(tmp_path, name, content, said):
    with pytest.raises(DataRejected, match=name) as refused:
        read(tmp_path, name, content)
    assert said in str(refused.value)
    assert refused.value.hint


def test_a_column_that_was_named_must_be_there(tmp_path):
    """A wrong name for the label must not quietly make every pair unlabelled."""
    with pytest.raises(DataRejected, match="no column 'score'"):
        read(tmp_path, "p.csv", HEADER + b"a,b,1\n", ColumnSettings(label="score"))


def test_bytes_that_are_not_utf8_inside_parquet_are_refused(tmp_path):
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    with pytest.raises(DataRejected, match="UTF"):
        read(tmp_path, "p.parquet", parquet(pa.table({"text_a": bad, "text_b": ["b"]})))


@pytest.mark.skipif(not DIRTY, reason="the shared dirty files are not here")
def test_dirty_files_are_read_whole_or_refused(tmp_path):
    """Whatever Arrow's lenient reader finds in a file that we accept, we found the same number of rows."""
    accepted = 0
    for path in DIRTY:
        try:
            head = pa_csv.read_csv(path).column_names
        except (pa.ArrowException, UnicodeDecodeError, OSError):
            head = []
        a, b = head[:2] if len(head) > 1 else ("text_a", "text_b")
        try:
            table = readers.read_file(path, ColumnSettings(text_a=a, text_b=b))
        except DataRejected:
            continue
        accepted += 1
        options = pa_csv.ParseOptions(newlines_in_values=True)
        assert table.num_rows == pa_csv.read_csv(path, parse_options=options).num_rows, path.name
        checked = pairs.check_rows(table, max_characters=100)
        assert checked.rows_in == table.num_rows
    assert accepted > 40


@pytest.mark.skipif(not DIRTY, reason="the shared dirty files are not here")
def test_naughty_strings_pass_unchanged_or_are_quarantined():
    strings = json.loads((SHARED / "dirty" / "blns" / "blns.json").read_text("utf-8"))
    checked = pairs.check_rows(raw(*((text, "x", "1") for text in strings)), max_characters=10_000)
    assert checked.rows_in == len(strings)
    assert checked.accepted.height > 400


# Row rules


def test_each_row_gets_its_first_reason():
    table = raw(
        ("turn it on", "switch it on", "1"),  # 1
        ("  ", "x", "1"),
        ("\u200b", "x", "1"),
        (None, "x", "bad"),
        ("a" * 51, "x", "2"),  # 5
        ("p", "q", "2"),
        ("p", "q", "nan"),
        ("p", "q\ufffd", "1"),
        ("p", "q\x07", ""),
        ("same", " same ", "0"),  # 10
        ("same", "same", "1"),
        ("switch it on", "turn it on", "1.0"),
        ("u", "v", "0"),
        ("v", "u", "1"),
        ("u", "v", "0"),  # 15
        ("line\tone\ntwo", "x", "TRUE"),
        ("n", "m", ""),
        ("m", "n", "0.25"),
    )
    assert reasons(table) == {
        1: None,
        2: "empty_text",
        3: "empty_text",
        4: "empty_text",
        5: "too_long",
        6: "bad_label",
        7: "bad_label",
        8: "invalid_unicode",
        9: "invalid_unicode",
        10: "identical_sides_with_label_0",
        11: None,
        12: "duplicate",
        13: "contradictory",
        14: "contradictory",
        15: "duplicate",
        16: None,
        17: "duplicate",
        18: None,
    }


def test_accepted_rows_are_normalised():
    checked = pairs.check_rows(raw((" cafe\u0301 ", "转账吗", "0.5"), ("a", "b", "")), max_characters=50)
    assert checked.accepted.select("text_a", "label", "language").rows() == [("café", 0.5, "zh"), ("a", None, "und")]
    assert pairs.pair_ids(["a"], ["b"]) == pairs.pair_ids(["b"], ["a"])
    assert pairs.pair_ids(["a"], ["b"]) != pairs.pair_ids(["ab"], [""])


def test_a_lone_surrogate_in_json_is_quarantined(tmp_path):
    table = read(tmp_path, "p.jsonl", b'{"text_a": "a\\ud800", "text_b": "b"}\n')
    assert reasons(table) == {1: "invalid_unicode"}


TEXTS = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["a", "b", "A", " a", "ab", "\u200b"]))
LABELS = st.one_of(st.none(), st.sampled_from(["0", "1", "0.0", "true", "0.5", "", "x", "2"]), st.text(max_size=3))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS, TEXTS, LABELS), min_size=1, max_size=25))
def test_no_row_is_lost_or_counted_twice(rows):
    """Rows in = accepted + quarantined; accepted pairs are unique and never contradict each other."""
    checked = pairs.check_rows(raw(*rows), max_characters=5)
    numbers = [*checked.accepted["row"], *checked.quarantined["row"]]
    assert sorted(numbers) == list(range(1, len(rows) + 1))
    assert checked.quarantined["reason"].null_count() == 0
    assert checked.accepted["pair_id"].is_unique().all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.text(string.printable, max_size=9), st.text("ab,\"\n'\t\r", max_size=9)), min_size=1),
)
def test_whatever_a_csv_writer_writes_is_read_back(tmp_path_factory, rows):
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([("text_a", "text_b"), *rows])
    got = read(tmp_path_factory.mktemp("csv"), "p.csv", sink.getvalue().encode())
    assert list(zip(got["text_a"].to_pylist(), got["text_b"].to_pylist(), strict=True)) == rows


# Splits


def keyed(*rows: tuple[str, str]) -> pl.DataFrame:
    a, b = (pl.Series(list(values)) for values in zip(*rows, strict=True))
    return pl.DataFrame({"text_a": a, "text_b": b, "row": range(len(a))}).with_columns(
        key_a=splits.sentence_keys(a), key_b=splits.sentence_keys(b)
    )


def assign(frame: pl.DataFrame, known: dict[str, Membership] | None = None) -> splits.Assigned:
    return splits.assign(frame, known or {}, test_share=0.2, validation_share=0.2)


def test_spellings_of_one_sentence_are_one():
    assert splits.sentence_key("Turn  ON") == splits.sentence_key(" turn on\n") == splits.sentence_key("ｔｕｒｎ　on")
    assert splits.sentence_key("STRASSE") == splits.sentence_key("straße")
    assert splits.sentence_key("turn on") != splits.sentence_key("turn off")


def test_connected_pairs_go_together_whatever_the_order_of_rows():
    rows = [(f"{chain} {link}", f"{chain} {link + 1}") for chain in range(60) for link in range(3)]
    forward = assign(keyed(*rows)).accepted
    backward = assign(keyed(*reversed(rows))).accepted
    columns = ["text_a", "split", "group"]
    assert forward.select(columns).sort("text_a").equals(backward.select(columns).sort("text_a"))
    assert forward["group"].n_unique() == 60
    assert forward.group_by("group").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 60
    assert set(forward["split"]) == {"train", "validation", "test"}


def test_a_group_joins_the_split_of_the_sentence_it_shares():
    known = {splits.sentence_key("old"): Membership("test", "0123456789abcdef")}
    accepted = assign(keyed(("old", "new"), ("new", "newer")), known).accepted
    assert accepted.select("split", "group").rows() == [("test", "0123456789abcdef")] * 2


def test_a_pair_between_two_splits_is_kept_out():
    """a is in test, b in train, so the pair (a, b) can be in neither."""
    known = {
        splits.sentence_key("a"): Membership("test", "a" * 16),
        splits.sentence_key("b"): Membership("train", "b" * 16),
    }
    assigned = assign(keyed(("a", "b"), ("a", "A"), ("b", "B ")), known)
    assert assigned.accepted.select("text_a", "split").rows() == [("a", "test"), ("b", "train")]
    assert assigned.disagreeing.select("text_a", "text_b", "reason").rows() == [("a", "b", "joins_two_splits")]


def test_a_giant_group_is_decided_sentence_by_sentence():
    star = [("hub", f"leaf {number}") for number in range(1_500)]
    assigned = assign(keyed(*star))
    assert assigned.accepted["split"].n_unique() == 1  # the hub's
    assert 0 < assigned.disagreeing.height < 1_500
    assert assigned.accepted.height + assigned.disagreeing.height == 1_500
    assert splits.leaked_sentences(assigned.accepted, {}) == 0


@pytest.mark.parametrize("name", ["zh/lcqmc_dev.csv.gz", "en/qqp_dev.csv.gz"])
def test_no_sentence_of_a_real_file_is_in_two_splits(name):
    """Also not when the file comes in two batches, and the second batch moves nothing of the first."""
    if not (SHARED / name).is_file():
        pytest.skip(f"{SHARED / name} is not here")
    rows = pairs.check_rows(readers.read_file(SHARED / name, COLUMNS), max_characters=512).accepted
    rows = rows.with_columns(key_a=splits.sentence_keys(rows["text_a"]), key_b=splits.sentence_keys(rows["text_b"]))
    known: dict[str, Membership] = {}
    where: dict[str, set[str]] = {}
    for part in (rows[: rows.height // 2], rows[rows.height // 2 :]):
        assigned = splits.assign(part, known, test_share=0.1, validation_share=0.1)
        assert splits.leaked_sentences(assigned.accepted, known) == 0
        for key_a, key_b, split, group in assigned.accepted.select("key_a", "key_b", "split", "group").iter_rows():
            for key in (key_a, key_b):
                known.setdefault(key, Membership(split, group))
                where.setdefault(key, set()).add(split)
    assert sum(len(found) > 1 for found in where.values()) == 0
    shares = {split: sum(split in found for found in where.values()) / len(where) for split in pairs.SPLITS}
    assert shares["test"] == pytest.approx(0.1, abs=0.02)
    assert shares["validation"] == pytest.approx(0.1, abs=0.02)


def test_a_leak_would_be_seen():
    frame = keyed(("a", "b"), ("a", "c")).with_columns(split=pl.Series(["train", "test"]))
    assert splits.leaked_sentences(frame, {}) == 1
    assert splits.leaked_sentences(frame[:1], {splits.sentence_key("B"): Membership("test", "")}) == 1
