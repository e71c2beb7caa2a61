"""Splits: no sentence is ever in two of them, and no pair moves."""

import hashlib
import unicodedata
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restill import keys, readers, splits, staging
from restill.settings import ColumnSettings, FormatSettings, RowRuleSettings
from restill.splits import TEST, TRAIN, UNDECIDED, VALIDATION, Known

SHARED = Path(__file__).parents[3] / "shared" / "data"


def key(*sentences):
    return keys.sentence_keys(pl.Series(sentences, dtype=pl.String))


def known(**places):
    """Return what the data set knows: sentence=(split, group)."""
    found = sorted((int(key(name)[0]), *place) for name, place in places.items())
    columns = list(zip(*found, strict=True))
    return Known(np.array(columns[0], np.uint64), np.array(columns[1], np.int8), np.array(columns[2], np.uint64))


def looked_up(places):
    """Return a lookup that says only what it is asked for, as the history does."""

    def lookup(ascending):
        assert (np.diff(ascending.astype(object)) > 0).all()
        there = np.isin(places.keys, ascending)
        return Known(places.keys[there], places.splits[there], places.groups[there])

    return lookup


def assign(rows, places=None, **options):
    a, b = zip(*rows, strict=True)
    lookup = looked_up(places or Known.nothing())
    return splits.assign(key(*a), key(*b), lookup, **{"test_share": 0.2, "validation_share": 0.2, **options})


def test_spellings_of_one_sentence_are_one():
    one, *others = key("Turn  ON", " turn on\n", "ｔｕｒｎ　on", "turn\u00a0 on")
    assert (np.array(others) == one).all()
    assert len(set(key("STRASSE", "straße", "STRAẞE"))) == 1
    assert len(set(key("ΟΔΟΣ", "οδος", "οδοσ"))) == 1
    assert len(set(key("turn on", "turn off", ""))) == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1))
def test_a_key_is_the_sha256_of_the_plain_sentence(texts):
    """The definition, written down once more: a key must never change."""
    plain = [unicodedata.normalize("NFKC", text).lower().replace("ß", "ss").replace("ς", "σ") for text in texts]
    expected = [hashlib.sha256(" ".join(text.split()).encode()).digest()[:8] for text in plain]
    # Python and Unicode differ on four separators in white space; texts that have them are quarantined.
    for text, found, digest in zip(texts, key(*texts), expected, strict=True):
        if not set(text) & set("\x1c\x1d\x1e\x1f"):
            assert int(found).to_bytes(8) == digest


def test_a_pair_has_one_id_whichever_side_comes_first():
    a, b = pl.Series(["b", "a", "ab"]), pl.Series(["a", "b", ""])
    found = keys.pair_ids(keys.pair_digests(a, b)).to_list()
    assert found[0] == found[1] == hashlib.sha256(b"a\0b").hexdigest()[:32]
    assert found[2] != found[0]
    assert (keys.from_hexadecimal(pl.Series(found)) == keys.first_words(keys.pair_digests(a, b))).all()


def test_a_draw_is_the_same_for_ever():
    """Written down: a changed draw would move every pair of every data set."""
    assert keys.shares(np.array([0, 1, 2**64 - 1], np.uint64)) == pytest.approx(
        [
            int.from_bytes(hashlib.sha256(f"split:{name}".encode()).digest()[:8]) / 2**64
            for name in ("0" * 16, "0" * 15 + "1", "f" * 16)
        ]
    )


def test_connected_pairs_go_together_whatever_the_order_of_rows():
    rows = [(f"{chain} {link}", f"{chain} {link + 1}") for chain in range(60) for link in range(3)]
    forward, backward = assign(rows), assign(rows[::-1])
    assert (forward.splits == backward.splits[::-1]).all()
    assert (forward.groups == backward.groups[::-1]).all()
    assert len(set(forward.groups)) == 60
    assert len(set(zip(forward.groups, forward.splits, strict=True))) == 60
    assert set(forward.splits) == {TRAIN, VALIDATION, TEST}
    assert forward.largest_group == 3


def test_a_group_joins_the_split_of_the_sentence_it_shares():
    found = assign([("old", "new"), ("new", "newer")], known(old=(TEST, 77)))
    assert found.splits.tolist() == [TEST, TEST]
    assert found.groups.tolist() == [77, 77]


def test_a_pair_between_two_splits_is_kept_out():
    """a is in test, b in train, so the pair (a, b) can be in neither."""
    found = assign([("a", "b"), ("a", "A"), ("b", "B ")], known(a=(TEST, 1), b=(TRAIN, 2)))
    assert found.splits.tolist() == [UNDECIDED, TEST, TRAIN]
    assert found.groups.tolist() == [0, 1, 2]


def test_a_giant_group_is_decided_sentence_by_sentence():
    found = assign([("hub", f"leaf {number}") for number in range(1_500)])
    kept = found.splits != UNDECIDED
    assert len(set(found.splits[kept])) == 1  # the hub's
    assert 0 < kept.sum() < 1_500
    assert found.giant.all()
    assert found.largest_group == 1_500


def test_a_giant_group_leaves_the_others_whole():
    star = [("hub", f"leaf {number}") for number in range(1_500)]
    others = [(f"a{number}", f"b{number}") for number in range(500)]
    found = assign(star + others)
    assert (found.splits[1_500:] == assign(others).splits).all()
    assert found.giant.tolist() == [True] * 1_500 + [False] * 500


def test_a_frozen_test_split_draws_nothing_new():
    rows = [(f"a{number}", f"b{number}") for number in range(200)]
    free, frozen = assign(rows), assign([*rows, ("old", "new")], known(old=(TEST, 7)), freeze_test=True)
    assert TEST in free.splits
    assert TEST not in frozen.splits[:200]
    assert frozen.splits[200] == TEST  # and the caller keeps it out
    elsewhere = free.splits != TEST
    assert (frozen.splits[:200][elsewhere] == free.splits[elsewhere]).all()


def test_a_split_that_is_asked_for_is_given():
    rows = [("a", "b"), ("b", "c"), ("d", "e")]
    found = assign(rows, asked=np.array([TEST, TRAIN, UNDECIDED], np.int8))
    assert found.splits[:2].tolist() == [TEST, TRAIN]
    assert found.splits[2] == assign([("d", "e")]).splits[0]
    leaked = splits.leaked_keys(key("a", "b", "d"), key("b", "c", "e"), found.splits, Known.nothing())
    assert leaked.tolist() == key("b").tolist()


def test_a_leak_would_be_seen():
    places = np.array([TRAIN, TEST], np.int8)
    assert splits.leaked_keys(key("a", "a"), key("b", "c"), places, Known.nothing()).tolist() == key("a").tolist()
    assert splits.leaked_keys(key("a"), key("b"), places[:1], known(b=(TEST, 1))).tolist() == key("b").tolist()
    assert not len(splits.leaked_keys(key("a"), key("b"), places[:1], known(b=(TRAIN, 1))))


SENTENCES = st.integers(0, 12).map("s{}".format)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=15), min_size=1, max_size=4))
def test_no_history_of_batches_leaks_or_moves_a_pair(batches):
    where, places = {}, Known.nothing()
    for rows in batches:
        found = assign(rows, places)
        for (a, b), split in zip(rows, found.splits, strict=True):
            if split != UNDECIDED:
                for sentence in (a, b):
                    assert where.setdefault(sentence, split) == split
        kept = found.splits != UNDECIDED
        a, b = (key(*side)[kept] for side in zip(*rows, strict=True))
        assert not len(splits.leaked_keys(a, b, found.splits[kept], found.known))
        where_now = sorted((int(key(name)[0]), split, 1) for name, split in where.items())
        if where_now:
            columns = list(zip(*where_now, strict=True))
            places = Known(
                np.array(columns[0], np.uint64), np.array(columns[1], np.int8), np.array(columns[2], np.uint64)
            )


@pytest.mark.parametrize("name", ["zh/lcqmc_dev.csv.gz", "en/qqp_dev.csv.gz"])
def test_no_sentence_of_a_real_file_is_in_two_splits(tmp_path, name):
    """Also not when the file comes in two batches, and the second batch moves nothing of the first."""
    if not (SHARED / name).is_file():
        pytest.skip(f"{SHARED / name} is not here")
    with readers.open_file(SHARED / name, ColumnSettings(), FormatSettings()) as reading:
        found = staging.stage(reading, tmp_path, RowRuleSettings())
    rows = np.flatnonzero(found.accepted)
    where, places = {}, Known.nothing()
    for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        assigned = splits.assign(
            found.key_a[part], found.key_b[part], looked_up(places), test_share=0.1, validation_share=0.1
        )
        kept = assigned.splits != UNDECIDED
        for side in (found.key_a, found.key_b):
            for sentence, split in zip(side[part][kept].tolist(), assigned.splits[kept].tolist(), strict=True):
                assert where.setdefault(sentence, split) == split
        ascending = sorted(where.items())
        places = Known(
            np.array([one for one, _ in ascending], np.uint64),
            np.array([split for _, split in ascending], np.int8),
            np.zeros(len(where), np.uint64),
        )
    shares = np.bincount(list(where.values())) / len(where)
    assert shares[TEST] == pytest.approx(0.1, abs=0.02)
    assert shares[VALIDATION] == pytest.approx(0.1, abs=0.02)
