"""What supervisord is told, and where the stack keeps its files; that it all runs is in tests/flows/test_stack.py."""

import json
import socket

import pytest

from restill.errors import ConfigurationError
from restill.settings import Settings, StackSettings, StorageSettings
from restill.stack.places import Places, running_server
from restill.stack.programs import configuration, environment, programs


def test_only_what_nobody_else_runs_is_started(tmp_path):
    assert len(programs(Settings(root=tmp_path), own_server=True)) == 5
    own = Settings(root=tmp_path, stack=StackSettings(pools={"cpu": 3}))
    assert [program.name for program in programs(own, own_server=True)] == ["s3", "prefect", "worker-cpu"]
    assert "--limit 3" in configuration(programs(own, own_server=True))
    elsewhere = own.model_copy(update={"storage": StorageSettings(endpoint_url="http://s3.example")})
    assert [program.name for program in programs(elsewhere, own_server=False)] == ["worker-cpu"]


def test_workers_report_to_the_server_that_somebody_else_runs(tmp_path):
    given = {"PREFECT_API_URL": "http://other.example/api", "PREFECT_API_AUTH_STRING": "a:b", "HOME": "/home/me"}
    settings = Settings(root=tmp_path, stack=StackSettings(host="0.0.0.0"))  # noqa: S104
    made = environment(settings, given, external_api="http://other.example/api")
    assert made.items() >= given.items()
    assert made["RESTILL_ROOT"] == str(tmp_path)
    assert made["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert "PREFECT_SERVER_API_AUTH_STRING" not in made
    assert Places(settings.state_dir).read_auth() is None


def test_a_server_has_a_key_exactly_if_others_can_reach_it(tmp_path):
    for host, has_key in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True), ("192.0.2.7", True)):  # noqa: S104
        settings = Settings(root=tmp_path / host, stack=StackSettings(host=host))
        Places(settings.state_dir).make()
        made = environment(settings, {}, external_api=None)
        key = Places(settings.state_dir).read_auth()
        assert (key is not None) is has_key
        assert made.get("PREFECT_SERVER_API_AUTH_STRING") == made.get("PREFECT_API_AUTH_STRING") == key
        assert environment(settings, {}, external_api=None) == made  # the same key again
        assert key is None or key not in configuration(programs(settings, own_server=True))


def test_a_key_of_ones_own_is_used(tmp_path):
    settings = Settings(root=tmp_path, stack=StackSettings(host="0.0.0.0"))  # noqa: S104
    made = environment(settings, {"PREFECT_SERVER_API_AUTH_STRING": "me:mine"}, external_api=None)
    assert made["PREFECT_API_AUTH_STRING"] == "me:mine"
    assert not Places(settings.state_dir).auth.exists()


def test_a_socket_fits_however_long_the_path_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path)[:1] + "tmp")
    for folder in ("short", "long " * 40):
        places = Places(tmp_path / folder.strip() / ".restill")
        places.make()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{places.socket}.1234567")  # as supervisord does while it starts
        places.socket.with_name(f"{places.socket.name}.1234567").unlink()
        assert places.socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_to_is_not_used_for_the_socket(tmp_path):
    places = Places(tmp_path / ("long " * 40).strip() / ".restill")
    places.make()
    places.socket.parent.chmod(0o770)
    try:
        with pytest.raises(ConfigurationError, match="others may write there"):
            places.make()
    finally:
        places.socket.parent.chmod(0o700)


def test_a_server_that_is_recorded_but_gone_is_not_used(tmp_path):
    places = Places(tmp_path)
    places.make()
    assert running_server(tmp_path) is None
    with socket.create_server(("127.0.0.1", 0)) as other:  # somebody else has its port by now
        places.record.write_text(json.dumps({"host": "127.0.0.1", "port": other.getsockname()[1], "auth": False}))
        assert running_server(tmp_path) is None
        with socket.socket(socket.AF_UNIX) as keeper:
            keeper.bind(str(places.socket))
            keeper.listen()
            found = running_server(tmp_path)
    assert found is not None
    assert found.auth is None
    assert found.api_url.endswith("/api")


@pytest.mark.parametrize(
    "wrong",
    [{"pools": {"cpu --limit": 1}}, {"pools": {"cpu": 0}}, {"port": 80}, {"host": "h\nx"}, {"public_url": "ftp://x"}],
)
def test_settings_that_could_not_work_are_refused(wrong):
    with pytest.raises(ValueError, match=r"pool|port|host|public_url"):
        StackSettings(**wrong)
