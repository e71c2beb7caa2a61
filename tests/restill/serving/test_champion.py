"""Loading a champion from a real registry."""

import json
import os
import subprocess
import sys
import threading

import pytest
from served import PAIR, promote

from restill.errors import ConfigurationError, IntegrityError, VersionNotFound
from restill.serving import Champion
from restill.storage import ObjectStore

LOAD = """
import sys
from restill.serving import Champion
champion = Champion.load(sys.argv[1], endpoint_url=sys.argv[2])
print(champion.version, champion.similarity([("a b c d", "b c d e")])[0])
"""


@pytest.fixture
def requests(registry):
    """A store like the registry's, and the requests that it sends."""
    store, sent = ObjectStore(registry.store.connection), []
    store._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request))
    return store, sent


def _load(store, tmp_path, **options):
    return Champion.from_store(store, model="default", alias="champion", cache_dir=tmp_path / "cache", **options)


def test_a_second_load_moves_no_bytes(registry, requests, tmp_path):
    """It asks which version is champion: two requests, a listing and the entry."""
    store, sent = requests
    came = []
    first = _load(store, tmp_path, progress=lambda come, total: came.append((come, total)))
    manifest = registry.manifest(first.version)
    assert came[-1] == (manifest.served_bytes, manifest.served_bytes)
    assert [come for come, _ in came] == sorted(come for come, _ in came)
    came.clear()
    sent.clear()
    second = _load(store, tmp_path, progress=lambda come, total: came.append((come, total)))
    assert not came
    assert len(sent) == 2
    assert second.predict([PAIR]) == first.predict([PAIR])


def test_a_poll_is_one_small_request(requests, students, registry, tmp_path):
    store, sent = requests
    champion = _load(store, tmp_path)
    sent.clear()
    assert champion.newer() is None
    assert [request.method for request in sent] == ["GET"]
    assert "start-after" in sent[0].url
    for student in students[1:]:
        last = promote(registry, student.register(registry).version)
    assert champion.newer() == last


def test_a_watch_tells_each_move_of_the_alias(champion, registry, students):
    versions = [student.register(registry).version for student in students]
    stop = threading.Event()
    told = champion.watch(poll_seconds=0.01, stop=stop)
    promote(registry, versions[1])
    assert next(told).version == versions[1]
    promote(registry, versions[2])
    assert next(told).version == versions[2]
    rolled_back = registry.rollback("champion", reason="a test", by="a test")
    assert next(told) == rolled_back
    stop.set()
    assert list(told) == []


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_alone(registry, tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    _load(registry.store, tmp_path)
    shown = capsys.readouterr().err
    assert ("champion:" in shown) is terminal
    _load(registry.store, tmp_path)  # nothing is left to come
    assert capsys.readouterr().err == ""


def test_a_wrong_byte_is_never_served(registry, tmp_path):
    served = registry.manifest(registry.champion("champion").version)
    key = registry.layout.blob(next(file.sha256 for file in served.files if file.role == "litert"))
    body = bytearray(registry.store.get(key))
    body[len(body) // 2] ^= 1
    registry.store.delete(key)
    registry.store.create(key, bytes(body))
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        _load(registry.store, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(registry, tmp_path):
    """A file stands where a folder is wanted: also for root, who may write everywhere else."""
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"cache cannot hold version \w{12}: (File exists|Not a directory)\."):
        _load(registry.store, tmp_path)
    (tmp_path / "cache").unlink()
    version = registry.champion("champion").version
    (tmp_path / "cache" / version / "student.tflite").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="Is a directory"):
        _load(registry.store, tmp_path)


def test_nothing_was_promoted_yet(store, tmp_path):
    with pytest.raises(VersionNotFound, match="Nothing was promoted"):
        _load(store, tmp_path)


def test_an_address_that_names_no_model():
    with pytest.raises(ConfigurationError, match="does not name a model"):
        Champion.load("s3://bucket/prefix")


def test_processes_share_an_empty_cache(registry, tmp_path):
    """Three load the same version at once into one cache, as a service that is started on all cores."""
    connection = registry.store.connection
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": connection.access_key_id,
        "AWS_SECRET_ACCESS_KEY": connection.secret_access_key,
        "XDG_CACHE_HOME": str(tmp_path),
    }
    command = [sys.executable, "-c", LOAD, registry.store.uri("registry/default"), connection.endpoint_url]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, answers
    (said,) = {out for out, _ in answers}
    assert said.split()[0] == registry.champion("champion").version
    kept = [path for path in (tmp_path / "restill").rglob("*") if path.is_file()]
    assert not [path for path in kept if path.name.endswith(".part")]
    assert json.loads(next(path for path in kept if path.name == "student.json").read_text())
