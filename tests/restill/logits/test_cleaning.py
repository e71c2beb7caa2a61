from datetime import timedelta

import pytest
from scoring_parts import StubTeacher, numbered, quiet, shard_keys, snapshot_of, until

from restill import batches, removal, snapshots
from restill.errors import ConfigurationError, RestillError
from restill.logits import LogitsStore, cleaning, jobs, places, planning, scoring
from restill.logits.scoring import score
from restill.logits.worker import work
from restill.settings import Settings
from restill.storage.objects import ObjectStore


@pytest.fixture
def logits(store, tmp_path):
    return LogitsStore(store, "f" * 64, tmp_path / "cache")


@pytest.fixture
def plan(logits, tmp_path):
    return planning.make_plan(snapshot_of(tmp_path / "data", numbered(32)), logits, shard_items=8)


def waiting(store, fingerprint="f" * 64):
    names = (places.WORK, places.PLANS)
    return [found.key for name in names for found in store.list(places.folder(fingerprint, name))]


def finish(plan, store):
    work(plan.key, share=0, shares=1, store=store, load_teacher=StubTeacher, progress=quiet)


def test_scoring_leaves_no_text(logits, store, tmp_path):
    score(StubTeacher, logits, snapshot_of(tmp_path / "data", numbered(32)), shard_items=8, progress=quiet)
    assert waiting(store) == []
    assert len(shard_keys(store, logits.fingerprint)) == 8


def test_texts_of_a_plan_under_way_stay_until_their_scores_are_there(plan, store):
    everything = waiting(store)
    assert cleaning.sweep(store, plan.fingerprint) == 0
    assert waiting(store) == everything
    finish(plan, store)
    assert cleaning.sweep(store, plan.fingerprint) == len(plan.shards) + 1
    assert waiting(store) == []


def test_a_cleaning_that_was_killed_is_finished_by_the_next(plan, store, monkeypatch):
    finish(plan, store)
    deleted = []

    def delete(self, key):
        if len(deleted) == 3:
            raise KeyboardInterrupt
        deleted.append(key)
        original(self, key)

    original = ObjectStore.delete
    monkeypatch.setattr(cleaning, "_DELETIONS", 1)
    monkeypatch.setattr(ObjectStore, "delete", delete)
    with pytest.raises(KeyboardInterrupt):
        cleaning.sweep(store, plan.fingerprint)
    monkeypatch.undo()
    assert plan.key in waiting(store)
    cleaning.sweep(store, plan.fingerprint)
    assert waiting(store) == []


def test_what_a_crashed_run_left_is_removed_when_it_is_old(plan, store, monkeypatch):
    for shard in plan.shards[:2]:  # a plan of which some texts are gone, as after a kill
        store.delete(places.work_key(plan.fingerprint, shard))
    monkeypatch.setattr(cleaning, "ABANDONED_AFTER", timedelta(seconds=-5))
    cleaning.sweep(store, plan.fingerprint)
    assert waiting(store) == []


def test_young_texts_without_a_plan_stay_as_their_plan_is_being_made(plan, store):
    store.delete(plan.key)
    assert cleaning.sweep(store, plan.fingerprint) == 0
    assert len(waiting(store)) == len(plan.shards)


def test_forgetting_removes_the_texts_of_every_teacher_and_no_score(plan, logits, store, tmp_path):
    pairs = LogitsStore(store, "c" * 64, tmp_path / "cache", kind="cross-encoder")
    planning.make_plan(snapshot_of(tmp_path / "pairs", numbered(4)), pairs, shard_items=8)
    finish(plan, store)
    scores = shard_keys(store, plan.fingerprint)
    assert cleaning.forget_texts(store) == len(plan.shards) + 1 + 2
    assert waiting(store) == waiting(store, "c" * 64) == []
    assert shard_keys(store, plan.fingerprint) == scores


def test_forgetting_a_sentence_removes_the_texts_that_wait_and_the_next_plan_does_not_have_it(store, tmp_path):
    settings = Settings(root=tmp_path / "project")
    settings.root.mkdir()
    file = settings.root / "pairs.csv"
    lines = [f"turn lamp {n} on,switch on lamp {n},{n % 2}" for n in range(60)]
    file.write_text("\n".join(["text_a,text_b,label", *lines]) + "\n")
    assert batches.ingest_file(file, settings, store).outcome == "accepted"
    logits = LogitsStore(store, "f" * 64, tmp_path / "cache")
    plan = planning.make_plan(snapshots.current(settings.root), logits, shard_items=16)
    asked = {"texts": ["turn lamp 7 on"], "reason": "request 17"}
    removal.forget(settings, store, **asked, dry_run=True)
    assert len(waiting(store)) == len(plan.shards) + 1
    removal.forget(settings, store, **asked)
    assert waiting(store) == []
    with pytest.raises(RestillError, match="are still missing"):
        scoring.finish(plan, logits, planning.Need(plan.total, plan.total, plan.kind), seconds=1)
    again = planning.make_plan(snapshots.current(settings.root), logits, shard_items=16)
    texts = [text for shard in again.shards for text in jobs.read_work(store, again.fingerprint, again.kind, shard)]
    assert len(texts) == 118
    assert "turn lamp 7 on" not in texts


def test_a_run_that_goes_on_with_an_old_plan_keeps_its_texts_from_another_runs_sweep(
    plan, logits, store, tmp_path, monkeypatch
):
    old = {found.key: found.modified for found in store.list("logits/")}
    # As if they lay there for days: whatever is older than the youngest of them is abandoned from here on.
    limit = max(old.values())
    until(lambda: store.clock() > limit + timedelta(seconds=1))
    monkeypatch.setattr(cleaning, "_abandoned", lambda found: found.modified <= limit)
    again = planning.make_plan(snapshot_of(tmp_path / "again", numbered(32)), logits, shard_items=8)
    assert again.key == plan.key
    assert cleaning.sweep(store, plan.fingerprint) == 0
    finish(again, store)


def test_only_a_plan_is_read_as_one(store):
    store.create("registry/default/champion.json", b"{}")
    for key in ("registry/default/champion.json", "no-such-plan", f"logits/{'f' * 64}/plans/x.json"):
        with pytest.raises(ConfigurationError, match="names no scoring plan"):
            jobs.read_plan(store, key)
