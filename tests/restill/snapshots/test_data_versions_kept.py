"""Versions that can be named, compared, checked out, verified and opened again: real DVC, real S3."""

import json
import multiprocessing
import os
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from data_sets import add, git, texts, write_partition
from dvc.repo import Repo

from restill import snapshots
from restill.errors import DataMissing, IntegrityError, VersionNotFound
from restill.snapshots import PAIRS, POINTER, contents, records, working_copy
from restill.storage.objects import ObjectStore


def state(root: Path) -> tuple[bytes, dict[str, bytes]]:
    files = sorted(path for path in (root / "data").rglob("*") if path.is_file())
    return (root / POINTER).read_bytes(), {str(path.relative_to(root)): path.read_bytes() for path in files}


def forget_local_copies(root: Path) -> None:
    for folder in ("data", ".dvc/cache", ".restill"):
        shutil.rmtree(root / folder)


def test_a_record_says_what_a_version_is(root, store):
    first = add(root, store, "aa")
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with snapshots.changing(root, store):
        write_partition(root, "bb", rows=4)
        second = snapshots.publish(root, store, reason="because", at=at)
    record = snapshots.find_version(store, second.version[:6])
    assert (record.version, record.parent, record.at, record.reason) == (second.version, first.version, at, "because")
    assert [batch.batch for batch in record.batches] == ["aa", "bb"]
    assert (record.batches[1].rows, record.batches[1].labels) == (4, {"positive": 1, "negative": 3})
    assert {file.path for file in record.files} == {
        f"pairs/batch={name}/{file}" for name in ("aa", "bb") for file in ("batch.json", "part-0.parquet")
    }
    for file in record.files:
        path = root / "data" / file.path
        assert (file.md5, file.sha256) == contents.digests(path)
        assert file.bytes == path.stat().st_size == store.head(working_copy.key(file.md5)).size
    assert f"size: {record.size}\n" in (root / POINTER).read_text()
    assert f"nfiles: {record.nfiles}\n" in (root / POINTER).read_text()


def test_restill_and_dvc_call_the_same_files_the_same(root, store):
    """The version is told without DVC; DVC itself must agree, and find the working copy unchanged."""
    published = add(root, store, "aa")
    before = (root / POINTER).read_bytes()
    with Repo(str(root)) as repo:
        assert repo.status() == {}
        repo.add(str(root / "data"))
    assert (root / POINTER).read_bytes() == before
    assert snapshots.current(root) == published


def test_the_first_record_of_a_version_stands(root, store):
    first = add(root, store, "aa")
    second = add(root, store, "bb")
    snapshots.checkout(root, store, first.version)
    with snapshots.changing(root, store):
        write_partition(root, "cc")
        snapshots.publish(root, store)
    with snapshots.changing(root, store):
        shutil.rmtree(root / PAIRS / "batch=cc")
        write_partition(root, "bb")
        again = snapshots.publish(root, store, reason="another way")
    assert again == second
    assert snapshots.find_version(store, second.version).parent == first.version
    assert [entry.record.version for entry in snapshots.log(root, store)][:2] == [second.version, first.version]


def test_versions_are_found_by_their_beginning(root, store):
    made = [add(root, store, name).version for name in ("aa", "bb", "cc")]
    assert [record.version for record in snapshots.versions(store)] == made
    assert snapshots.find_version(store, made[1].upper()).version == made[1]
    for unknown in ("0" * 32, "../x", "", "xyz"):
        with pytest.raises(VersionNotFound, match="has a record") as missing:
            snapshots.find_version(store, unknown)
        assert "restill data log" in missing.value.hint
    twin = made[0][:8] + "0" * 24
    store.create(records.key(twin), b"{}")
    with pytest.raises(VersionNotFound, match="beginning of 2") as several:
        snapshots.find_version(store, made[0][:8])
    assert made[0][:12] in str(several.value)
    assert twin[:12] in str(several.value)
    with pytest.raises(IntegrityError, match="not a version record"):
        snapshots.find_version(store, twin)


def test_the_log_follows_the_named_version_back_and_then_tells_the_others(root, store):
    first, second = add(root, store, "aa"), add(root, store, "bb")
    snapshots.checkout(root, store, first.version)
    third = add(root, store, "cc")
    log = snapshots.log(root, store)
    assert [(entry.record.version, entry.named, entry.in_chain) for entry in log] == [
        (third.version, True, True),
        (first.version, False, True),
        (second.version, False, False),
    ]
    (root / POINTER).unlink()
    assert [entry.in_chain for entry in snapshots.log(root, store)] == [False] * 3


def test_a_chain_that_closes_ends(root, store):
    """An older Restill's version gets its record late, perhaps when a later one is already its child."""
    first = add(root, store, "aa")
    record = snapshots.find_version(store, first.version)
    second = add(root, store, "bb")
    store.delete(records.key(first.version))
    records.write(store, record.model_copy(update={"parent": second.version}))
    assert [entry.record.version for entry in snapshots.log(root, store)] == [second.version, first.version]


def test_a_diff_names_batches_and_counts_pairs(root, store):
    first = add(root, store, "aa")
    add(root, store, "bb", rows=6)
    with snapshots.changing(root, store):
        shutil.rmtree(root / PAIRS / "batch=aa")
        write_partition(root, "cc", rows=3)
        third = snapshots.publish(root, store)
    diff = snapshots.diff(store, first.short, third.short)
    assert [batch.batch for batch in diff.only_a] == ["aa"]
    assert [batch.batch for batch in diff.only_b] == ["bb", "cc"]
    assert diff.both == diff.rewritten == ()
    assert (diff.difference.batches, diff.difference.rows) == (1, 6)
    assert diff.difference.splits == {"train": 2, "test": 2, "validation": 2}
    assert diff.difference.labels == {"positive": 1, "negative": 5}


def test_a_rewritten_batch_is_told(root, store):
    first = add(root, store, "aa", rows=6)
    with snapshots.changing(root, store):
        shutil.rmtree(root / PAIRS / "batch=aa")
        write_partition(root, "aa", rows=3)
        second = snapshots.publish(root, store, reason="forgot 3 pairs")
    diff = snapshots.diff(store, first.version, second.version)
    assert diff.rewritten == ("aa",)
    assert diff.difference.rows == -3


@pytest.mark.parametrize("local", [True, False], ids=["cached", "bare clone"])
def test_a_checkout_is_what_was_published_byte_for_byte(root, store, local):
    first = add(root, store, "aa")
    before = state(root)
    second = add(root, store, "bb")
    after = state(root)
    if not local:
        forget_local_copies(root)
    assert snapshots.checkout(root, store, first.short) == first
    assert state(root) == before
    assert snapshots.checkout(root, store, second.version) == second
    assert state(root) == after
    assert snapshots.verify(root, store, deep=True) == []


def test_a_checkout_of_what_is_gone_changes_nothing(root, store):
    add(root, store, "aa")
    gone = add(root, store, "bb")
    snapshots.checkout(root, store, snapshots.versions(store)[0].version)
    before = state(root)
    shutil.rmtree(root / ".dvc" / "cache")
    file = next(f for f in snapshots.find_version(store, gone.version).files if "batch=bb" in f.path)
    store.delete(working_copy.key(file.md5))
    with pytest.raises(DataMissing, match="1 of 4 objects"):
        snapshots.checkout(root, store, gone.version)
    with pytest.raises(DataMissing, match="1 of 4 objects"):
        snapshots.open_version(root, store, gone.version)
    assert state(root) == before
    assert snapshots.current(root) is not None
    assert any(file.path in problem for problem in snapshots.verify(root, store, gone.version))


def test_a_checkout_that_fails_half_way_is_taken_back(root, store, monkeypatch):
    first = add(root, store, "aa")
    second = add(root, store, "bb")
    before = state(root)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(working_copy, "write_pointer", fail)
        with pytest.raises(OSError, match="No space"):
            snapshots.checkout(root, store, first.version)
    assert state(root) == before
    assert snapshots.current(root) == second


def test_an_older_version_is_opened_beside_the_named_one(root, store):
    first = add(root, store, "aa")
    add(root, store, "bb")
    before = state(root)
    forget_local_copies(root)
    snapshots.pull(root, store)
    assert snapshots.opened_version(root, first.version) is None
    opened = snapshots.open_version(root, store, first.version[:8])
    assert opened.root == root / ".restill" / "cache" / "data" / first.version / "pairs"
    assert (opened.version, opened.batches, opened.rows) == (first.version, first.batches, first.rows)
    assert texts(opened) == ["aa 0", "aa 1", "aa 2"]
    assert state(root) == before
    assert snapshots.opened_version(root, first.version) == opened
    assert snapshots.open_version(root, store, first.version) == opened


def test_an_opened_version_that_was_damaged_is_made_again(root, store):
    version = add(root, store, "aa").version
    file = snapshots.open_version(root, store, version).files()[0]
    file.unlink()
    file.write_bytes(b"PAR1 other bytes")
    stray = file.with_name("stray.parquet")
    stray.write_bytes(b"")
    opened = snapshots.open_version(root, store, version)
    assert texts(opened) == ["aa 0", "aa 1", "aa 2"]
    assert not stray.exists()


def test_a_damaged_cache_is_not_opened_as_the_version(root, store):
    version = add(root, store, "aa").version
    record = snapshots.find_version(store, version)
    parquet = next(file for file in record.files if file.path.endswith("parquet"))
    held = root / ".dvc" / "cache" / "files" / "md5" / parquet.md5[:2] / parquet.md5[2:]
    held.chmod(0o644)
    held.write_bytes(b"x" * parquet.bytes)
    with pytest.raises(IntegrityError, match=parquet.sha256):
        snapshots.open_version(root, store, version)
    assert not (root / ".restill" / "cache" / "data" / version).exists()


def test_verify_finds_what_is_wrong_where(root, store):
    published = add(root, store, "aa")
    assert snapshots.verify(root, store, deep=True) == []
    record = snapshots.find_version(store, published.version)
    parquet = next(file for file in record.files if file.path.endswith("parquet"))
    good = store.get(working_copy.key(parquet.md5))

    store.delete(working_copy.key(parquet.md5))
    store.create(working_copy.key(parquet.md5), good[::-1])
    assert snapshots.verify(root, store) == []  # the size is right: only reading tells
    (problem,) = snapshots.verify(root, store, deep=True)
    assert "is damaged" in problem
    assert parquet.path in problem

    store.delete(working_copy.key(parquet.md5))
    store.create(working_copy.key(parquet.md5), good[:-1])
    (problem,) = snapshots.verify(root, store)
    assert f"{parquet.bytes - 1:,} bytes instead of {parquet.bytes:,}" in problem

    (root / "data" / parquet.path).write_bytes(good[::-1])
    (root / "data" / "pairs" / "note.txt").write_text("x")
    problems = snapshots.verify(root, store)
    assert len(problems) == 3
    assert any("pairs/note.txt" in problem for problem in problems)
    assert any(parquet.sha256 in problem for problem in problems)


def test_a_version_of_an_older_restill_is_reported_and_then_recorded(root, store):
    published = add(root, store, "aa")
    store.delete(records.key(published.version))
    (problem,) = snapshots.verify(root, store)
    assert "has no record" in problem
    assert snapshots.log(root, store) == []
    assert snapshots.pull(root, store) == published
    assert snapshots.verify(root, store) == []
    assert snapshots.find_version(store, published.version).reason == "found without a record"


def test_a_record_that_describes_something_else_is_refused(root, store):
    published = add(root, store, "aa")
    document = json.loads(store.get(records.key(published.version)))
    document["files"][0]["md5"] = "0" * 32
    store.delete(records.key(published.version))
    store.create(records.key(published.version), json.dumps(document).encode())
    with pytest.raises(IntegrityError, match="by files that are version"):
        snapshots.find_version(store, published.version)
    (problem,) = snapshots.verify(root, store)
    assert "by files that are version" in problem


def test_a_record_cannot_lead_out_of_the_data_folder():
    for path in ("../x", "/etc/passwd", "pairs/../../x", ""):
        with pytest.raises(ValueError, match="inside the data folder"):
            contents.FileRecord(path=path, md5="0" * 32, sha256="0" * 64, bytes=0)


def test_a_batch_that_is_not_what_its_description_says_is_not_published(root, store):
    before = add(root, store, "aa")
    with snapshots.changing(root, store):
        write_partition(root, "bb")
        (root / PAIRS / "batch=bb" / snapshots.PARQUET_FILE).write_bytes(b"PAR1")
        with pytest.raises(IntegrityError, match="changed after it was written"):
            snapshots.publish(root, store)
    assert snapshots.current(root) == before


@pytest.mark.parametrize("point", ["take_in", "push", "write", "write_pointer"])
def test_a_kill_at_any_point_of_a_publication_names_nothing(root, store, point):
    before = add(root, store, "aa")
    dying = multiprocessing.get_context("fork").Process(target=_publish_and_die, args=(root, store, point))
    dying.start()
    dying.join(60)
    assert dying.exitcode == -signal.SIGKILL
    assert snapshots.named_version(root) == before.version
    assert snapshots.pull(root, store) == before
    assert snapshots.verify(root, store, deep=True) == []
    after = add(root, store, "bb")
    assert after.batches == ("aa", "bb")
    assert snapshots.find_version(store, after.version).parent == before.version


def _publish_and_die(root: Path, store: ObjectStore, point: str) -> None:
    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(records if point == "write" else working_copy, point, die)
    add(root, ObjectStore(store.connection), "bb")


def test_files_are_read_again_only_when_they_changed(tmp_path, monkeypatch):
    folder, memory = tmp_path / "data", tmp_path / "memory.json"
    folder.mkdir()
    old = folder / "old"
    old.write_bytes(b"one")
    monkeypatch.setattr(contents, "YOUNG_NS", -(10**18))  # remember at once
    read: list[str] = []
    digests = contents.digests
    monkeypatch.setattr(contents, "digests", lambda path: read.append(path.name) or digests(path))
    first = contents.scan(folder, memory=memory)
    assert contents.scan(folder, memory=memory) == first
    assert read == ["old"]
    times = old.stat()
    old.write_bytes(b"two")
    os.utime(old, ns=(times.st_atime_ns, times.st_mtime_ns))  # the change of the inode tells
    assert contents.scan(folder, memory=memory) != first
    memory.write_bytes(b"[1, 2")
    assert contents.scan(folder, memory=memory) == contents.scan(folder)


def test_what_was_just_written_is_not_remembered(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "new").write_bytes(b"one")
    contents.scan(tmp_path / "data", memory=tmp_path / "memory.json")
    assert not (tmp_path / "memory.json").exists()


def test_one_more_publication_asks_as_little_with_many_batches_as_with_few(root, store):
    """Requests of Restill's own client, which does all the asking; DVC's only uploads what is new."""

    def requests_of(count: int) -> int:
        nonlocal seen
        with snapshots.changing(root, store):
            for _ in range(count):
                write_partition(root, f"b{len(list((root / PAIRS).iterdir())):03d}")
            snapshots.publish(root, store)
        seen = 0
        add(root, store, f"b{len(list((root / PAIRS).iterdir())):03d}")
        return seen

    seen = 0

    def count(**_: object) -> None:
        nonlocal seen
        seen += 1

    store._client.meta.events.register("before-send.s3", count)
    few = requests_of(1)
    many = requests_of(40)
    assert many == few
    seen = 0
    snapshots.pull(root, store)
    assert seen <= 4  # one listing answers for all objects


def test_an_upstream_version_is_adopted_byte_for_byte(root, store, tmp_path):
    add(root, store, "aa")
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(root), str(other))
    shutil.copy(root / POINTER, other)
    upstream = add(other, store, "bb")
    pointer = (other / POINTER).read_bytes() + b"# by another machine\n"
    assert snapshots.adopt(root, store, pointer).version == upstream.version
    assert (root / POINTER).read_bytes() == pointer
    assert texts(snapshots.current(root)) == texts(upstream)
    with pytest.raises(IntegrityError, match="names 0 data versions"):
        snapshots.adopt(root, store, b"nothing")
