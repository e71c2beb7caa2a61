import csv
import dataclasses
import gzip
import hashlib
import itertools
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from factories import write_tiny_teacher
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from restill.errors import IntegrityError, RestillError, TeacherError, TrainingFailed
from restill.logits import LogitsStore, PlattCalibration, fit_platt, score, sentence_digest
from restill.logits.shards import as_array, write_shard
from restill.settings import TeacherSettings
from restill.storage.objects import ObjectStore
from restill.teachers import Teacher, load_teacher

SHARED = Path(__file__).parents[3] / "shared"
SENTENCES = [
    f"{verb} the {thing} {place}"
    for verb, thing, place in itertools.product(
        ("open", "close", "find"), ("door", "window", "bank account"), ("now", "in the kitchen", "")
    )
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def teacher(tiny: Path) -> Teacher:
    return load_teacher(TeacherSettings(path=tiny))


@pytest.fixture
def logits(store: ObjectStore, tmp_path: Path) -> LogitsStore:
    return LogitsStore(store, "f" * 64, tmp_path / "cache")


def rows(count: int, *, start: int = 0, dimension: int = 8) -> np.ndarray:
    return np.random.default_rng(start).normal(size=(count, dimension)).astype(np.float32)


def shard_keys(store: ObjectStore, fingerprint: str) -> list[str]:
    return sorted(found.key for found in store.list(f"logits/{fingerprint}/shards/"))


def quiet(_done: int, _total: int, _speed: str) -> None:
    """No progress shown."""


def test_digest_is_the_first_half_of_sha256():
    assert sentence_digest("花呗") == hashlib.sha256("花呗".encode()).digest()[:16]


def test_stored_embeddings_come_back_on_another_machine(logits, store, tmp_path):
    embeddings = rows(3)
    logits.add(["a", "b", "c"], embeddings)
    elsewhere = LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere")
    for reader in (logits, elsewhere):
        np.testing.assert_array_equal(reader.lookup(["c", "a", "c"]), embeddings[[2, 0, 2]])
        np.testing.assert_array_equal(reader.lookup([sentence_digest("b")]), embeddings[[1]])


def test_missing_names_each_distinct_sentence_once_in_one_order(logits):
    logits.add(["b"], rows(1))
    expected = sorted(["a", "c", "d"], key=sentence_digest)
    assert logits.missing(["d", "a", "b", "c", "a"]) == expected
    assert logits.missing(iter(["c", "d", "b", "a"])) == expected
    assert logits.missing([]) == []


def test_lookup_says_how_many_are_not_stored(logits):
    logits.add(["a"], rows(1))
    with pytest.raises(RestillError, match="2 of 3 sentences have no stored embedding") as caught:
        logits.lookup(["a", "b", "c", "b"])
    assert caught.value.hint


def test_cosines_are_of_the_pairs_in_order(logits):
    logits.add(["x", "diagonal", "zero", "minus x"], np.array([[2, 0], [1, 1], [0, 0], [-1, 0]], np.float32))
    found = logits.cosines(["x", "x", "x", "diagonal"], ["x", "diagonal", "zero", "minus x"])
    np.testing.assert_allclose(found, [1, math.sqrt(0.5), 0, -math.sqrt(0.5)], atol=1e-6)
    with pytest.raises(ValueError, match="A pair has two sentences"):
        logits.cosines(["x"], [])


def test_adding_again_changes_nothing(logits, store):
    logits.add(["a", "b"], rows(2))
    before = shard_keys(store, logits.fingerprint)
    logits.add(["a", "b"], rows(2))
    assert shard_keys(store, logits.fingerprint) == before
    assert len(before) == 1


@pytest.mark.parametrize(
    ("sentences", "embeddings", "error"),
    [
        (["a", "b"], rows(1), ValueError),
        (["a"], rows(1)[0], ValueError),
        (["a"], rows(1).astype(np.float64), ValueError),
        (["a", "a"], rows(2), ValueError),
        (["a"], rows(1, dimension=9), ValueError),
        (["a"], np.full((1, 8), np.nan, np.float32), TeacherError),
        (["a", "b"], np.array([[0.0] * 8, [np.inf] * 8], np.float32), TeacherError),
    ],
)
def test_wrong_embeddings_are_refused_and_leave_nothing(logits, store, sentences, embeddings, error):
    logits.add(["there already"], rows(1))
    with pytest.raises(error):
        logits.add(sentences, embeddings)
    assert len(shard_keys(store, logits.fingerprint)) == 1
    assert logits.missing(["a"]) == ["a"]


def test_a_damaged_shard_is_named(logits, store, tmp_path):
    body = write_shard(as_array([sentence_digest("a")]), rows(1), logits.fingerprint)
    key = f"logits/{logits.fingerprint}/shards/{hashlib.sha256(body).hexdigest()}.parquet"
    store.create(key, body[:-9] + b"x" + body[-8:])
    with pytest.raises(IntegrityError, match=r"is damaged: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}") as caught:
        logits.missing(["a"])
    assert key in str(caught.value)


@pytest.mark.parametrize("content", ["another teacher's", "no parquet"])
def test_an_intact_object_that_is_no_shard_of_this_teacher_is_named(logits, store, content):
    alien = write_shard(as_array([sentence_digest("a")]), rows(1), "0" * 64)
    body = alien if content == "another teacher's" else b"plain text"
    key = f"logits/{logits.fingerprint}/shards/{hashlib.sha256(body).hexdigest()}.parquet"
    store.create(key, body)
    with pytest.raises(IntegrityError) as caught:
        logits.refresh()
    assert key in str(caught.value)


def test_two_teachers_never_mix(store, tmp_path):
    one, two = (LogitsStore(store, digit * 64, tmp_path / "cache") for digit in "12")
    one.add(["a"], rows(1, start=1))
    two.add(["a", "b"], rows(2, start=2, dimension=4))
    assert one.missing(["a", "b"]) == ["b"]
    np.testing.assert_array_equal(one.lookup(["a"]), rows(1, start=1))
    np.testing.assert_array_equal(two.lookup(["a"]), rows(2, start=2, dimension=4)[:1])


def test_shards_that_another_process_adds_are_found(logits, store, tmp_path):
    assert logits.missing(["a"]) == ["a"]
    LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere").add(["a"], rows(1))
    np.testing.assert_array_equal(logits.lookup(["a"]), rows(1))


def test_a_sentence_in_two_shards_has_one_embedding_on_every_machine(store, tmp_path):
    shards = [(["a", "b"], rows(2, start=1)), (["b", "a"], rows(2, start=2)), (["a"], rows(1, start=3))]
    found = []
    for number, order in enumerate(([0, 1, 2], [2, 1, 0])):
        mine = LogitsStore(store, "f" * 64, tmp_path / str(number))
        for shard in order:
            mine.add(*shards[shard])
        found.append(mine.lookup(["a", "b"]))
    np.testing.assert_array_equal(*found)


def test_only_shards_that_are_still_stored_count(logits, store, tmp_path):
    """A shard that only this machine remembers is not stored: elsewhere it would be missing."""
    logits.add(["a"], rows(1))
    elsewhere = LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere")
    assert elsewhere.missing(["a"]) == []
    (key,) = shard_keys(store, logits.fingerprint)
    store.delete(key)
    assert elsewhere.missing(["a"]) == ["a"]


def test_nothing_is_downloaded_twice(logits, store, tmp_path, monkeypatch):
    for number in range(3):
        logits.add([f"sentence {number}"], rows(1, start=number))
    got: list[str] = []
    get = ObjectStore.get
    monkeypatch.setattr(ObjectStore, "get", lambda self, key: got.append(key) or get(self, key))
    for _ in range(2):
        reader = LogitsStore(store, logits.fingerprint, tmp_path / "elsewhere")
        assert reader.missing(["sentence 0", "sentence 2"]) == []
    assert sorted(got) == shard_keys(store, logits.fingerprint)
    assert logits.missing(["sentence 1"]) == []
    assert len(got) == 3


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
    logits.add(["a", "b"], rows(2, start=1))
    logits.add(["c"], rows(1, start=2))
    damage(tmp_path / "cache" / logits.fingerprint / name)
    again = LogitsStore(store, logits.fingerprint, tmp_path / "cache")
    assert again.missing(["a", "b", "c"]) == []
    np.testing.assert_array_equal(again.lookup(["a", "b", "c"]), np.concatenate([rows(2, start=1), rows(1, start=2)]))
    again.add(["d"], rows(1, start=3))
    np.testing.assert_array_equal(again.lookup(["d", "c"]), np.concatenate([rows(1, start=3), rows(1, start=2)]))


def test_an_unreadable_journal_starts_the_cache_anew(logits, store, tmp_path):
    logits.add(["a", "b"], rows(2))
    (tmp_path / "cache" / logits.fingerprint / "shards.jsonl").write_bytes(b'{"name": 1}\n')
    again = LogitsStore(store, logits.fingerprint, tmp_path / "cache")
    np.testing.assert_array_equal(again.lookup(["b"]), rows(2)[1:])


def test_several_writers_share_one_cache(store, tmp_path):
    def write(worker: int) -> None:
        mine = LogitsStore(store, "f" * 64, tmp_path / "cache")
        for number in range(8):
            mine.add([f"{worker} {number}"], rows(1, start=10 * worker + number))
            mine.missing(["anything"])

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = [f"{worker} {number}" for worker in range(3) for number in range(8)]
    expected = np.concatenate([rows(1, start=10 * worker + number) for worker in range(3) for number in range(8)])
    np.testing.assert_array_equal(LogitsStore(store, "f" * 64, tmp_path / "cache").lookup(names), expected)


def not_needed() -> Teacher:
    raise AssertionError("nothing is missing, so no teacher needs to be loaded")


def test_only_what_is_missing_is_scored(store, tmp_path, teacher):
    logits = LogitsStore(store, teacher.fingerprint, tmp_path)
    seen: list[tuple[int, int]] = []
    first = score(
        lambda: teacher,
        logits,
        SENTENCES[:20] * 2,
        shard_sentences=8,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert (first.scored, first.already) == (20, 0)
    assert seen == [(8, 20), (16, 20), (20, 20)]
    assert 0 <= first.padding_share < 1
    stored = shard_keys(store, teacher.fingerprint)
    assert len(stored) == 3
    second = score(lambda: teacher, logits, SENTENCES, shard_sentences=8, progress=quiet)
    assert (second.scored, second.already) == (len(SENTENCES) - 20, 20)
    third = score(not_needed, logits, SENTENCES, shard_sentences=8, progress=quiet)
    assert (third.scored, third.already, third.padding_share) == (0, len(SENTENCES), 0)
    assert set(stored) < set(shard_keys(store, teacher.fingerprint))
    np.testing.assert_allclose(logits.lookup(SENTENCES), teacher.encode(SENTENCES), atol=1e-6)


def test_a_store_of_another_teacher_is_refused(logits, teacher):
    with pytest.raises(ValueError, match="one teacher's embeddings"):
        score(lambda: teacher, logits, SENTENCES, shard_sentences=8, progress=quiet)


SCORE_UNTIL_KILLED = """
import json, sys
from pathlib import Path
from restill.logits import LogitsStore, score
from restill.settings import TeacherSettings
from restill.storage import Connection, ObjectStore
from restill.teachers import load_teacher

job = json.load(sys.stdin)
teacher = load_teacher(TeacherSettings(path=Path(job["teacher"])))
logits = LogitsStore(ObjectStore(Connection(**job["connection"])), teacher.fingerprint, Path(job["cache"]))
score(lambda: teacher, logits, job["sentences"], shard_sentences=2, progress=lambda done, total, speed: None)
"""


def test_a_killed_scoring_run_is_continued_and_nothing_is_scored_twice(store, tmp_path, tiny, teacher):
    sentences = [f"{sentence} {number}" for sentence in SENTENCES for number in range(40)]
    connection = dataclasses.asdict(store.connection) | {"data_dir": None}
    job = {"teacher": str(tiny), "connection": connection, "cache": str(tmp_path), "sentences": sentences}
    child = subprocess.Popen([sys.executable, "-c", SCORE_UNTIL_KILLED], stdin=subprocess.PIPE, text=True)
    try:
        assert child.stdin is not None
        child.stdin.write(json.dumps(job))
        child.stdin.close()
        deadline = time.monotonic() + 60
        while not shard_keys(store, teacher.fingerprint):
            assert child.poll() is None, "the child ended before it stored a shard"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    stored = shard_keys(store, teacher.fingerprint)
    assert 0 < len(stored) < len(sentences) // 2, "killed too late to prove anything"

    logits = LogitsStore(store, teacher.fingerprint, tmp_path)
    report = score(lambda: teacher, logits, sentences, shard_sentences=500, progress=quiet)
    # One more shard may have been on its way when the process was killed.
    assert report.already in (2 * len(stored), 2 * len(stored) + 2)
    assert report.scored == len(sentences) - report.already
    assert set(stored) < set(shard_keys(store, teacher.fingerprint))
    np.testing.assert_allclose(logits.lookup(sentences), teacher.encode(sentences), atol=1e-6)


def test_platt_finds_the_curve_that_made_the_labels():
    random = np.random.default_rng(3)
    cosines = random.uniform(0.7, 1.0, 20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-30 * (cosines - 0.85)))
    found = fit_platt(cosines.astype(np.float32), labels.astype(np.int8))
    assert found.scale == pytest.approx(30, rel=0.1)
    assert found.bias == pytest.approx(0.85, abs=0.005)


def test_platt_logits_are_scaled_distances_to_the_bias():
    found = PlattCalibration(scale=10, bias=0.5).logits(np.array([0.5, 0.7, 0.4], np.float32))
    np.testing.assert_allclose(found, [0, 2, -1], atol=1e-5)
    assert found.dtype == np.float32


def test_platt_reaches_the_targets_it_was_given():
    """Two cosines, four pairs each, one class each: the curve passes through Platt's targets 5/6 and 1/6."""
    found = fit_platt(np.repeat([0.9, 0.5], 4), np.repeat([1, 0], 4))
    logits = found.logits(np.array([0.9, 0.5], np.float32))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), [5 / 6, 1 / 6], atol=1e-3)


@pytest.mark.parametrize(("label", "target"), [(1, 11 / 12), (0, 1 / 12)])
def test_platt_of_one_class_keeps_a_rising_curve_with_the_right_mean(label, target):
    cosines = np.linspace(0.2, 0.9, 10)
    found = fit_platt(cosines, np.full(10, label))
    assert found.scale == pytest.approx(1)
    assert np.mean(1 / (1 + np.exp(-found.logits(cosines)))) == pytest.approx(target, abs=1e-3)


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.sampled_from([0.0, 0.25, 1.0])), min_size=1, max_size=40))
def test_platt_always_rises_and_is_finite(pairs):
    cosines, labels = np.array(pairs, np.float32).T
    found = fit_platt(cosines, labels)
    assert found.scale >= 1 - 1e-6
    assert np.isfinite(found.logits(cosines)).all()


def test_platt_refuses_what_it_cannot_fit():
    with pytest.raises(TrainingFailed, match="no labelled training pair"):
        fit_platt(np.array([]), np.array([]))
    for cosines, labels in [
        ([0.5, np.nan], [0, 1]),
        ([0.5, 0.5], [0, np.nan]),
        ([0.5], [2]),
        ([0.5], [0, 1]),
    ]:
        with pytest.raises(ValueError, match=r"Received|must be"):
            fit_platt(np.array(cosines), np.array(labels))


def read_pairs(path: Path, count: int) -> tuple[list[str], list[str], list[int]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        chosen = list(itertools.islice(csv.DictReader(file), count))
    text_a, text_b = ([row[name] for row in chosen] for name in ("text_a", "text_b"))
    return text_a, text_b, [int(row["label"]) for row in chosen]


@pytest.mark.parametrize(
    ("data", "settings", "least"),
    [
        ("zh/lcqmc_dev", TeacherSettings(path=SHARED / "teachers" / "zh-e5-small", prompt="query: "), 0.85),
        ("en/qqp_dev", TeacherSettings(), 0.75),
    ],
)
def test_scores_of_real_pairs_tell_duplicates_apart(store, tmp_path, data, settings, least):
    path = SHARED / "data" / f"{data}.csv.gz"
    if not path.is_file() or not (settings.path is None or settings.path.is_dir()):
        pytest.skip(f"needs ../shared/data/{data}.csv.gz and its teacher")
    text_a, text_b, labels = read_pairs(path, 600)
    real = load_teacher(settings)
    logits = LogitsStore(store, real.fingerprint, tmp_path)
    score(lambda: real, logits, [*text_a, *text_b], shard_sentences=512, progress=quiet)
    cosines = logits.cosines(text_a, text_b)
    assert roc_auc_score(labels, cosines) > least
    right = (fit_platt(cosines, np.array(labels)).logits(cosines) > 0) == np.array(labels)
    assert right.mean() > max(np.mean(labels), 1 - np.mean(labels)) + 0.1
