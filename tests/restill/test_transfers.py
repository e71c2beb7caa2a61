"""Large files, in parts of a real S3 server's smallest size."""

import hashlib
import re
import secrets

import pytest
from boto3.s3.transfer import TransferConfig
from pending import pending
from proxies import CORRUPTED_UPLOAD, ERROR, RESET_AFTER, TRUNCATED, at_number, faulty, once_each
from registered import register

from restill.errors import IntegrityError, StorageUnreachable
from restill.registry import Registry
from restill.storage.objects import ObjectNotFound
from restill.storage.transfers import Parts

PART = 5 * 1024**2
PARTS = Parts(threshold_bytes=2 * PART, part_bytes=PART, parallel=2)
SIZE = 2 * PART + PART // 2  # three parts, the last one smaller


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file").write_bytes(secrets.token_bytes(SIZE))
    return tmp_path / "file"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_part(command, path):
    return command == "PUT" and "partNumber=" in path


def is_completion(command, path):
    return command == "POST" and "uploadId=" in path


def test_a_large_file_goes_in_parts_and_comes_back(store, file, tmp_path):
    with faulty(store, lambda command, path: None) as (proxy, own):
        assert own.store.create_blob("blob", file, sha256=sha256(file), parts=PARTS)
    assert sorted(re.findall(r"partNumber=(\d+)", " ".join(path for _, path, _ in proxy.seen))) == ["1", "2", "3"]
    moved = []
    store.download("blob", tmp_path / "again", sha256=sha256(file), progress=moved.append)
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert sum(moved) == SIZE
    assert pending(store) == []


def test_a_file_of_the_threshold_is_one_put(store, file):
    with faulty(store, lambda command, path: None) as (proxy, own):
        assert own.store.create_blob("blob", file, sha256=sha256(file), parts=Parts(threshold_bytes=SIZE))
    assert [command for command, _, _ in proxy.seen] == ["PUT"]


def test_a_taken_key_stays_as_it_is(store, file):
    store.create("blob", b"first")
    assert not store.create_blob("blob", file, sha256=sha256(file), parts=PARTS)
    assert store.get("blob") == b"first"
    assert pending(store) == []


def test_a_file_that_changed_since_it_was_hashed_is_refused(store, file):
    with pytest.raises(IntegrityError, match="was changed while it was stored"):
        store.create_blob("blob", file, sha256="0" * 64, parts=PARTS)
    assert store.head("blob") is None
    assert pending(store) == []


@pytest.mark.parametrize("wanted", [is_part, is_completion])
def test_a_part_or_end_that_the_server_refuses_leaves_nothing(wanted, store, file):
    with (
        faulty(store, lambda command, path: ERROR if wanted(command, path) else None) as (_, own),
        pytest.raises(StorageUnreachable, match="injected"),
    ):
        own.store.create_blob("blob", file, sha256=sha256(file), parts=PARTS)
    assert store.head("blob") is None
    assert pending(store) == []


def test_a_byte_damaged_on_the_way_up_is_not_stored(store, file):
    with (
        faulty(store, lambda command, path: CORRUPTED_UPLOAD if is_part(command, path) else None) as (_, own),
        pytest.raises(StorageUnreachable),
    ):
        own.store.create_blob("blob", file, sha256=sha256(file), parts=PARTS)
    assert store.head("blob") is None
    assert pending(store) == []


def test_lost_answers_to_parts_are_asked_for_again(store, file):
    with faulty(store, once_each(RESET_AFTER, is_part)) as (_, own):
        assert own.store.create_blob("blob", file, sha256=sha256(file), parts=PARTS)
    assert store.digest("blob") == sha256(file)


def test_a_lost_answer_to_the_end_leaves_the_file_stored(store, file):
    """Whether we know that it was us depends on the server; what must not be is an error, or a pending upload."""
    with faulty(store, at_number(0, RESET_AFTER, is_completion)) as (_, own):
        own.store.create_blob("blob", file, sha256=sha256(file), parts=PARTS)
    assert store.digest("blob") == sha256(file)
    assert pending(store) == []


def test_a_download_is_resumed_after_more_breaks_than_a_small_file_may_have(store, file, tmp_path):
    """Every answer ends in its middle: each try brings half of what is missing."""
    store.create("blob", file)
    requests = []

    def halves(command, path):
        requests.append(command)
        return TRUNCATED if len(requests) <= 3 else None

    moved = []
    with faulty(store, halves) as (_, own):
        own.store.download("blob", tmp_path / "again", sha256=sha256(file), progress=moved.append)
    assert len(requests) == 4
    assert sum(moved) == SIZE
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_a_large_download_comes_in_several_streams_each_taken_up_where_it_broke(store, file, tmp_path):
    store.create("blob", file)
    given = {"sha256": sha256(file), "size": SIZE, "parts": PARTS}
    broken = once_each(TRUNCATED, lambda command, path: command == "GET")
    moved = []
    with faulty(store, broken) as (proxy, own):
        own.store.download("blob", tmp_path / "again", progress=moved.append, **given)
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert sum(moved) == SIZE
    assert len(proxy.seen) > 3
    with (
        faulty(store, lambda command, path: ERROR if command == "GET" else None) as (_, own),
        pytest.raises(StorageUnreachable, match="injected"),
    ):
        own.store.download("blob", tmp_path / "none", **given)
    for wrong in ({"sha256": "0" * 64}, {"size": SIZE - 1}, {"size": SIZE + PART}):
        with pytest.raises(IntegrityError, match="does not hold the promised bytes"):
            store.download("blob", tmp_path / "none", **(given | wrong))
    with pytest.raises(ObjectNotFound):
        store.download("nothing", tmp_path / "none", **given)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("file", "again")] == []


def test_a_large_object_is_copied_and_touched_in_parts(store, file, monkeypatch):
    monkeypatch.setattr(type(store), "copying", TransferConfig(multipart_threshold=PART, multipart_chunksize=PART))
    store.create("blob", file)
    with faulty(store, lambda command, path: None) as (proxy, own):
        own.store.copy("blob", "copy")
        before = store.head("blob").etag
        assert own.store.touch("blob")
        assert not own.store.touch("nothing")
    assert sum(is_part(command, path) for command, path, _ in proxy.seen) == 6
    assert store.head("blob").etag != before
    assert store.digest("copy") == store.digest("blob") == sha256(file)


def test_a_version_with_a_file_above_the_threshold_is_registered_in_parts(store, tmp_path):
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "student.tflite").write_bytes(secrets.token_bytes(1024**2) * 65)
    with faulty(store, lambda command, path: None) as (proxy, own):
        manifest = register(own, folder, files={"student.tflite": "litert"})
    assert sum(is_part(command, path) for command, path, _ in proxy.seen) == 5
    home = Registry(store, "default").fetch(manifest, tmp_path / "cache")
    assert sha256(home / "student.tflite") == sha256(folder / "student.tflite")
