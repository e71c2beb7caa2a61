"""Row rules: each row gets its first reason, and no row is lost."""

import json
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rows import raw, reasons, staged, write_partition

from restill import pairs, readers, staging
from restill.errors import DataRejected
from restill.settings import ColumnSettings, FormatSettings, RowRuleSettings

BLNS = Path(__file__).parents[3] / "shared" / "data" / "dirty" / "blns" / "blns.json"
SHORT = RowRuleSettings(max_characters=50)


def test_each_row_gets_its_first_reason(tmp_path):
    found = staged(
        tmp_path,
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
        ("o", "p", "1", None, None, "yesterday"),
        ("q", "r", "1", None, "not a tag"),  # 20
        ("s", "t", "1", "x" * 201),
        rules=SHORT,
        chunk=4,
    )
    assert reasons(found) == {
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
        19: "bad_created_at",
        20: "bad_language",
        21: "bad_source",
    }


def test_rules_that_are_off_keep_nothing_out(tmp_path):
    rows = [("a" * 51, "x", "1"), ("same", "same", "0"), ("o", "p", "1", None, None, "yesterday"), ("", "x", "1")]
    off = RowRuleSettings(max_characters=50, off=("too_long", "identical_sides_with_label_0", "bad_created_at"))
    assert reasons(staged(tmp_path, *rows, rules=off)) == {1: None, 2: None, 3: None, 4: "empty_text"}


def test_labels_may_have_other_spellings(tmp_path):
    rules = RowRuleSettings(labels={"Yes": 1, "no": 0, "maybe": 0.5})
    found = staged(tmp_path, ("a", "b", "YES"), ("c", "d", " no"), ("e", "f", "maybe"), ("g", "h", "nope"), rules=rules)
    assert found.labels[:3].tolist() == [1, 0, 0.5]
    assert reasons(found)[4] == "bad_label"
    with pytest.raises(ValueError, match="these are not: often"):
        RowRuleSettings(labels={"often": 1.5})


def test_accepted_rows_are_normalised(tmp_path):
    found = staged(tmp_path, (" cafe\u0301 ", "转账吗", "0.5", " web ", "ZH-cn"), ("a", "b", ""), ("b", "c", "1"))
    stored, _ = write_partition(found, tmp_path)
    assert stored.select("text_a", "label", "source", "language").rows() == [
        ("café", 0.5, "web", "zh-cn"),
        ("a", None, None, "und"),
        ("b", 1, None, "und"),
    ]


@pytest.mark.parametrize(
    ("came", "stored"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01 12:30:00", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30:00.25Z", datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC)),
        (" 2026-03-01T12:30:00+08:00 ", datetime(2026, 3, 1, 4, 30, tzinfo=UTC)),
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_stored_in_utc(tmp_path, came, stored):
    frame, _ = write_partition(staged(tmp_path, ("a", "b", "1", None, None, came)), tmp_path)
    assert frame["created_at"].to_list() == [stored]


def test_a_split_column_says_where_a_pair_goes_if_it_is_honoured(tmp_path):
    rows = [("a", "b", "1", "", "", "", name) for name in ("train", "DEV", " test ", "", None, "holdout")]
    rows = [(f"a{place}", *row[1:]) for place, row in enumerate(rows)]
    found = staged(tmp_path, *rows, honour_split=True)
    assert found.asked.tolist() == [0, 1, 2, -1, -1, -1]
    assert reasons(found)[6] == "bad_split"
    ignored = staged(tmp_path, *rows)
    assert ignored.asked.tolist() == [-1] * 6
    assert ignored.reasons == {}


def test_the_content_is_what_the_pairs_say_whatever_their_order(tmp_path):
    rows = [("a", "b", "1"), ("c", "d", "0"), ("e", "f", "", "web")]

    def content(*came, split=0, chunk=10**9):
        found = staged(tmp_path, *came, chunk=chunk)
        return staging.content_digest(found, np.full(len(found), split, np.int8))

    digest = content(*rows)
    assert content(*reversed(rows), ("", "x", "1"), chunk=2) == digest
    assert content(*rows, split=1) != digest
    for other in (("b", "a", "1"), ("a", "b", "0"), ("a", "b", "1", "web"), ("a", "b", "1", "", "en")):
        assert content(other, *rows[1:]) != digest
    # The id of a known batch must not change from version to version: every stored batch carries it.
    assert digest.startswith("9f39e4b060a7540d")


@pytest.mark.skipif(not BLNS.is_file(), reason=f"the shared naughty strings are not in {BLNS}")
def test_naughty_strings_pass_unchanged_or_are_quarantined(tmp_path):
    strings = json.loads(BLNS.read_text("utf-8"))
    rules = RowRuleSettings(max_characters=10_000)
    found = staged(tmp_path, *((text, f"x{place}", "1") for place, text in enumerate(strings)), rules=rules, chunk=100)
    stored, _ = write_partition(found, tmp_path)
    assert stored.height > 400
    for row, text in stored.select("row", "text_a").iter_rows():
        assert unicodedata.normalize("NFC", strings[row - 1]).split() == text.split()
    kept = pl.read_parquet(tmp_path / "quarantine.parquet")
    assert stored.height + kept.height == len(strings)
    for row, text in kept.select("row", "text_a").iter_rows():
        assert strings[row - 1] == text


HARD = st.characters(categories=("Mn", "Mc", "Lo", "Lu", "Nd"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(HARD, max_size=6) | st.text(max_size=6), min_size=1, max_size=20))
def test_texts_are_composed_as_python_composes_them(texts):
    found = pairs.judge_rows(
        pl.DataFrame(pl.from_arrow(raw(*((text, "b") for text in texts)))), SHORT, honour_split=False
    )
    for text, stored in zip(texts, found["text_a"], strict=True):
        assert unicodedata.is_normalized("NFC", stored)
        assert stored in unicodedata.normalize("NFC", text)


TEXTS = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["a", "b", "A", " a", "ab", "\u200b"]))
LABELS = st.one_of(st.none(), st.sampled_from(["0", "1", "0.0", "true", "0.5", "", "x", "2"]), st.text(max_size=3))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS, TEXTS, LABELS), min_size=1, max_size=25), st.integers(1, 30))
def test_no_row_is_lost_or_counted_twice(tmp_path_factory, rows, chunk):
    """Rows in = accepted + quarantined; accepted pairs are unique, and the quarantine holds rows as they came."""
    folder = tmp_path_factory.mktemp("rows")
    found = staged(folder, *rows, rules=RowRuleSettings(max_characters=5), chunk=chunk)
    stored, _ = write_partition(found, folder)
    kept = pl.read_parquet(folder / "quarantine.parquet")
    assert sorted([*stored["row"], *kept["row"]]) == list(range(1, len(rows) + 1))
    assert kept["reason"].null_count() == 0
    assert stored["pair_id"].is_unique().all()
    for row, *came in kept.select("row", "text_a", "text_b", "label").iter_rows():
        assert tuple(value or "" for value in came) == tuple(value or "" for value in rows[row - 1])


CSV_TEXT = st.text(st.sampled_from("ab \"',;\t\r\n\ufeff\u200b转1"), max_size=60).map(
    lambda text: b"text_a,text_b,label\n" + text.encode()
)
FILES = st.one_of(
    st.tuples(st.just("p.csv"), CSV_TEXT),
    st.tuples(
        st.sampled_from(["p.csv", "p.tsv", "p.jsonl", "p.parquet", "p.csv.gz", "p.tsv.zst"]), st.binary(max_size=80)
    ),
    st.tuples(st.just("p.csv"), st.binary(max_size=60).map(lambda tail: b"text_a,text_b\na,b\n" + tail)),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FILES)
def test_any_file_is_refused_or_all_of_its_rows_are_accounted_for(tmp_path_factory, named):
    """From bytes on disk to partition and quarantine: every row that the reader tells of is in one of the two."""
    name, content = named
    folder = tmp_path_factory.mktemp("file")
    (folder / name).write_bytes(content)
    refusal = ""
    try:
        with readers.open_file(folder / name, ColumnSettings(), FormatSettings()) as reading:
            found = staging.stage(reading, folder, RowRuleSettings())
    except DataRejected as error:
        refusal = str(error)
        found = None
    if found is None:
        assert name in refusal
        return
    stored, _ = write_partition(found, folder)
    kept = pl.read_parquet(folder / "quarantine.parquet")
    assert sorted([*stored["row"], *kept["row"]]) == list(range(1, len(found) + 1))
    assert stored.height + sum(found.reasons.values()) == len(found)
