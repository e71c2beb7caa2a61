"""Versions of the data set: real DVC in a temporary Git repository, real S3."""

import dataclasses
import json
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem

from restill import snapshots
from restill.errors import DataMissing, IntegrityError, StorageUnreachable
from restill.snapshots import PAIRS, POINTER, Snapshot, working_copy
from restill.storage.objects import ObjectStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a project folder as a clone of this project is: a Git repository that ignores data and state."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("/data\n.restill/\n")
    return folder


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def write_partition(root: Path, name: str, rows: int = 3) -> None:
    folder = root / PAIRS / f"batch={name}"
    folder.mkdir(parents=True)
    texts = [f"{name} {number}" for number in range(rows)]
    splits = ["train", "test", "validation"]
    table = pa.table({"text_a": texts, "text_b": texts, "split": [splits[number % 3] for number in range(rows)]})
    pq.write_table(table, folder / snapshots.PARQUET_FILE)
    counts = {split: splits_of(table).count(split) for split in splits}
    (folder / snapshots.BATCH_FILE).write_text(json.dumps({"splits": counts}))


def splits_of(table: pa.Table) -> list[str]:
    return list(table["split"].to_pylist())


def add(root: Path, store: ObjectStore, name: str, *, publish_to: ObjectStore | None = None) -> Snapshot:
    with snapshots.changing(root, store):
        write_partition(root, name)
        return snapshots.publish(root, publish_to or store)


def forget_local_copies(root: Path) -> None:
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc" / "cache")
    shutil.rmtree(root / ".restill")


def texts(snapshot: Snapshot) -> list[str]:
    return sorted(set(snapshot.sentences()))


def with_wrong_secret(store: ObjectStore) -> ObjectStore:
    """Return a store that works itself but configures DVC with a secret that the server refuses."""
    broken = ObjectStore(store.connection)
    broken.connection = dataclasses.replace(store.connection, secret_access_key="wrong")
    return broken


def test_a_published_version_is_named_stored_and_readable(root, store):
    published = add(root, store, "aa")
    assert published.batches == ("aa",)
    assert published.rows == {"train": 1, "validation": 1, "test": 1}
    assert f"md5: {published.version}.dir" in (root / POINTER).read_text()
    assert snapshots.named_version(root) == published.version
    assert snapshots.current(root) == published
    assert snapshots.pull(root, store) == published
    assert len(list(store.list("dvc/files/md5/"))) == 3
    assert [batch.to_pydict() for batch in published.read(("text_b",), split="test")] == [{"text_b": ["aa 1"]}]
    assert [path.parent.name for path in published.files()] == ["batch=aa"]


def test_versions_add_up_and_old_ones_come_back(root, store):
    first = add(root, store, "bb")
    git(root, "add", POINTER)
    git(root, "commit", "--quiet", "-m", "first")
    second = add(root, store, "aa")
    assert second.batches == ("aa", "bb")
    assert [batch["text_a"][0].as_py() for batch in second.read(("text_a",), batch="bb")] == ["bb 0"]

    git(root, "checkout", "--", POINTER)
    assert snapshots.current(root) is None  # the working copy is still the second version
    assert snapshots.pull(root, store) == first
    assert texts(first) == ["bb 0", "bb 1", "bb 2"]


def test_a_bare_clone_pulls_everything(root, store):
    published = add(root, store, "aa")
    forget_local_copies(root)
    assert snapshots.current(root) is None
    assert snapshots.pull(root, store) == published
    assert texts(published) == ["aa 0", "aa 1", "aa 2"]


def test_without_data_or_remote_the_error_says_so(root, store):
    assert snapshots.current(root) is None
    with pytest.raises(DataMissing, match="no data set yet"):
        snapshots.pull(root, store)
    add(root, store, "aa")
    forget_local_copies(root)
    part = next(item for item in store.list("dvc/files/md5/") if not item.key.endswith(".dir"))
    store.delete(part.key)
    with pytest.raises(DataMissing, match="1 of 2 objects") as missing:
        snapshots.pull(root, store)
    assert part.key in str(missing.value)
    assert missing.value.hint
    assert snapshots.current(root) is None


def test_a_remote_that_lost_objects_gets_them_again(root, store):
    """Also when DVC's own copy is gone, as after a data set that was made again on a new machine."""
    published = add(root, store, "aa")
    for item in store.list("dvc/"):
        store.delete(item.key)
    shutil.rmtree(root / ".dvc" / "cache")
    assert snapshots.pull(root, store) == published
    forget_local_copies(root)
    assert snapshots.pull(root, store) == published


def test_a_damaged_object_is_never_taken_for_the_data(root, store):
    add(root, store, "aa")
    part = max(store.list("dvc/files/md5/"), key=lambda item: item.size)
    damaged = bytearray(store.get(part.key))
    damaged[len(damaged) // 2] ^= 0xFF
    store.delete(part.key)
    store.create(part.key, bytes(damaged))
    forget_local_copies(root)
    with pytest.raises((DataMissing, StorageUnreachable)):
        snapshots.pull(root, store)
    assert snapshots.current(root) is None


def test_an_object_of_another_size_is_refused(root, store):
    add(root, store, "aa")
    part = max(store.list("dvc/files/md5/"), key=lambda item: item.size)
    store.delete(part.key)
    store.create(part.key, b"short")
    with pytest.raises(IntegrityError, match="5 bytes instead of"):
        snapshots.pull(root, store)


@pytest.mark.parametrize("first", [True, False], ids=["first version", "later version"])
def test_a_failed_push_leaves_everything_as_it_was(root, store, first):
    before = None if first else add(root, store, "aa")
    pointer = None if first else (root / POINTER).read_bytes()
    with pytest.raises(StorageUnreachable):
        add(root, store, "bb", publish_to=with_wrong_secret(store))
    assert ((root / POINTER).read_bytes() if (root / POINTER).exists() else None) == pointer
    assert not (root / PAIRS / "batch=bb").exists()
    assert snapshots.current(root) == before
    assert "bb" in add(root, store, "bb").batches


def test_a_push_that_dies_half_way_names_nothing(root, store, monkeypatch):
    """Objects arrive one by one; a process killed between them, or before data.dvc, leaves the old version named."""
    before = add(root, store, "aa")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(working_copy, "write_pointer", die)
        patch.setattr(working_copy, "put_back", die)  # a killed process puts nothing back
        with pytest.raises(KeyboardInterrupt):
            add(root, store, "bb")
    assert (root / PAIRS / "batch=bb").exists()
    assert snapshots.named_version(root) == before.version
    assert snapshots.pull(root, store) == before
    assert not (root / PAIRS / "batch=bb").exists()


@pytest.mark.parametrize("first", [True, False], ids=["no data set", "with a data set"])
def test_what_a_killed_ingestion_left_is_set_aside(root, store, first):
    """A whole partition and half of one, never published: neither enters the data set, and neither is deleted."""
    if not first:
        add(root, store, "aa")
    write_partition(root, "cc")
    half = root / PAIRS / ".batch=dd.partial" / snapshots.PARQUET_FILE
    half.parent.mkdir(parents=True)
    half.write_bytes(b"PAR1")
    assert snapshots.current(root) is None
    published = add(root, store, "bb")
    assert published.batches == (("bb",) if first else ("aa", "bb"))
    assert {path.name for path in (root / PAIRS).iterdir()} == {f"batch={name}" for name in published.batches}
    aside = root / ".restill" / "set-aside" / "pairs"
    assert (aside / "batch=cc" / snapshots.PARQUET_FILE).is_file()
    assert (aside / ".batch=dd.partial" / snapshots.PARQUET_FILE).read_bytes() == b"PAR1"


def test_a_changed_working_copy_is_not_the_data_set(root, store):
    published = add(root, store, "aa")
    file = published.files()[0]
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    assert snapshots.current(root) is None
    assert snapshots.pull(root, store) == published
    assert file.read_bytes() == good


def test_two_at_once_queue_and_both_are_in(root, store):
    with ThreadPoolExecutor(2) as pool:
        added = list(pool.map(lambda name: add(root, store, name), ("aa", "bb")))
    found = snapshots.current(root)
    assert found in added
    assert found.batches == ("aa", "bb")


def test_git_sees_only_what_belongs_in_it(root, store):
    add(root, store, "aa")
    assert git(root, "status", "--porcelain", "--untracked-files=all").split("\n") == [
        "?? .dvc/.gitignore",
        "?? .dvc/config",
        "?? .gitignore",
        f"?? {POINTER}",
        "",
    ]
    assert (root / ".gitignore").read_text() == "/data\n.restill/\n"


def test_credentials_stay_on_this_machine(root, store):
    local = root / ".dvc" / "config.local"
    local.parent.mkdir()
    local.write_text("[cache]\n    type = copy\n")
    local.chmod(0o644)
    snapshots.configure_remote(root, store)
    assert stat.S_IMODE(local.stat().st_mode) == 0o600
    assert store.connection.secret_access_key in local.read_text()
    assert "type = copy" in local.read_text()
    assert store.connection.secret_access_key not in (root / ".dvc" / "config").read_text()


def test_it_works_without_git(root, store):
    shutil.rmtree(root / ".git")
    assert snapshots.current(root) is None
    assert add(root, store, "aa") == snapshots.current(root)


def test_a_proxy_is_not_asked_for_this_machine(root, store, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    S3FileSystem.clear_instance_cache()
    assert add(root, store, "aa").batches == ("aa",)
    assert "NO_PROXY" not in os.environ


def test_a_merge_conflict_in_the_pointer_is_named(root, store):
    published = add(root, store, "aa")
    (root / POINTER).write_text(f"outs:\n- md5: {published.version}.dir\n- md5: {'0' * 32}.dir\n")
    with pytest.raises(IntegrityError, match="names 2 data versions"):
        snapshots.current(root)


def test_the_committed_dvc_configuration_is_the_one_that_is_written():
    project = Path(__file__).parents[2]
    assert (project / ".dvc" / "config").read_text() == working_copy.DVC_CONFIG
    assert (project / ".dvc" / ".gitignore").read_text() == working_copy.DVC_IGNORED
