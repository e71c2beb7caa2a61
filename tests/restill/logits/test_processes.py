"""Real worker processes on this machine, each with a real (tiny) teacher."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from factories import write_tiny_cross_encoder, write_tiny_teacher
from scoring_parts import SENTENCES, contents, numbered, quiet, shard_keys, snapshot_of, until

from restill import teachers
from restill.errors import RestillError, TeacherError
from restill.logits import cleaning, open_store, planning, processes, scoring
from restill.logits.items import item_digest
from restill.settings import ScoringSettings, Settings, TeacherSettings

MODULE = "restill.logits.one_share"


@pytest.fixture
def teacher_path(request, tmp_path) -> Path:
    """Return a bi-encoder, unless the test asks for another kind."""
    kind = getattr(request, "param", "bi-encoder")
    return (write_tiny_teacher if kind == "bi-encoder" else write_tiny_cross_encoder)(tmp_path / "teacher")


@pytest.fixture
def project(tmp_path, teacher_path) -> Settings:
    return Settings(root=tmp_path, teacher=TeacherSettings(path=teacher_path))


def with_workers(project, workers):
    return project.model_copy(update={"scoring": ScoringSettings(workers=workers)})


def children():
    found = []
    for child in psutil.Process().children():
        try:
            if MODULE in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def run(plan, logits, project, said=None):
    say = said.append if said is not None else lambda _: None
    processes.score(plan, logits, project, progress=quiet, say=say)


@pytest.mark.parametrize(
    ("teacher_path", "numbers"), [("bi-encoder", (1, 2, 3)), ("cross-encoder", (1, 2))], indirect=["teacher_path"]
)
def test_the_stored_bytes_are_the_same_for_any_number_of_workers(project, store, tmp_path, numbers):
    logits = open_store(project, store)
    snapshot = snapshot_of(tmp_path / "data", [*numbered(40), *zip(SENTENCES, SENTENCES[::-1], strict=True)])
    found = []
    for workers in numbers:
        plan = planning.make_plan(snapshot, logits, shard_items=16)
        run(plan, logits, with_workers(project, workers))
        assert children() == []
        found.append(contents(store, plan.fingerprint))
        for key in found[-1]:
            store.delete(key)
    assert all(one == found[0] for one in found)
    assert len(found[0]) == len(plan.shards)


def test_a_killed_worker_is_replaced_and_what_it_stored_stays(project, store, tmp_path):
    logits = open_store(project, store)
    plan = planning.make_plan(snapshot_of(tmp_path / "data", numbered(600)), logits, shard_items=4)
    said, seen = [], []

    def kill_one() -> None:
        until(lambda: len(shard_keys(store, plan.fingerprint)) > 0)
        seen.append({found.key: (found.etag, found.modified) for found in store.list("logits/")})
        os.kill(children()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    run(plan, logits, with_workers(project, 2), said)
    killer.join()
    assert any("was killed by SIGKILL" in line for line in said), said
    tally = logits.tally(plan.shards)
    assert (tally.shards, tally.items) == (len(plan.shards), plan.total)
    assert 0 < len([key for key in seen[0] if "/shards/" in key]) < len(plan.shards), (
        "killed too late to prove anything"
    )
    now = {found.key: (found.etag, found.modified) for found in store.list("logits/")}
    assert seen[0].items() <= now.items()
    teacher = teachers.load_teacher(project.teacher)
    items = sorted(item for item in _items(plan.kind, numbered(600)))[:50]
    np.testing.assert_allclose(logits.lookup(items), teacher.encode_items(items), atol=1e-5)


def _items(kind, pairs):
    return {text for pair in pairs for text in pair} if kind == "bi-encoder" else set(pairs)


def test_two_coordinators_at_once_store_every_shard_once(project, store, tmp_path):
    snapshot = snapshot_of(tmp_path / "data", numbered(100))
    reports = []

    def coordinate(name: str) -> None:
        mine = open_store(project.model_copy(update={"root": tmp_path / name}), store)
        teacher = project.teacher
        reports.append(
            scoring.score(lambda: teachers.load_teacher(teacher), mine, snapshot, shard_items=16, progress=quiet)
        )

    threads = [threading.Thread(target=coordinate, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2
    logits = open_store(project, store)
    total = len(_items(logits.kind, numbered(100)))
    assert len(logits.known_digests()) == total
    assert len(shard_keys(store, logits.fingerprint)) == -(-total // 16)
    assert {item_digest(item) for item in _items(logits.kind, numbered(100))} == {
        digest.ljust(16, b"\0") for digest in logits.known_digests().tolist()
    }
    assert cleaning.forget_texts(store) == 0, "texts were left"


def test_an_error_that_every_worker_would_meet_is_raised_at_once(project, store, tmp_path):
    logits = open_store(project, store)
    plan = planning.make_plan(snapshot_of(tmp_path / "data", numbered(20)), logits, shard_items=4)
    other = TeacherSettings.model_validate({**project.teacher.model_dump(), "max_tokens": 16})
    wrong = with_workers(project, 2).model_copy(update={"teacher": other})
    with pytest.raises(TeacherError, match="this worker's teacher is"):
        run(plan, logits, wrong)
    assert children() == []
    assert shard_keys(store, plan.fingerprint) == []


def test_workers_that_die_again_and_again_are_given_up_with_their_log_named(project, store, tmp_path, monkeypatch):
    logits = open_store(project, store)
    plan = planning.make_plan(snapshot_of(tmp_path / "data", numbered(20)), logits, shard_items=4)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    said = []
    with pytest.raises(
        RestillError, match=r"no worker is left. The last one: process \d+ ended with code 1, see .*log"
    ):
        run(plan, logits, with_workers(project, 2), said)
    assert len(said) == 6


def test_workers_end_with_a_coordinator_that_is_killed(project, store, tmp_path):
    logits = open_store(project, store)
    planning.make_plan(snapshot_of(tmp_path / "data", numbered(2000)), logits, shard_items=4)
    code = (
        "import sys; from pathlib import Path\n"
        "from restill.logits import jobs, open_store, processes\n"
        "from restill.settings import ScoringSettings, Settings, TeacherSettings\n"
        "from restill.storage import Connection, ObjectStore\n"
        f"store = ObjectStore(Connection(**{ {**vars(store.connection), 'data_dir': None}!r}))\n"
        f"teacher = TeacherSettings(path=Path({str(project.teacher.path)!r}))\n"
        f"settings = Settings(root=Path({str(tmp_path)!r}), teacher=teacher, scoring=ScoringSettings(workers=2))\n"
        "logits = open_store(settings, store)\n"
        "key = next(found.key for found in store.list('logits/') if '/plans/' in found.key)\n"
        "processes.score(jobs.read_plan(store, key), logits, settings, progress=lambda *_: None, say=print)\n"
    )
    coordinator = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: len(shard_keys(store, logits.fingerprint)) > 0)
        workers = psutil.Process(coordinator.pid).children()
        assert len(workers) == 2
    finally:
        coordinator.kill()
        coordinator.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


@pytest.mark.parametrize(("named", "found"), [("", []), ("-1", []), ("0", ["0"]), ("2, GPU-abc", ["2", "GPU-abc"])])
def test_devices_are_those_that_this_process_may_use(monkeypatch, named, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert processes.devices() == found


def test_every_process_gets_a_device_of_its_own(project, store, tmp_path, monkeypatch):
    logits = open_store(project, store)
    plan = planning.make_plan(snapshot_of(tmp_path / "data", numbered(4)), logits, shard_items=4)
    given = []

    class Recorded(subprocess.Popen):
        def __init__(self, _command, **options):
            given.append(options["env"]["CUDA_VISIBLE_DEVICES"])
            super().__init__(["cat"], **options)

    monkeypatch.setattr(processes.subprocess, "Popen", Recorded)
    workers = processes.Processes(plan, logits, project, shares=3, devices=["GPU-a", "GPU-b"])
    for share in range(3):
        workers.start(share)
    workers.stop()
    assert given == ["GPU-a", "GPU-b", "GPU-a"]
