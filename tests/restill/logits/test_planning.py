import itertools

import numpy as np
import pytest
from scoring_parts import StubTeacher, add, numbered, quiet, rows, snapshot_of

from restill.errors import IntegrityError
from restill.logits import LogitsStore, jobs, places, planning
from restill.logits.items import as_array, digests_of, item_digest, shard_name
from restill.logits.scoring import score
from restill.logits.worker import work
from restill.storage.objects import ObjectStore

STRANGE = [
    "",
    "a",
    "A",
    "é",
    "é",
    "花呗怎么还款",
    "😀😀",
    "line\nbreak",
    "tab\t",
    "nul\x00inside",
    "'quoted\"",
    "x" * 5000,
]


def plan_of(snapshot, logits, shard_items=8):
    return planning.make_plan(snapshot, logits, shard_items=shard_items)


def planned_items(store, plan):
    return [jobs.read_work(store, plan.fingerprint, plan.kind, shard) for shard in plan.shards]


@pytest.fixture(params=["bi-encoder", "cross-encoder"])
def logits(request, store, tmp_path):
    return LogitsStore(store, "f" * 64, tmp_path / "cache", kind=request.param)


def items_of(logits, pairs):
    if logits.kind == "cross-encoder":
        return set(pairs)
    return {text for pair in pairs for text in pair}


def size(item):
    return len(item.encode()) if isinstance(item, str) else sum(len(text.encode()) for text in item)


def test_every_distinct_item_is_planned_once_by_length_and_digest(logits, store, tmp_path):
    pairs = [*itertools.pairwise(STRANGE), *numbered(30), *numbered(30)[:7]]
    pairs = pairs[::2] + pairs[1::2]
    plan = plan_of(snapshot_of(tmp_path / "data", pairs, batches=3), logits)
    parts = planned_items(store, plan)
    found = [item for part in parts for item in part]
    assert set(found) == items_of(logits, pairs)
    assert found == sorted(found, key=lambda item: (size(item), item_digest(item)))
    assert [len(part) for part in parts] == list(plan.items)
    assert set(plan.items[:-1]) == {8}
    assert plan.shards == tuple(shard_name(digests_of(part)) for part in parts)
    assert jobs.read_plan(store, plan.key) == plan


def test_what_is_missing_is_counted_and_only_that_is_planned(logits, store, tmp_path):
    old, new = numbered(20), numbered(3, start=20)
    snapshot = snapshot_of(tmp_path / "data", old + new)
    known = sorted(items_of(logits, old), key=item_digest)
    add(logits, known, rows(len(known)))
    need = planning.find_need(snapshot, logits)
    assert (need.missing, need.distinct) == (len(items_of(logits, new)), len(items_of(logits, old + new)))
    plan = plan_of(snapshot, logits)
    assert {item for part in planned_items(store, plan) for item in part} == items_of(logits, new)


def test_nothing_missing_is_no_plan(logits, store, tmp_path):
    items = sorted(items_of(logits, numbered(5)))
    add(logits, items, rows(len(items)))
    snapshot = snapshot_of(tmp_path / "data", numbered(5))
    assert planning.count_missing(snapshot, logits) == 0
    assert plan_of(snapshot, logits) is None
    assert plan_of(snapshot_of(tmp_path / "empty", [], batches=0), logits) is None
    assert list(store.list(places.folder(logits.fingerprint, places.WORK))) == []


def test_planning_again_finds_the_same_plan_whatever_the_order_of_the_data(logits, store, tmp_path):
    one = plan_of(snapshot_of(tmp_path / "one", numbered(30), batches=2), logits)
    objects = {found.key: found.etag for found in store.list("logits/")}
    two = plan_of(snapshot_of(tmp_path / "two", numbered(30)[::-1], batches=5), logits)
    assert two.key == one.key
    assert {found.key: found.etag for found in store.list("logits/")} == objects


def test_after_a_kill_the_texts_that_are_left_are_planned_as_they_were(logits, store, tmp_path):
    """Parts of one size: when whole parts are done, the rest falls into the same parts again."""
    snapshot = snapshot_of(tmp_path / "data", numbered(60))
    first = plan_of(snapshot, logits)
    done = [2, 3, 5]
    for number in done:
        items = jobs.read_work(store, first.fingerprint, first.kind, first.shards[number])
        add(logits, items, rows(len(items)))
    again = plan_of(snapshot, logits)
    assert again.shards == tuple(shard for number, shard in enumerate(first.shards) if number not in done)


def test_the_plan_is_written_after_the_texts_it_names(logits, store, tmp_path, monkeypatch):
    written = []
    create = ObjectStore.create
    monkeypatch.setattr(
        ObjectStore, "create", lambda self, key, *rest, **more: written.append(key) or create(self, key, *rest, **more)
    )
    plan = plan_of(snapshot_of(tmp_path / "data", numbered(30)), logits)
    assert written[-1] == plan.key
    assert sorted(written[:-1]) == sorted(places.work_key(plan.fingerprint, shard) for shard in plan.shards)


def damaged_plan(plan, how):
    text = plan.model_dump_json()
    return {
        "no JSON": text[:-5],
        "a shard renamed": text.replace(plan.shards[0], "0" * 32),
        "a count lost": plan.model_copy(update={"items": plan.items[1:]}).model_dump_json(),
        "another kind": text.replace(plan.kind, "tri-encoder"),
    }[how].encode()


@pytest.mark.parametrize("how", ["no JSON", "a shard renamed", "a count lost", "another kind"])
def test_a_damaged_plan_is_named_by_worker_and_planner(store, tmp_path, how):
    logits = LogitsStore(store, "f" * 64, tmp_path / "cache")
    snapshot = snapshot_of(tmp_path / "data", numbered(10))
    plan = plan_of(snapshot, logits)
    store.delete(plan.key)
    store.create(plan.key, damaged_plan(plan, how))
    with pytest.raises(IntegrityError, match=plan.key):
        plan_of(snapshot, logits)
    with pytest.raises(IntegrityError, match=plan.key):
        work(plan.key, share=0, shares=1, store=store, load_teacher=StubTeacher, progress=quiet)


@pytest.mark.parametrize("how", ["cut", "other texts", "other columns", "empty"])
def test_damaged_texts_are_named_and_nothing_of_them_is_scored(store, tmp_path, how):
    logits = LogitsStore(store, "f" * 64, tmp_path / "cache")
    plan = plan_of(snapshot_of(tmp_path / "data", numbered(8)), logits)
    key, other = (places.work_key(plan.fingerprint, shard) for shard in plan.shards[:2])
    body = store.get(key)
    pairs = LogitsStore(store, "e" * 64, tmp_path / "cache", kind="cross-encoder")
    pair_plan = plan_of(snapshot_of(tmp_path / "pairs", numbered(8)), pairs)
    changed = {
        "cut": body[: len(body) // 2],
        "other texts": store.get(other),
        "other columns": store.get(places.work_key("e" * 64, pair_plan.shards[0])),
        "empty": b"",
    }[how]
    store.delete(key)
    store.create(key, changed)
    with pytest.raises(IntegrityError, match=key):
        work(plan.key, share=0, shares=1, store=store, load_teacher=StubTeacher, progress=quiet)
    assert plan.shards[0] not in places.stored_shards(store, plan.fingerprint)


def test_one_per_cent_new_data_is_one_per_cent_of_the_work(store, tmp_path):
    old, new = numbered(1000), numbered(10, start=1000)
    logits = LogitsStore(store, "f" * 64, tmp_path / "cache")
    teacher = StubTeacher()
    full = score(lambda: teacher, logits, snapshot_of(tmp_path / "old", old), shard_items=64, progress=quiet)
    assert (full.scored, len(teacher.encoded)) == (2000, 2000)
    teacher.encoded.clear()
    more = score(lambda: teacher, logits, snapshot_of(tmp_path / "all", old + new), shard_items=64, progress=quiet)
    assert (more.scored, more.already) == (20, 2000)
    assert len(teacher.encoded) == 20


def test_known_digests_that_end_in_zero_bytes_are_known(store, tmp_path):
    """NumPy drops zero bytes at the end of a string; a digest must not lose them on its way to DuckDB."""
    ending = next(f"sentence {n}" for n in range(10_000) if item_digest(f"sentence {n}").endswith(b"\0"))
    logits = LogitsStore(store, "f" * 64, tmp_path / "cache")
    add(logits, [ending], rows(1))
    np.testing.assert_array_equal(logits.known_digests(), as_array([item_digest(ending)]))
    snapshot = snapshot_of(tmp_path / "data", [(ending, ending)])
    assert planning.count_missing(snapshot, logits) == 0
