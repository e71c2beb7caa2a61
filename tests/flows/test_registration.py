"""infra/prefect.yaml, and what is refused in a file like it."""

import importlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from prefect import Flow
from prefect.client.orchestration import get_client

from flows import registration, workers
from restill import __version__
from restill.errors import ConfigurationError


def test_every_entry_names_a_flow_that_is_there():
    entries = registration.read().deployments
    for entry in entries:
        module, _, function = entry.entrypoint.rpartition(".")
        flow = getattr(importlib.import_module(module), function)
        assert isinstance(flow, Flow)
        assert registration.name_of(entry) == f"{flow.name}/{entry.name}"
        assert set(entry.parameters) <= set(flow.parameters.properties)
    assert len({registration.name_of(entry) for entry in entries}) == len(entries)
    assert {entry.work_pool.name for entry in entries} == {"cpu", "gpu", "latency"}


def test_every_entry_is_described_and_of_this_version():
    for entry in registration.read().deployments:
        assert len(entry.description) > 30
        assert entry.version == __version__
        assert entry.name == entry.work_pool.name


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - name: cpu", "  - nam: cpu", "deployments.0.nam"),
        ("limit: 1", "limit: 0", "concurrency_limit.limit"),
        ("flows.retrain.retrain", "flows/retrain.py:retrain", "entrypoint"),
        ("name: restill", "name: [restill", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key_that_is_wrong(tmp_path, old, new, said):
    file = tmp_path / "own.yaml"
    text = registration.packaged_file().read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        registration.read(file)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match=r"none\.yaml"):
        registration.read(tmp_path / "none.yaml")


OWN = """
name: own
deployments:
  - name: own
    entrypoint: flows.latency.time_artifacts
    description: as somebody likes it
    version: "1"
    work_pool: { name: own }
    concurrency_limit: { limit: 1, collision_strategy: ENQUEUE }
    schedules: [{ cron: "0 3 * * *", timezone: UTC, slug: nightly }]
"""


@pytest.fixture
def own(prefect_server, tmp_path):
    """A file with one deployment on a pool of its own, where no worker of another test can take its runs."""
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    yield file
    with get_client(sync_client=True) as client:
        client.delete_deployment(client.read_deployment_by_name("time-artifacts/own").id)


def test_registering_is_idempotent_and_keeps_what_a_person_switched_off(own):
    (made,) = registration.register(own)
    assert (made.name, made.result, made.pool) == ("time-artifacts/own", "created", "own")
    assert registration.is_current(own)
    assert [again.result for again in registration.register(own)] == ["unchanged"]
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("time-artifacts/own")
        client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
        client.pause_deployment(found.id)
    own.write_text(OWN.replace("0 3 * * *", "0 4 * * *"))
    assert not registration.is_current(own)
    (changed,) = registration.register(own)
    assert (changed.result, changed.paused) == ("updated", True)
    with get_client(sync_client=True) as client:
        after = client.read_deployment_by_name("time-artifacts/own")
    assert (after.id, after.paused) == (found.id, True)
    assert [(schedule.schedule.cron, schedule.active) for schedule in after.schedules] == [("0 4 * * *", False)]
    assert after.global_concurrency_limit.limit == 1


def test_of_runs_that_nobody_could_run_only_the_last_is_kept(own):
    registration.register(own)
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("time-artifacts/own")
        overdue = {"start_time": (now - timedelta(days=4)).isoformat(), "end_time": now.isoformat(), "max_runs": 9}
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": found.id}, json=overdue)
    assert workers.drop_backlog() == 2  # of three: the server makes no more at once
    assert workers.drop_backlog() == 0
