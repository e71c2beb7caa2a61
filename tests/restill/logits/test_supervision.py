import pytest
from scoring_parts import StubTeacher, numbered, quiet, snapshot_of

from restill.errors import RestillError
from restill.logits import LogitsStore, planning, supervision
from restill.logits.supervision import supervise
from restill.logits.worker import work


class Scripted:
    """Workers elsewhere that do what a test says when they are started."""

    def __init__(self, plan, store, *does):
        self.plan, self.store, self.does = plan, store, list(does)
        self.started, self.stopped = [], 0
        self.state = {}

    def start(self, share):
        self.started.append(share)
        does = self.does.pop(0)
        self.state[share] = does
        if does == "works":
            work(self.plan.key, share=share, shares=2, store=self.store, load_teacher=StubTeacher, progress=quiet)

    def ended(self):
        return {share: f"it {does}" for share, does in self.state.items() if does != "hangs"}

    def stop(self):
        self.stopped += 1


@pytest.fixture
def logits(store, tmp_path):
    return LogitsStore(store, "f" * 64, tmp_path / "cache")


@pytest.fixture
def plan(logits, tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "_LOOK_SECONDS", 0.01)
    return planning.make_plan(snapshot_of(tmp_path / "data", numbered(16)), logits, shard_items=8)


def see_through(plan, logits, workers, *, stall_seconds=None, progress=quiet):
    said = []
    supervise(plan, logits, workers, shares=2, stall_seconds=stall_seconds, progress=progress, say=said.append)
    return said


def test_it_ends_when_all_is_stored_and_stops_the_rest(plan, logits, store):
    seen = []
    workers = Scripted(plan, store, "hangs", "works")
    said = see_through(plan, logits, workers, progress=lambda done, total, what: seen.append((done, total, what)))
    assert (said, workers.started, workers.stopped) == ([], [0, 1], 1)
    assert seen[-1][:2] == (plan.total, plan.total)


def test_one_that_died_is_replaced_under_its_share(plan, logits, store):
    workers = Scripted(plan, store, "hangs", "died", "works")
    assert see_through(plan, logits, workers) == ["worker 2 of 2 is replaced: it died"]
    assert workers.started == [0, 1, 1]


def test_when_no_shard_comes_all_are_given_up_and_replaced(plan, logits, store):
    """What they say of themselves does not count: a dead worker's run stays Running for ever."""
    workers = Scripted(plan, store, "hangs", "hangs", "hangs", "works")
    said = see_through(plan, logits, workers, stall_seconds=0.1)
    assert [line.split(":")[1] for line in said] == [" no new shard came for 0 seconds"] * 2
    assert (workers.started, workers.stopped) == ([0, 1, 0, 1], 2)


@pytest.mark.parametrize(("does", "stall"), [("died", None), ("hangs", 0.05)])
def test_after_three_replacements_each_it_is_given_up(plan, logits, store, does, stall):
    workers = Scripted(plan, store, *[does] * 8)
    with pytest.raises(RestillError, match=r"4 of 4 shards are missing, and no worker is left") as caught:
        see_through(plan, logits, workers, stall_seconds=stall)
    assert len(workers.started) == 8
    assert caught.value.hint


def test_workers_are_stopped_whatever_happens(plan, logits, store):
    workers = Scripted(plan, store, "hangs", "hangs")

    def interrupted(_done, _total, _what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        see_through(plan, logits, workers, progress=interrupted)
    assert workers.stopped == 1
