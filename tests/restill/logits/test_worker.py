import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scoring_parts import StubTeacher, contents, numbered, quiet, shard_keys, snapshot_of, until

from restill.errors import RestillError, TeacherError
from restill.logits import LogitsStore, cleaning, places, planning
from restill.logits.worker import order_of, work


@pytest.fixture(params=["bi-encoder", "cross-encoder"])
def logits(request, store, tmp_path):
    return LogitsStore(store, "f" * 64, tmp_path / "cache", kind=request.param)


@pytest.fixture
def plan(logits, tmp_path):
    return planning.make_plan(snapshot_of(tmp_path / "data", numbered(64)), logits, shard_items=8)


def do(plan, store, teacher, *, share=0, shares=1, progress=quiet):
    return work(plan.key, share=share, shares=shares, store=store, load_teacher=lambda: teacher, progress=progress)


@given(st.integers(0, 40), st.integers(1, 6))
def test_every_worker_looks_at_every_shard_and_their_own_parts_are_all(count, shares):
    shards = [str(number) for number in range(count)]
    orders = [order_of(shards, share=share, shares=shares) for share in range(shares)]
    assert all(sorted(order) == sorted(shards) for order in orders)
    own = [order[: len(shards[share::shares])] for share, order in enumerate(orders)]
    assert sorted(shard for part in own for shard in part) == sorted(shards)
    assert all(int(a) > int(b) for part in own for a, b in pairwise(part))  # the long items first


def test_one_worker_stores_everything_and_tells_how_far_it_is(plan, store, logits):
    seen = []
    teacher = StubTeacher(plan.kind)
    report = do(plan, store, teacher, progress=lambda done, total, what: seen.append((done, total)))
    assert (report.planned, report.shards, report.items, report.late) == (True, len(plan.shards), plan.total, 0)
    assert seen[-1] == (plan.total, plan.total)
    assert len(seen) == len(plan.shards)
    assert report.tokens.padding_share == pytest.approx(0.25)
    tally = logits.tally(plan.shards)
    assert (tally.shards, tally.items, tally.tokens) == (len(plan.shards), plan.total, report.tokens)
    items = sorted(teacher.encoded)
    np.testing.assert_array_equal(logits.lookup(items), StubTeacher(plan.kind).encode_rows(items))


def test_no_teacher_is_loaded_when_all_is_there(plan, store):
    do(plan, store, StubTeacher(plan.kind))
    report = work(plan.key, share=0, shares=1, store=store, load_teacher=lambda: 1 / 0, progress=quiet)
    assert (report.planned, report.shards) == (True, 0)


def test_a_worker_that_comes_after_the_end_finds_no_plan(plan, store):
    do(plan, store, StubTeacher(plan.kind))
    cleaning.sweep(store, plan.fingerprint)
    assert not work(plan.key, share=0, shares=1, store=store, load_teacher=lambda: 1 / 0, progress=quiet).planned


@pytest.mark.parametrize("workers", [2, 3])
def test_the_result_is_the_same_whatever_the_number_of_workers(plan, store, workers):
    do(plan, store, StubTeacher(plan.kind))
    alone = contents(store, plan.fingerprint)
    for key in alone:
        store.delete(key)
    teachers = [StubTeacher(plan.kind) for _ in range(workers)]
    threads = [
        threading.Thread(target=do, args=(plan, store, teacher), kwargs={"share": share, "shares": workers})
        for share, teacher in enumerate(teachers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(store, plan.fingerprint) == alone
    assert all(teacher.encoded for teacher in teachers)


def test_of_two_that_compute_one_shard_the_second_writes_nothing(plan, store):
    """The first stops within a shard; the other does all of it meanwhile; then the first goes on."""
    in_hand, go_on = threading.Event(), threading.Event()

    def stop(call: int) -> None:
        if call == 1:
            in_hand.set()
            assert go_on.wait(60)

    reports = {}
    slow = threading.Thread(target=lambda: reports.update(slow=do(plan, store, StubTeacher(plan.kind, before=stop))))
    slow.start()
    assert in_hand.wait(60)
    until(lambda: len(shard_keys(store, plan.fingerprint)) == 1)
    reports["quick"] = do(plan, store, StubTeacher(plan.kind))
    before = {found.key: (found.etag, found.modified) for found in store.list("logits/")}
    go_on.set()
    slow.join()
    assert {found.key: (found.etag, found.modified) for found in store.list("logits/")} == before
    # The next one was fetched while it computed, so it may come late for that one too.
    assert reports["slow"].shards == 1
    assert reports["slow"].late in (1, 2)
    assert (reports["quick"].shards, reports["quick"].late) == (len(plan.shards) - 1, 0)


@pytest.mark.parametrize("change", [{"fingerprint": "0" * 64}, {"kind": "tri-encoder"}])
def test_a_worker_with_another_teacher_is_refused(plan, store, change):
    teacher = StubTeacher(**({"kind": plan.kind} | change))
    with pytest.raises(TeacherError, match="this worker's teacher is"):
        do(plan, store, teacher)
    assert shard_keys(store, plan.fingerprint) == []
    assert teacher.encoded == []


def test_texts_that_were_removed_stop_a_worker(plan, store):
    store.delete(places.work_key(plan.fingerprint, plan.shards[3]))
    with pytest.raises(RestillError, match=f"{plan.shards[3]}.parquet is gone"):
        do(plan, store, StubTeacher(plan.kind))


def test_scores_that_are_not_finite_are_not_stored(plan, store):
    class Broken(StubTeacher):
        def encode_rows(self, items):
            return np.full_like(super().encode_rows(items), np.nan)

    with pytest.raises(TeacherError, match="not finite"):
        do(plan, store, Broken(plan.kind))
    assert shard_keys(store, plan.fingerprint) == []


WORKER = """
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1])))
from scoring_parts import StubTeacher, quiet
from restill.logits.worker import work
from restill.storage import Connection, ObjectStore

job = json.loads(sys.stdin.readline())

def stop(call):
    if call == job["stops_in"]:
        print("in hand", flush=True)
        sys.stdin.readline()  # for ever

work(
    job["plan"],
    share=job["share"],
    shares=2,
    store=ObjectStore(Connection(**job["connection"])),
    load_teacher=lambda: StubTeacher(job["kind"], before=stop),
    progress=quiet,
)
"""


def start(plan, store, *, share, stops_in=-1):
    child = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    connection = asdict(store.connection) | {"data_dir": None}
    job = {"plan": plan.key, "kind": plan.kind, "share": share, "stops_in": stops_in, "connection": connection}
    assert child.stdin is not None
    child.stdin.write(json.dumps(job) + "\n")
    child.stdin.flush()
    return child


def test_a_worker_killed_within_a_shard_costs_that_shard_and_the_other_does_its_share(plan, store):
    killed, other = start(plan, store, share=0, stops_in=2), None
    try:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "in hand\n"
        until(lambda: len(shard_keys(store, plan.fingerprint)) >= 2)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        left = {found.key: (found.etag, found.modified) for found in store.list("logits/")}
        other = start(plan, store, share=1)
        assert other.wait(60) == 0
    finally:
        for child in (killed, other):
            if child is not None:
                child.kill()
                child.wait()
    now = {found.key: (found.etag, found.modified) for found in store.list("logits/")}
    assert left.items() <= now.items(), "what the dead one had stored was written again"
    expected = [places.shard_key(plan.fingerprint, shard) for shard in plan.shards]
    assert Counter(shard_keys(store, plan.fingerprint)) == Counter(expected)
