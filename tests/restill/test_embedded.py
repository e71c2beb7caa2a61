import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from restill import storage
from restill.errors import ConfigurationError, StorageUnreachable
from restill.settings import StorageSettings
from restill.storage import ObjectStore, embedded
from restill.storage.embedded import EmbeddedServer

START = """
import sys
from pathlib import Path
from restill.storage.embedded import EmbeddedServer
print(EmbeddedServer(Path(sys.argv[1])).start().endpoint_url)
"""


def servers_of(folder):
    marker = f"-dir={folder.resolve()}/s3/data"
    return [process.pid for process in psutil.process_iter(["cmdline"]) if marker in (process.info["cmdline"] or [])]


def test_a_second_start_finds_the_first_server(embedded_server, server_connection):
    pid = embedded_server.status().pid
    again = EmbeddedServer(embedded_server.home.parent)
    assert again.start() == server_connection
    status = again.status()
    assert status.running
    assert status.healthy
    assert status.pid == pid
    assert status.endpoint_url == server_connection.endpoint_url


def test_connect_without_an_endpoint_uses_the_embedded_server(embedded_server, server_connection):
    store = storage.connect(StorageSettings(prefix="by-default"), embedded_server.home.parent)
    assert store.connection.endpoint_url == server_connection.endpoint_url
    assert store.connection.prefix == "by-default"
    assert store.create("key", b"body")


def test_nothing_listens_beyond_loopback(embedded_server):
    process = psutil.Process(embedded_server.status().pid)
    listening = [link.laddr.ip for link in process.net_connections("inet") if link.status == psutil.CONN_LISTEN]
    assert len(listening) >= 8  # master, volume, filer and S3, each with its gRPC port
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX thing")
def test_keys_are_readable_by_their_owner_only(embedded_server):
    for name in ("credentials", "identities.json", "server.json"):
        assert stat.S_IMODE((embedded_server.home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(embedded_server.home.stat().st_mode) == 0o700
    keys = json.loads((embedded_server.home / "credentials").read_text())
    assert len(keys["secret_access_key"]) >= 30
    assert keys["secret_access_key"] not in embedded_server.log.read_text()


def test_two_starters_a_kill_and_a_stolen_port(tmp_path):
    """Two processes start one server, which outlives them; it is killed and its port taken; the data stays."""
    starters = [
        subprocess.Popen([sys.executable, "-c", START, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    server = EmbeddedServer(tmp_path)
    try:
        (first, _), (second, _) = [starter.communicate(timeout=120) for starter in starters]
        assert first == second
        assert len(servers_of(tmp_path)) == 1
        connection = server.start()
        assert connection.endpoint_url == first.strip()
        store = ObjectStore(connection)
        for number in range(50):
            assert store.create(f"kept/{number}", b"%d" % number * 100)

        (pid,) = servers_of(tmp_path)
        os.kill(pid, signal.SIGKILL)
        psutil.Process(pid).wait(10)
        assert not server.status().running

        port = int(connection.endpoint_url.rpartition(":")[2])
        with closing(socket.create_server(("127.0.0.1", port))):
            moved = server.start()
        assert moved.endpoint_url != connection.endpoint_url
        assert moved.secret_access_key == connection.secret_access_key
        store = ObjectStore(moved)
        assert [store.get(f"kept/{number}") for number in range(50)] == [b"%d" % number * 100 for number in range(50)]
        assert not store.create("kept/7", b"other")
        assert store.create("new", b"after the kill")

        (server.home / "server.json").unlink()  # a starter was interrupted before it could write this
        (stray,) = servers_of(tmp_path)
        store = ObjectStore(server.start())
        assert not psutil.pid_exists(stray)
        assert len(servers_of(tmp_path)) == 1
        assert store.get("new") == b"after the kill"
    finally:
        for starter in starters:
            starter.kill()
        stopped = server.stop()
    assert stopped
    assert servers_of(tmp_path) == []
    assert not server.status().running
    assert not server.stop()  # nothing is left to stop


def test_another_process_with_the_recorded_number_is_left_alone(tmp_path):
    server = EmbeddedServer(tmp_path)
    server.home.mkdir(parents=True)
    ports = dict.fromkeys(embedded.PORTS, 9)
    record = {"pid": os.getpid(), "created": psutil.Process().create_time(), "ports": ports}
    (server.home / "server.json").write_text(json.dumps(record))
    assert not server.status().running
    assert not server.stop()  # would have ended this very test


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path, monkeypatch):
    """A binary that is there but does not run as it should: it says why and ends."""
    script = tmp_path / "weed"
    script.write_text("#!/bin/sh\necho 'the disk is on fire' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(embedded, "find_binary", lambda: script)
    with pytest.raises(StorageUnreachable, match="ended while starting") as caught:
        EmbeddedServer(tmp_path).start()
    assert "the disk is on fire" in str(caught.value)
    assert "server.log" in str(caught.value)
    assert servers_of(tmp_path) == []


def test_a_platform_without_a_binary_is_told_what_to_do(tmp_path, monkeypatch):
    def absent(name):
        raise embedded.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(embedded.importlib.metadata, "distribution", absent)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        EmbeddedServer(tmp_path).start()
    assert "storage.endpoint_url" in caught.value.hint


def test_the_binary_of_the_installed_package_is_found():
    assert embedded.find_binary().name in ("weed", "weed.exe")
    assert isinstance(embedded.find_binary(), Path)
