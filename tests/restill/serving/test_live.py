"""A champion that follows its alias, in a real registry."""

import dataclasses
import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served import PAIR, eventually, promote

from restill.errors import IntegrityError, StorageUnreachable
from restill.registry import Registry
from restill.serving import Champion, LiveChampion
from restill.storage import ObjectStore

FORKED = """
import dataclasses, os, sys, time
from pathlib import Path
from restill.registry import Registry
from restill.serving import Champion, LiveChampion
from restill.storage import Connection, ObjectStore

endpoint, bucket, prefix, key, secret, cache, second = sys.argv[1:]
store = ObjectStore(Connection(endpoint, "us-east-1", bucket, prefix, key, secret))
first = Champion.from_store(store, model="default", alias="champion", cache_dir=Path(cache), threads=2)
live = LiveChampion(first, poll_seconds=0.05)
pairs = [("a b c d", "b c d e")] * 40
before = live.similarity(pairs).tolist()
ready, children = os.pipe(), []
for _ in range(2):
    if not (child := os.fork()):
        assert live.similarity(pairs).tolist() == before
        os.write(ready[1], b".")
        end = time.monotonic() + 20
        while live.version != second and time.monotonic() < end:
            time.sleep(0.01)
        os._exit(0 if live.version == second and live.similarity(pairs).tolist() != before else 1)
    children.append(child)
assert os.read(ready[0], 1) + os.read(ready[0], 1) == b".."
registry = Registry(ObjectStore(store.connection), "default")
registry.promote(second, alias="champion", expected=first.entry, reason="a", promoted_by="a", verdict_sha256=None)
print([os.waitpid(child, 0)[1] for child in children])
"""

PANICS = b'{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}'
WORDLESS = b'{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"the": 1}, "unk_token": "[UNK]"}}'


@pytest.fixture
def versions(registry, students):
    return [student.register(registry).version for student in students]


def test_the_next_version_takes_over_in_the_background(champion, registry, versions):
    with LiveChampion(champion, poll_seconds=0.02) as live:
        old = live.predict([PAIR])
        promote(registry, versions[1])
        eventually(lambda: live.version == versions[1])
        assert live.predict([PAIR]) != old
        assert live.current.entry.sequence == 2
        registry.rollback("champion", reason="a test", by="a test")
        eventually(lambda: live.version == versions[0])
        assert live.predict([PAIR]) == old
        assert (live.reloads, live.failed_reloads, live.problem) == (2, 0, None)
    assert not [thread for thread in threading.enumerate() if thread.name == "restill-reload"]


def test_what_was_taken_before_a_swap_goes_on_answering(champion, registry, versions):
    with LiveChampion(champion, poll_seconds=3600) as live:
        taken = live.current
        old = taken.predict([PAIR])
        promote(registry, versions[1])
        assert live.refresh()
        assert not live.refresh()
        assert taken.predict([PAIR]) == old
        assert taken.version != live.version


def test_threads_get_whole_answers_of_one_version_during_swaps(champion, registry, versions):
    """Each batch holds one pair many times over: an answer of two versions would not be of one value."""
    known, answers = {}, []
    with LiveChampion(champion, poll_seconds=3600) as live, ThreadPoolExecutor(8) as pool:
        done = threading.Event()

        def ask():
            while not done.is_set():
                current = live.current
                answers.append((current.version, tuple(current.similarity([PAIR] * 20).tolist())))

        asking = [pool.submit(ask) for _ in range(8)]
        for version in [*versions[1:], *versions]:
            count = len(answers)
            promote(registry, version)
            live.refresh()
            known[version] = live.similarity([PAIR])[0]
            eventually(lambda count=count: len(answers) > count + 8)
        done.set()
        for asked in asking:
            asked.result(timeout=30)
    assert {version for version, _ in answers} == set(versions)
    for version, found in answers:
        assert found == pytest.approx([known[version]] * 20, abs=1e-6)
    assert len(set(known.values())) == len(versions)


def test_the_next_version_is_ready_for_the_shapes_in_use(champion, registry, versions):
    with LiveChampion(champion, poll_seconds=3600) as live:
        live.similarity([(" ".join("abcdefgh") + " a b", "b")])
        live.similarity([PAIR] * 40)
        shapes = set(live.current._encoder.shapes)
        promote(registry, versions[1])
        live.refresh()
        assert set(live.current._encoder.shapes) >= shapes
        assert len(shapes) > 2


@pytest.mark.parametrize(
    ("damaged", "instead", "problem"),
    [
        ("student.tflite", b"{}", "IntegrityError"),
        ("tokenizer.json", b"{}", "IntegrityError"),
        ("tokenizer.json", PANICS, "PanicException"),  # no Exception: what catches those alone would end following
        ("tokenizer.json", WORDLESS, "Missing [UNK] token"),  # read, but it cannot answer
        ("student.json", b"{}", "IntegrityError"),
    ],
)
def test_a_version_that_cannot_be_loaded_is_never_swapped_in(
    champion, registry, versions, students, tmp_path, damaged, instead, problem, caplog
):
    """It was registered so: every digest is right. The cause is logged once, and the next promotion takes over."""
    for file in students[1].files:
        content = instead if file == damaged else (students[1].folder / file).read_bytes()
        (tmp_path / file).write_bytes(content)
    broken = dataclasses.replace(students[1], folder=tmp_path).register(registry).version
    with caplog.at_level(logging.WARNING, "restill.serving"), LiveChampion(champion, poll_seconds=0.01) as live:
        old = live.predict([PAIR])
        promote(registry, broken)
        eventually(lambda: live.failed_reloads >= 3)
        assert live.version == versions[0]
        assert live.predict([PAIR]) == old
        assert problem in live.problem
        assert len(caplog.records) == 1
        assert live.problem in caplog.text
        promote(registry, versions[2])
        eventually(lambda: live.version == versions[2])
        assert live.problem is None


def test_a_version_that_answers_with_no_number_is_never_swapped_in(champion, registry, versions, monkeypatch):
    with LiveChampion(champion, poll_seconds=3600) as live:
        promote(registry, versions[1])
        monkeypatch.setattr(Champion, "similarity", lambda self, pairs: np.full(len(pairs), np.nan))
        with pytest.raises(IntegrityError, match="no number"):
            live.refresh()
        assert live.version == versions[0]


def test_stored_bytes_that_were_damaged_are_never_swapped_in(champion, registry, versions):
    wanted = registry.manifest(versions[1])
    key = registry.layout.blob(next(file.sha256 for file in wanted.files if file.role == "litert"))
    body = registry.store.get(key)
    registry.store.delete(key)
    registry.store.create(key, body[:-1] + bytes([body[-1] ^ 1]))
    with LiveChampion(champion, poll_seconds=0.01) as live:
        promote_damaged = promote(registry, versions[1])
        eventually(lambda: live.failed_reloads >= 2)
        assert live.version == versions[0]
        assert "expected SHA-256" in live.problem
        registry.store.delete(key)
        registry.store.create(key, body)
        eventually(lambda: live.version == promote_damaged.version)


def test_a_store_that_is_away_changes_nothing(champion, registry, versions, free_tcp_port):
    away = ObjectStore(dataclasses.replace(registry.store.connection, endpoint_url=f"http://127.0.0.1:{free_tcp_port}"))
    back = champion._connected
    champion._connected = Registry(away, "default")
    with LiveChampion(champion, poll_seconds=3600) as live:
        promote(registry, versions[1])
        with pytest.raises(StorageUnreachable):
            live.refresh()
        assert live.version == versions[0]
        assert len(live.predict([PAIR])) == 1
        champion._connected = back
        assert live.refresh()


def test_pauses_grow_while_it_fails(champion, monkeypatch):
    """The pauses are looked at, not waited for."""
    pauses = []

    class Clock(threading.Event):
        def wait(self, seconds):
            pauses.append(seconds)
            return len(pauses) > 8

    with LiveChampion(champion, poll_seconds=3600) as live:
        monkeypatch.setattr(live, "refresh", lambda: (_ for _ in ()).throw(OSError("no space left")))
        live._stop.set()
        live._thread.join()
        live._stop, live._poll_seconds = Clock(), 30
        live._follow()
        assert pauses == [30, 60, 120, 240, 300, 300, 300, 300, 300]
        assert live.failed_reloads == 8


def test_forked_processes_answer_and_follow_too(registry, versions, tmp_path):
    at = registry.store.connection
    arguments = [at.endpoint_url, at.bucket, at.prefix, at.access_key_id, at.secret_access_key, tmp_path, versions[1]]
    finished = subprocess.run(
        [sys.executable, "-c", FORKED, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "[0, 0]", finished.stderr
