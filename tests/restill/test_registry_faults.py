"""Faults between a client and a real server: whatever happens, the registry is valid and a rerun completes."""

import threading
import time
import types

import pytest
from proxies import (
    CORRUPTED,
    CORRUPTED_UPLOAD,
    ERROR,
    NO_SPACE,
    RESET_AFTER,
    RESET_BEFORE,
    SKEWED,
    SLOW,
    SLOW_DOWN,
    TRUNCATED,
    faulty,
    once_each,
)
from registered import artifact, register
from watching import watched

from restill.errors import IntegrityError, StorageUnreachable
from restill.registry import Registry

PASSING = (RESET_BEFORE, RESET_AFTER, ERROR, SLOW_DOWN, SLOW)  # boto3 repeats the request, or it only takes time
FAILING = (NO_SPACE, SKEWED, CORRUPTED_UPLOAD)  # a second attempt would be no better
BROKEN_READS = (RESET_BEFORE, TRUNCATED, ERROR)


@pytest.fixture
def registry(store):
    return Registry(store, "default")


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """Let boto3 not wait between its attempts: the attempts are tested, not their pauses."""
    monkeypatch.setattr("botocore.endpoint.time", types.SimpleNamespace(sleep=lambda seconds: None, time=time.time))


def is_write(command, path):
    return command == "PUT"


def is_read(command, path):
    return command in ("GET", "HEAD")


def work(registry, folder):
    """Register and promote, as a run does and repeats it."""
    made = register(registry, folder)
    return registry.promote(
        made.version,
        alias="champion",
        expected=None,
        reason="better",
        promoted_by="a run",
        verdict_sha256=None,
        promotion_id="the same run",
    )


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_what_boto3_repeats_stops_nothing(fault, registry, tmp_path):
    folder = artifact(tmp_path / "artifact")
    with watched(registry.store, tmp_path / "cache"), faulty(registry.store, once_each(fault, is_write)) as (_, own):
        entry = work(own, folder)
    assert registry.history("champion") == [entry]
    assert registry.verify() == []
    assert own.store.get("registry/default/champion.json")


@pytest.mark.parametrize("fault", FAILING, ids=str)
def test_after_a_failure_at_any_write_the_rerun_completes(fault, registry, tmp_path):
    """Each write fails the first time it is tried: each run comes one further. A derived view fails no promotion."""
    folder = artifact(tmp_path / "artifact")
    failed = 0
    with watched(registry.store, tmp_path / "cache"), faulty(registry.store, once_each(fault, is_write)) as (_, own):
        while not registry.history("champion"):
            try:
                entry = work(own, folder)
            except StorageUnreachable:
                failed += 1
            assert registry.verify() == []
        assert failed == 5  # three files, manifest, entry
        assert registry.history("champion") == [entry]
        assert registry.store.head("registry/default/champion.json") is None
        for _ in range(3):
            assert work(own, folder) == entry
    for key in ("registry/default/champion.json", "serving/default/1/saved_model.pb"):
        assert registry.store.head(key) is not None


def load(registry, cache):
    entry = registry.champion("champion")
    manifest = registry.manifest(entry.version, sha256=entry.manifest_sha256)
    return registry.fetch(manifest, cache, manifest_sha256=entry.manifest_sha256)


@pytest.mark.parametrize("fault", BROKEN_READS, ids=str)
def test_a_load_survives_a_broken_answer_to_each_request(fault, registry, tmp_path):
    folder = artifact(tmp_path / "artifact")
    work(registry, folder)
    with faulty(registry.store, once_each(fault, is_read)) as (proxy, own):
        home = load(own, tmp_path / "cache")
    assert len(proxy.seen) > 6
    for path in ("student.tflite", "tokenizer.json"):
        assert (home / path).read_bytes() == (folder / path).read_bytes()


def test_a_wrong_byte_on_the_way_is_never_served(registry, tmp_path):
    folder = artifact(tmp_path / "artifact")
    work(registry, folder)
    found = []
    with faulty(registry.store, once_each(CORRUPTED, is_read)) as (_, own):
        while True:
            try:
                home = load(own, tmp_path / "cache")
                break
            except (IntegrityError, StorageUnreachable) as error:  # of a list, the XML does not parse
                found.append(type(error))
    assert found.count(IntegrityError) == 3  # entry, manifest, and the files, which are fetched together
    assert not list((tmp_path / "cache").rglob("*.part"))
    for path in ("student.tflite", "saved_model/saved_model.pb", "tokenizer.json"):
        assert (home / path).read_bytes() == (folder / path).read_bytes()


@pytest.mark.parametrize(
    ("fault", "hint"), [(NO_SPACE, "registry gc"), (SKEWED, "NTP"), (SLOW_DOWN, "Try again")], ids=str
)
def test_what_does_not_pass_says_what_to_do(fault, hint, registry, tmp_path):
    folder = artifact(tmp_path / "artifact")
    with (
        faulty(registry.store, lambda command, path: fault if is_write(command, path) else None) as (_, own),
        pytest.raises(StorageUnreachable) as caught,
    ):
        work(own, folder)
    assert hint in caught.value.hint
    assert list(registry.store.list("")) == []


def test_readers_see_every_promotion_and_rollback_whole(registry, tmp_path):
    """Two clients promote and roll back in turn through a slow line while a reader looks on."""
    made = [register(registry, artifact(tmp_path / str(number)), training_key=str(number)) for number in range(3)]
    lock = threading.Lock()
    slow = []

    def now_and_then(command, path):
        with lock:
            slow.append(path)
            return SLOW if len(slow) % 20 == 0 else None

    with watched(registry.store, tmp_path / "cache") as watcher, faulty(registry.store, now_and_then) as (_, own):
        entry = None
        for turn in range(4):
            client = own if turn % 2 else registry
            entry = client.promote(
                made[turn % 3].version,
                alias="champion",
                expected=entry,
                reason="better",
                promoted_by="me",
                verdict_sha256=None,
            )
        entry = own.rollback("champion", reason="worse", by="me")
    assert watcher.rounds > 1
    assert [entry.sequence for entry in registry.history("champion")] == [1, 2, 3, 4, 5]
    assert registry.verify() == []
