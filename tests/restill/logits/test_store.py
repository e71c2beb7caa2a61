import hashlib
import math
import threading
from pathlib import Path

import numpy as np
import pytest
from factories import write_tiny_teacher
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_parts import add, rows, shard_keys

from restill.errors import IntegrityError, RestillError, TeacherError
from restill.logits import LogitsStore, cleaning, open_store, pair_digest, places, sentence_digest
from restill.logits.items import digests_of, shard_name
from restill.logits.shards import Tokens, read_shard, write_shard
from restill.settings import Settings, TeacherSettings
from restill.storage.objects import ObjectStore


@pytest.fixture
def logits(store: ObjectStore, tmp_path: Path) -> LogitsStore:
    return LogitsStore(store, "f" * 64, tmp_path / "cache")


def test_digest_is_the_first_half_of_sha256():
    assert sentence_digest("花呗") == hashlib.sha256("花呗".encode()).digest()[:16]


def test_stored_embeddings_come_back_on_another_machine(logits, store, tmp_path):
    embeddings = rows(3)
    add(logits, ["a", "b", "c"], embeddings)
    elsewhere = LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere")
    for reader in (logits, elsewhere):
        np.testing.assert_array_equal(reader.lookup(["c", "a", "c"]), embeddings[[2, 0, 2]])
        np.testing.assert_array_equal(reader.lookup([sentence_digest("b")]), embeddings[[1]])


def test_missing_names_each_distinct_sentence_once_in_one_order(logits):
    add(logits, ["b"], rows(1))
    expected = sorted(["a", "c", "d"], key=sentence_digest)
    assert logits.missing(["d", "a", "b", "c", "a"]) == expected
    assert logits.missing(iter(["c", "d", "b", "a"])) == expected
    assert logits.missing([]) == []


def test_lookup_says_how_many_are_not_stored(logits):
    add(logits, ["a"], rows(1))
    with pytest.raises(RestillError, match="2 of 3 sentences have no stored score") as caught:
        logits.lookup(["a", "b", "c", "b"])
    assert caught.value.hint


def test_cosines_are_of_the_pairs_in_order(logits):
    add(logits, ["x", "diagonal", "zero", "minus x"], np.array([[2, 0], [1, 1], [0, 0], [-1, 0]], np.float32))
    found = logits.cosines(["x", "x", "x", "diagonal"], ["x", "diagonal", "zero", "minus x"])
    np.testing.assert_allclose(found, [1, math.sqrt(0.5), 0, -math.sqrt(0.5)], atol=1e-6)
    with pytest.raises(ValueError, match="A pair has two sentences"):
        logits.cosines(["x"], [])


def test_adding_again_changes_nothing(logits, store):
    add(logits, ["a", "b"], rows(2))
    before = shard_keys(store, logits.fingerprint)
    add(logits, ["a", "b"], rows(2))
    assert shard_keys(store, logits.fingerprint) == before
    assert len(before) == 1


@pytest.mark.parametrize(
    ("sentences", "embeddings", "error"),
    [
        ([], rows(1)[:0], ValueError),
        (["a", "b"], rows(1), ValueError),
        (["a"], rows(1)[0], ValueError),
        (["a"], rows(1).astype(np.float64), ValueError),
        (["a", "a"], rows(2), ValueError),
        (["a"], np.full((1, 8), np.nan, np.float32), TeacherError),
        (["a", "b"], np.array([[0.0] * 8, [np.inf] * 8], np.float32), TeacherError),
    ],
)
def test_wrong_embeddings_are_refused_and_leave_nothing(logits, store, sentences, embeddings, error):
    add(logits, ["there already"], rows(1))
    with pytest.raises(error):
        add(logits, sentences, embeddings)
    assert len(shard_keys(store, logits.fingerprint)) == 1
    assert logits.missing(["a"]) == ["a"]


def test_a_shard_of_another_width_is_named(logits):
    add(logits, ["a"], rows(1))
    logits.refresh()
    add(logits, ["b"], rows(1, dimension=9))
    with pytest.raises(IntegrityError, match="width 9, others 8"):
        logits.refresh()


def test_whoever_stores_a_shard_second_writes_nothing(logits):
    assert add(logits, ["a", "b"], rows(2, start=1))
    assert not add(logits, ["a", "b"], rows(2, start=2))
    np.testing.assert_array_equal(logits.lookup(["a", "b"]), rows(2, start=1))


def stored_as(logits, items, body):
    key = places.shard_key(logits.fingerprint, shard_name(digests_of(items)))
    logits.objects.create(key, body)
    return key


def test_a_damaged_value_is_named_with_both_digests(logits):
    body = bytearray(write_shard(digests_of(["a"]), rows(1), logits.fingerprint))
    at = body.index(rows(1).tobytes())
    body[at + 5] ^= 1
    key = stored_as(logits, ["a"], bytes(body))
    with pytest.raises(IntegrityError, match=r"is damaged: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}") as caught:
        logits.missing(["a"])
    assert key in str(caught.value)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_single_wrong_byte_and_no_cut_changes_a_value_unseen(data):
    whole = write_shard(digests_of(["a", "b"]), rows(2), "f" * 64, Tokens(5, 8))
    at = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.integers(0, 255))
    body = whole[:at] if not change else whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :]
    try:
        found = read_shard(shard_name(digests_of(["a", "b"])), "key", body, "f" * 64)
    except IntegrityError:
        return
    assert found.digests.tobytes() == digests_of(["a", "b"]).tobytes()
    np.testing.assert_array_equal(found.embeddings, rows(2))
    assert found.tokens == Tokens(5, 8)


@pytest.mark.parametrize("content", ["another teacher's", "no parquet", "another shard's"])
def test_an_intact_object_that_is_no_such_shard_of_this_teacher_is_named(logits, content):
    bodies = {
        "another teacher's": write_shard(digests_of(["a"]), rows(1), "0" * 64),
        "no parquet": b"plain text",
        "another shard's": write_shard(digests_of(["b"]), rows(1), logits.fingerprint),
    }
    key = stored_as(logits, ["a"], bodies[content])
    with pytest.raises(IntegrityError) as caught:
        logits.refresh()
    assert key in str(caught.value)
    assert caught.value.hint


def test_two_teachers_never_mix(store, tmp_path):
    one, two = (LogitsStore(store, digit * 64, tmp_path / "cache") for digit in "12")
    add(one, ["a"], rows(1, start=1))
    add(two, ["a", "b"], rows(2, start=2, dimension=4))
    assert one.missing(["a", "b"]) == ["b"]
    np.testing.assert_array_equal(one.lookup(["a"]), rows(1, start=1))
    np.testing.assert_array_equal(two.lookup(["a"]), rows(2, start=2, dimension=4)[:1])


def test_shards_that_another_process_adds_are_found(logits, store, tmp_path):
    assert logits.missing(["a"]) == ["a"]
    add(LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere"), ["a"], rows(1))
    np.testing.assert_array_equal(logits.lookup(["a"]), rows(1))


def test_a_sentence_in_two_shards_has_one_embedding_on_every_machine(store, tmp_path):
    shards = [(["a", "b"], rows(2, start=1)), (["b", "a"], rows(2, start=2)), (["a"], rows(1, start=3))]
    found = []
    for number, order in enumerate(([0, 1, 2], [2, 1, 0])):
        mine = LogitsStore(store, "f" * 64, tmp_path / str(number))
        for shard in order:
            add(mine, *shards[shard])
        found.append(mine.lookup(["a", "b"]))
    np.testing.assert_array_equal(*found)


def test_only_shards_that_are_still_stored_count(logits, store, tmp_path):
    """A shard that only this machine remembers is not stored: elsewhere it would be missing."""
    add(logits, ["a"], rows(1))
    elsewhere = LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere")
    assert elsewhere.missing(["a"]) == []
    (key,) = shard_keys(store, logits.fingerprint)
    store.delete(key)
    assert elsewhere.missing(["a"]) == ["a"]


def test_nothing_is_downloaded_twice(logits, store, tmp_path, monkeypatch):
    for number in range(3):
        add(logits, [f"sentence {number}"], rows(1, start=number))
    got: list[str] = []
    get = ObjectStore.get
    monkeypatch.setattr(ObjectStore, "get", lambda self, key: got.append(key) or get(self, key))
    for _ in range(2):
        reader = LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere")
        assert reader.missing(["sentence 0", "sentence 2"]) == []
    assert sorted(got) == shard_keys(store, logits.fingerprint)


def append_garbage(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"half written")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", ["shards.jsonl", "digests.bin", "embeddings.f32"])
@pytest.mark.parametrize("damage", [append_garbage, cut, Path.unlink, empty])
def test_whatever_a_kill_leaves_in_the_cache_a_rerun_mends(logits, store, tmp_path, name, damage):
    add(logits, ["a", "b"], rows(2, start=1))
    add(logits, ["c"], rows(1, start=2))
    logits.refresh()
    damage(tmp_path / "cache" / logits.fingerprint / name)
    again = LogitsStore(store, logits.fingerprint, tmp_path / "cache")
    assert again.missing(["a", "b", "c"]) == []
    np.testing.assert_array_equal(again.lookup(["a", "b", "c"]), np.concatenate([rows(2, start=1), rows(1, start=2)]))
    add(again, ["d"], rows(1, start=3))
    np.testing.assert_array_equal(again.lookup(["d", "c"]), np.concatenate([rows(1, start=3), rows(1, start=2)]))


def test_an_unreadable_journal_starts_the_cache_anew(logits, store, tmp_path):
    add(logits, ["a", "b"], rows(2))
    logits.refresh()
    (tmp_path / "cache" / logits.fingerprint / "shards.jsonl").write_bytes(b'{"name": 1}\n')
    again = LogitsStore(store, logits.fingerprint, tmp_path / "cache")
    np.testing.assert_array_equal(again.lookup(["b"]), rows(2)[1:])


def test_several_writers_share_one_cache(store, tmp_path):
    def write(worker: int) -> None:
        mine = LogitsStore(store, "f" * 64, tmp_path / "cache")
        for number in range(8):
            add(mine, [f"{worker} {number}"], rows(1, start=10 * worker + number))
            mine.missing(["anything"])

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [f"{worker} {number}" for worker in range(3) for number in range(8)]
    expected = np.concatenate([rows(1, start=10 * worker + number) for worker in range(3) for number in range(8)])
    np.testing.assert_array_equal(LogitsStore(store, "f" * 64, tmp_path / "cache").lookup(names), expected)


def test_pair_digest_is_of_both_digests_in_order():
    both = hashlib.sha256(b"a").hexdigest() + hashlib.sha256("花呗".encode()).hexdigest()
    assert pair_digest("a", "花呗") == hashlib.sha256(both.encode()).digest()[:16]
    assert pair_digest("花呗", "a") != pair_digest("a", "花呗")


def test_a_cross_encoder_has_one_number_a_pair_and_none_the_other_way_round(store, tmp_path):
    logits = LogitsStore(store, "c" * 64, tmp_path, kind="cross-encoder")
    add(logits, [("a", "b"), ("b", "c")], np.array([[1.5], [-2.0]], np.float32))
    np.testing.assert_array_equal(logits.scores(["b", "a", "a"], ["c", "b", "b"]), np.array([-2, 1.5, 1.5], np.float32))
    assert logits.missing([("a", "b"), ("b", "a")]) == [("b", "a")]
    with pytest.raises(RestillError, match="1 of 2 pairs have no stored score"):
        logits.scores(["a", "b"], ["b", "a"])
    assert logits.scores([], []).shape == (0,)


def test_scores_of_a_bi_encoder_are_cosines(logits):
    add(logits, ["x", "diagonal"], np.array([[2, 0], [1, 1]], np.float32))
    np.testing.assert_allclose(logits.scores(["x"], ["diagonal"]), [math.sqrt(0.5)], atol=1e-6)


def test_located_rows_are_those_of_the_digests(logits):
    add(logits, ["a", "b", "c"], rows(3))
    embeddings, found = logits.locate(digests_of(["c", "a", "c"]))
    np.testing.assert_array_equal(embeddings[found], rows(3)[[2, 0, 2]])


def test_the_store_of_the_configured_teacher_is_found(store, tmp_path):
    path = write_tiny_teacher(tmp_path / "teacher")
    project = Settings(root=tmp_path, teacher=TeacherSettings(path=path))
    found = open_store(project, store)
    assert found.kind == "bi-encoder"
    changes = {"precision": "bfloat16", "max_tokens": 16, "prompt": "query: ", "pooling": "cls"}
    others = [
        open_store(
            project.model_copy(update={"teacher": TeacherSettings.model_validate({"path": path, name: value})}), store
        ).fingerprint
        for name, value in changes.items()
    ]
    others.append(open_store(_changed(project, tmp_path, "model.safetensors", seed=1), store).fingerprint)
    others.append(open_store(_changed(project, tmp_path, "tokenizer.json", vocabulary=["zebra"]), store).fingerprint)
    assert len({found.fingerprint, *others}) == 7


def _changed(project: Settings, folder: Path, name: str, **changes: object) -> Settings:
    path = write_tiny_teacher(folder / f"other {name}", **changes)
    return project.model_copy(update={"teacher": TeacherSettings(path=path)})


def test_a_shard_that_was_deleted_and_made_anew_is_read_anew(logits, store, tmp_path):
    add(logits, ["a", "b"], rows(2))
    add(logits, ["c"], rows(1, start=1))
    held = logits.locate(digests_of(["a"]))[0]
    before = np.array(held)
    (key,) = [key for key in shard_keys(store, logits.fingerprint) if shard_name(digests_of(["a", "b"])) in key]
    store.delete(key)
    add(logits, ["a", "b"], rows(2, start=7))
    elsewhere = LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere")
    logits.refresh()
    for reader in (logits, elsewhere):
        np.testing.assert_array_equal(
            reader.lookup(["a", "b", "c"]), np.concatenate([rows(2, start=7), rows(1, start=1)])
        )
    np.testing.assert_array_equal(held, before)  # what another process has mapped stays as it was


@pytest.mark.parametrize(
    "name", ["", "readme.txt", "abc.parquet", f"{'a' * 32}.parquet.tmp", f"sub/{'a' * 32}.parquet"]
)
def test_what_others_put_beside_the_shards_is_passed_over(logits, store, name):
    add(logits, ["a"], rows(1))
    for folder in ("shards", "plans", "waiting"):
        store.create(f"logits/{logits.fingerprint}/{folder}/{name}", b"")
    assert logits.missing(["a", "b"]) == ["b"]
    assert cleaning.sweep(store, logits.fingerprint) == 0


def test_a_shard_that_is_deleted_after_it_was_listed_is_missing(logits, store, monkeypatch):
    add(logits, ["a"], rows(1))
    original = places.stored_shards

    def deleted(*asked):
        found = original(*asked)
        for key in shard_keys(store, logits.fingerprint):
            store.delete(key)
        return found

    monkeypatch.setattr(places, "stored_shards", deleted)
    assert logits.missing(["a"]) == ["a"]
