import dataclasses
import hashlib
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from restill import storage
from restill.errors import ConfigurationError, IntegrityError, StorageUnreachable, StorageUnsuitable, VersionNotFound
from restill.settings import StorageSettings
from restill.storage import Connection, ObjectNotFound, ObjectStore

LIGHT = """
import sys
import restill.storage.objects, restill.manifests, restill.registry
print(sorted({"psutil", "filelock", "rich", "polars", "pyarrow", "prefect", "tensorflow"} & set(sys.modules)))
"""


@contextmanager
def serving(handler):
    """Run an HTTP server whose faults no real server would show on request."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def read_body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_DELETE(self):
        self.answer(204)


def store_at(server):
    return ObjectStore(
        Connection(f"http://127.0.0.1:{server.server_address[1]}", "us-east-1", "bucket", "", "key", "secret-word")
    )


def test_a_taken_key_is_never_overwritten(store, tmp_path):
    assert store.create("one", b"first")
    assert not store.create("one", b"second")
    assert store.get("one") == b"first"
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert store.create("two", tmp_path / "file")
    assert not store.create("two", b"other")
    assert store.head("two").size == 3_000_000


def test_what_is_not_there(store):
    assert store.head("nothing") is None
    store.delete("nothing")
    with pytest.raises(ObjectNotFound, match="nothing") as caught:
        store.get("nothing")
    assert isinstance(caught.value, VersionNotFound)
    assert list(store.list("no")) == []


def test_keys_are_listed_without_the_prefix_and_in_byte_order(store):
    keys = ["a/x", "a-b", "é", "z/1", "z/10", "z/2"]
    for key in keys:
        store.create(key, key.encode())
    found = list(store.list(""))
    assert [item.key for item in found] == sorted(keys, key=str.encode)
    assert [item.size for item in found] == [len(item.key.encode()) for item in found]
    assert [item.key for item in store.list("z/1")] == ["z/1", "z/10"]
    store.delete("z/1")
    assert [item.key for item in store.list("z/1")] == ["z/10"]
    assert store.uri("a/x") == f"s3://{store.connection.bucket}/{store.connection.prefix}/a/x"


def test_more_keys_than_one_page_are_listed(store):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.create(f"many/{number:04d}", b""), range(1001)))
    assert [item.key for item in store.list("many/")] == [f"many/{number:04d}" for number in range(1001)]


def test_download_hashes_reports_progress_and_leaves_nothing_behind(store, tmp_path):
    body = bytes(range(256)) * 12_000
    digest = hashlib.sha256(body).hexdigest()
    store.create("blob", body)
    moved = []
    store.download("blob", tmp_path / "sub" / "blob", sha256=digest, progress=moved.append)
    assert (tmp_path / "sub" / "blob").read_bytes() == body
    assert sum(moved) == len(body)
    assert store.digest("blob") == digest

    with pytest.raises(IntegrityError) as caught:
        store.download("blob", tmp_path / "sub" / "other", sha256="0" * 64)
    for part in (store.uri("blob"), "0" * 64, digest):
        assert part in str(caught.value)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["blob"]


def test_a_stream_that_breaks_is_resumed_where_it_broke(tmp_path):
    body = bytes(range(256)) * 20_000
    ranges = []

    class Breaks(Quiet):
        def do_GET(self):
            start = self.headers.get("Range")
            ranges.append(start)
            if start:
                self.answer(206, body[int(start[len("bytes=") : -1]) :])
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True

    moved = []
    with serving(Breaks) as server:
        store_at(server).download(
            "blob", tmp_path / "blob", sha256=hashlib.sha256(body).hexdigest(), progress=moved.append
        )
    assert (tmp_path / "blob").read_bytes() == body
    assert sum(moved) == len(body)
    assert ranges[0] is None
    assert re.fullmatch(r"bytes=\d+-", ranges[1])


def test_a_write_that_must_wait_for_another_is_tried_again():
    answers = [409, 409, 200]

    class Busy(Quiet):
        def do_PUT(self):
            self.read_body()
            status = answers.pop(0)
            error = b"<Error><Code>ConditionalRequestConflict</Code><Message>busy</Message></Error>"
            self.answer(status, b"" if status == 200 else error)

    with serving(Busy) as server:
        assert store_at(server).create("key", b"body")
    assert answers == []


def test_a_presigned_address_needs_no_credentials(store):
    store.create("card.md", b"hello")
    address = store.presign("card.md", seconds=60)
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 (our own server)
        assert answer.read() == b"hello"


def test_the_probe_accepts_a_real_server_and_cleans_up(store):
    store.ensure_bucket()
    store.probe_conditional_writes()
    assert list(store.list("")) == []


def test_a_server_that_ignores_the_condition_is_unsuitable():
    class AcceptsAll(Quiet):
        def do_PUT(self):
            self.read_body()
            self.answer(200)

    with serving(AcceptsAll) as server, pytest.raises(StorageUnsuitable, match="replaced an object"):
        store_at(server).probe_conditional_writes()


def test_a_server_that_checks_the_condition_too_early_is_unsuitable():
    """Check first, store later: right one by one, wrong at once (SeaweedFS before 4.18, rustfs)."""
    taken = set()
    crowd = threading.Barrier(8)

    class ChecksThenActs(Quiet):
        def do_PUT(self):
            body = self.read_body()
            if self.path in taken:
                self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            if body != b"first":
                crowd.wait(timeout=20)  # all eight have checked before any stores
            taken.add(self.path)
            self.answer(200)

    with serving(ChecksThenActs) as server, pytest.raises(StorageUnsuitable, match="let 8 win"):
        store_at(server).probe_conditional_writes()


def test_a_server_that_does_not_know_the_condition_is_unsuitable():
    class Refuses(Quiet):
        def do_PUT(self):
            self.read_body()
            self.answer(501, b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>")

    with serving(Refuses) as server, pytest.raises(StorageUnsuitable, match="not implemented"):
        store_at(server).probe_conditional_writes()


def test_wrong_credentials_are_named_and_the_secret_is_not(server_connection):
    wrong = dataclasses.replace(server_connection, secret_access_key="not-the-secret")
    with pytest.raises(StorageUnreachable, match=server_connection.endpoint_url) as caught:
        ObjectStore(wrong).create("key", b"")
    assert "credentials" in caught.value.hint
    assert "not-the-secret" not in f"{caught.value}{caught.value.hint}{wrong!r}"
    assert server_connection.access_key_id not in repr(wrong)


def test_an_endpoint_where_nobody_listens_fails_soon_and_clearly():
    store = ObjectStore(Connection("http://127.0.0.1:9", "us-east-1", "bucket", "", "key", "secret"))
    start = time.monotonic()
    with pytest.raises(StorageUnreachable, match=r"127\.0\.0\.1:9.*bucket") as caught:
        store.get("key")
    assert time.monotonic() - start < 15
    assert "endpoint_url" in caught.value.hint


@pytest.mark.parametrize("endpoint", ["not an address", "http://", "ftp//x"])
def test_an_endpoint_that_is_no_address_is_refused_clearly(endpoint):
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        ObjectStore(Connection(endpoint, "us-east-1", "bucket", "", "key", "secret")).get("key")


def test_a_server_error_is_reported_with_its_status():
    class Fails(Quiet):
        def do_GET(self):
            self.answer(500, b"<Error><Code>InternalError</Code><Message>No writable volumes</Message></Error>")

    with serving(Fails) as server, pytest.raises(StorageUnreachable, match=r"No writable volumes.*500"):
        store_at(server).get("key")


def test_a_full_disk_under_the_embedded_server_is_named(tmp_path, monkeypatch):
    class Fails(Quiet):
        def do_PUT(self):
            self.read_body()
            self.answer(500, b"<Error><Code>InternalError</Code></Error>")

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9))
    with serving(Fails) as server:
        connection = dataclasses.replace(store_at(server).connection, data_dir=tmp_path)
        with pytest.raises(StorageUnreachable, match="is full") as caught:
            ObjectStore(connection).create("key", b"body")
    assert str(tmp_path) in str(caught.value)


def test_connect_uses_the_configured_endpoint_and_ignores_proxies(server_connection, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    configured = StorageSettings(
        endpoint_url=server_connection.endpoint_url,
        bucket="another-bucket",
        prefix="here",
        access_key_id=server_connection.access_key_id,
        secret_access_key=server_connection.secret_access_key,
    )
    store = storage.connect(configured, tmp_path)
    assert store.create("key", b"body")
    assert not (tmp_path / "s3").exists()  # no embedded server was needed
    reader = storage.connect_uri(
        "s3://another-bucket/here/",
        endpoint_url=server_connection.endpoint_url,
        access_key_id=server_connection.access_key_id,
        secret_access_key=server_connection.secret_access_key,
    )
    assert reader.get("key") == b"body"


@pytest.mark.parametrize("uri", ["http://x/y", "bucket/prefix", "s3:///prefix"])
def test_an_address_that_is_not_s3_is_refused(uri):
    with pytest.raises(ConfigurationError, match="S3 address"):
        storage.connect_uri(uri)


def test_a_missing_bucket_is_named(server_connection):
    missing = dataclasses.replace(server_connection, bucket="never-created")
    with pytest.raises(StorageUnreachable, match=r"never-created.*no such bucket") as caught:
        ObjectStore(missing).get("key")
    assert "storage.bucket" in caught.value.hint


def test_reading_modules_stay_light():
    found = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_a_store_is_proven_once_a_machine(server_connection, tmp_path, monkeypatch):
    """A command that only reads must not write; the first connection on a machine proves the store."""
    configured = StorageSettings(
        endpoint_url=server_connection.endpoint_url,
        bucket=server_connection.bucket,
        prefix="proven",
        access_key_id=server_connection.access_key_id,
        secret_access_key=server_connection.secret_access_key,
    )
    probes = []
    monkeypatch.setattr(ObjectStore, "probe_conditional_writes", lambda self: probes.append(self))
    storage.connect(configured, tmp_path)
    storage.connect(configured, tmp_path)
    assert len(probes) == 1
    storage.connect(configured.model_copy(update={"prefix": "other"}), tmp_path)
    assert len(probes) == 2
