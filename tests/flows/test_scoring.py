"""`score` with workers that are real processes: of a Prefect work pool, of a Dask cluster, and of the command line."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL

from flows.registration import register
from flows.score import score
from restill import batches, logits, snapshots, storage
from restill.logits import places, planning
from restill.settings import load_settings

pytestmark = pytest.mark.timeout(600)  # a busy machine starts a dozen processes slowly

BIN = Path(sys.executable).parent
VERBS = ("open", "close", "find", "play", "stop", "show")
THINGS = ("door", "window", "lamp", "music", "card", "account")
ROOMS = ("kitchen", "house", "room", "small room", "big house", "old kitchen")


@pytest.fixture(scope="module")
def data(project, prefect_server):
    """Bring in 648 pairs, about 900 sentences."""
    phrases = itertools.product(VERBS, THINGS, ROOMS, range(3))
    lines = [
        f"{verb} the {thing} in the {room} {change},{verb} {room} {thing} {change} now,{number % 2}"
        for number, (verb, thing, room, change) in enumerate(phrases)
    ]
    file = project.root / "pairs.csv"
    file.write_text("\n".join(["text_a,text_b,label", *lines]) + "\n")
    settings = load_settings()
    outcome = batches.ingest_file(file, settings, storage.connect(settings.storage, settings.state_dir))
    assert outcome.outcome == "accepted", outcome.reasons
    return snapshots.current(project.root)


class Scores:
    """The stored scores of the project."""

    def __init__(self) -> None:
        self.settings = load_settings()
        self.store = storage.connect(self.settings.storage, self.settings.state_dir)
        self.logits = logits.open_store(self.settings, self.store)

    def objects(self, name: str = places.SHARDS) -> dict[str, tuple[object, ...]]:
        prefix = places.folder(self.logits.fingerprint, name)
        return {found.key: (found.etag, found.modified) for found in self.store.list(prefix)}

    def contents(self) -> dict[str, bytes]:
        return {key: self.store.get(key) for key in self.objects()}

    def clear(self) -> None:
        for key in self.objects():
            self.store.delete(key)

    def assert_complete(self, data) -> None:
        need = planning.find_need(data, self.logits)
        assert need.missing == 0
        assert self.logits.tally([Path(key).stem for key in self.objects()]).items == need.distinct  # none twice
        assert self.objects(places.WORK) == self.objects(places.PLANS) == {}


@pytest.fixture(scope="module")
def scores(data) -> Scores:
    return Scores()


@pytest.fixture(scope="module")
def by_command(project, data, scores):
    """Say what is missing, score all of it with two processes, and say again what is missing."""
    dry = project.restill("score", "--dry-run")
    before = scores.objects()
    done = project.restill("score", "--workers", "2", RESTILL_TEACHER__SHARD_SENTENCES="32")
    return dry, before, done, project.restill("score", "--dry-run")


@pytest.fixture(scope="module")
def expected(by_command, scores, data):
    """The bytes of every shard, as the command line made them; then the store is emptied."""
    scores.assert_complete(data)
    assert "were there" in score().sentence
    found = scores.contents()
    scores.clear()
    return found


def test_the_command_says_what_is_missing_scores_it_and_says_how(by_command, data):
    dry, before, done, nothing = by_command
    distinct = len(set(data.sentences()))
    assert dry.returncode == 0, dry.stderr
    assert f"{distinct:,} of {distinct:,} sentences" in dry.stdout
    assert f"{-(-distinct // 256)} shards would be computed" in dry.stdout
    assert before == {}
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Scored {distinct:,} sentences" in done.stdout
    assert "a second" in done.stdout
    assert "% padding" in done.stdout
    assert "Nothing is missing" in nothing.stdout


def test_the_command_refuses_what_it_cannot_do(project):
    assert project.restill("score", "--on", "moon").returncode == 2
    refused = project.restill("score", "--on", "pool", own_server=True)
    assert refused.returncode == 2
    assert "PREFECT_API_URL" in refused.stderr


def until(condition, *, seconds=200.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setenv("RESTILL_TEACHER__SHARD_SENTENCES", "32")


@pytest.fixture
def pool_workers(project, tmp_path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Register the deployments, and start two workers of the pool, each in a folder of its own without the data set."""
    environment = {**os.environ, **project.environment, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    environment |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "1"}
    environment["RESTILL_SCORING__ALLOW_CPU"] = "true"
    register()
    started = []
    try:
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            shutil.copy(project.root / "restill.toml", folder)
            shutil.copytree(project.root / "teacher", folder / "teacher")
            command = [BIN / "prefect", "worker", "start", "--pool", "gpu", "--type", "process", "--limit", "1"]
            with (folder / "log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [*command, "--name", name],
                        env={**environment, "RESTILL_ROOT": str(folder)},
                        cwd=folder,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        yield started
    finally:
        for worker in started:
            for process in [*psutil.Process(worker.pid).children(recursive=True)] if worker.poll() is None else []:
                process.kill()
            worker.kill()
            worker.wait()


def kill_with_children(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker as a machine dies: with everything that it runs."""
    found = psutil.Process(worker.pid)
    for process in [*found.children(recursive=True), found]:
        process.send_signal(signal.SIGKILL)
    worker.wait()


def test_workers_of_the_pool_score_and_one_that_dies_costs_a_shard(
    expected, scores, data, pool_workers, small_shards, monkeypatch
):
    monkeypatch.setenv("RESTILL_SCORING__STALL_SECONDS", "300")
    seen = {}

    def kill_the_first_to_work() -> None:
        until(lambda: len(scores.objects()) > 0)
        seen.update(scores.objects())
        busy = [worker for worker in pool_workers if psutil.Process(worker.pid).children()]
        kill_with_children(busy[0])

    killer = threading.Thread(target=kill_the_first_to_work)
    killer.start()
    report = score(on="pool", workers=2)
    killer.join()
    assert 0 < len(seen) < len(expected), "killed too late to prove anything"
    assert seen.items() <= scores.objects().items(), "what the dead worker had stored was written again"
    assert report.scored == planning.find_need(data, scores.logits).distinct
    assert scores.contents() == expected
    scores.assert_complete(data)
    with get_client(sync_client=True) as client:
        runs = [
            run
            for run in client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=100)
            if run.name.startswith("share-")
        ]
    assert len(runs) >= 2
    assert all(run.state.is_final() for run in runs)


def test_dask_workers_score_and_one_that_dies_costs_a_shard(expected, scores, data, small_shards):
    scores.clear()
    seen, killed = {}, []

    def kill_one() -> None:
        until(lambda: len(scores.objects()) > 0)
        seen.update(scores.objects())
        nannies = [
            child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(_line(child))
        ]
        killed.append(nannies[0].pid)
        nannies[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    report = score(on="dask", workers=2)
    killer.join()
    assert killed
    assert seen.items() <= scores.objects().items()
    assert report.scored == planning.find_need(data, scores.logits).distinct
    assert scores.contents() == expected
    scores.assert_complete(data)


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
