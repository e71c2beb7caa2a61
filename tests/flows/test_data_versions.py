"""Older versions of the data set: named on the command line, gone back to, and trained on again."""

import json

import pytest

from flows.retrain import retrain
from restill import snapshots, storage
from restill.registry import Registry
from restill.settings import load_settings


def answer(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def store(project):
    settings = load_settings()
    return storage.connect(settings.storage, settings.state_dir)


@pytest.fixture(scope="module")
def versions(project, prefect_server, store):
    """Give two versions, the second named by data.dvc, and a third file that waits."""
    for name, rows in (("1", 2000), ("2", 800)):
        path = project.drop(name, rows)
        assert project.restill("ingest", str(path)).returncode == 0
    project.drop("degrading", 300)
    return [record.version for record in snapshots.versions(store)]


@pytest.fixture(scope="module")
def retrained(project, prefect_server, versions):
    pointer = (project.root / "data.dvc").read_bytes()
    return pointer, retrain(data_version=versions[0][:10])


def test_the_log_lists_the_versions(project, versions):
    log = answer(project.call("data", "log", "--json"))
    assert [(line["version"], line["named"], line["parent"]) for line in log] == [
        (versions[1], True, versions[0]),
        (versions[0], False, None),
    ]
    assert log[0]["rows"] > log[1]["rows"] > 0
    assert f"{versions[1][:12]} ★" in project.call("data", "log").stdout


def test_two_versions_are_compared(project, versions):
    diff = answer(project.call("data", "diff", versions[0][:8], versions[1][:8], "--json"))
    assert (len(diff["only_a"]), len(diff["only_b"]), len(diff["both"]), diff["rewritten"]) == (0, 1, 1, [])
    assert diff["difference"]["rows"] == diff["only_b"][0]["rows"] > 0
    shown = project.call("data", "diff", versions[0], versions[1]).stdout
    assert f"only in {versions[1][:12]}: {diff['only_b'][0]['batch']}" in shown


def test_an_unknown_version_is_told(project, versions):
    for arguments in (
        ("data", "checkout", "0123"),
        ("retrain", "--data-version", "0123"),
    ):
        done = project.restill(*arguments)
        assert done.returncode == 1, arguments
        assert "No data version '0123'" in done.stderr
        assert "restill data log" in done.stderr
        assert "Traceback" not in done.stderr
    assert project.restill("data", "checkout").returncode == 2
    assert project.call("data", "log", RESTILL_STORAGE__ENDPOINT_URL="http://127.0.0.1:9").returncode == 3


def test_a_plan_for_an_older_version_leaves_new_files_alone(project, versions):
    steps = answer(project.call("plan", "--data-version", versions[0][:8], "--json"))["steps"]
    assert steps[0] == f"bring data version {versions[0][:12]} to this machine"
    assert any("degrading.csv" in step for step in answer(project.call("plan", "--json"))["steps"])


def test_a_retrain_on_an_older_version_touches_nothing_but_the_registry(retrained, project, versions, store):
    pointer, outcome = retrained
    assert outcome.batches == ()
    assert outcome.decision is not None
    assert (project.root / "data.dvc").read_bytes() == pointer
    assert snapshots.current(project.root).version == versions[1]
    registry = Registry(store, load_settings().registry.model)
    manifest = registry.manifest(outcome.decision.verdict.measurements.challenger)
    assert manifest.lineage.data_version == versions[0]
    assert len(manifest.lineage.batches) == 1
    assert outcome.decision.verdict.measurements.data_version == versions[0]


def test_the_same_again_is_nothing_new(retrained, project, versions):
    done = project.restill("retrain", "--data-version", versions[0], PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 0, done.stderr  # Prefect was not asked
    assert "Nothing is new" in done.stdout
    assert answer(project.call("plan", "--data-version", versions[0], "--json"))["nothing_to_do"] is True
    assert answer(project.call("plan", "--json"))["nothing_to_do"] is False


def test_a_checkout_goes_there_says_what_is_next_and_goes_back(retrained, project, versions):
    pointer, _ = retrained
    done = project.restill("data", "checkout", versions[0][:8])
    assert done.returncode == 0, done.stderr
    assert "restill retrain" in done.stdout
    assert f"restill data checkout {versions[1][:12]}" in done.stdout
    assert snapshots.current(project.root).version == versions[0]
    assert "already" in project.restill("data", "checkout", versions[0]).stdout
    answer(project.restill("data", "checkout", versions[1], "--json"))
    assert (project.root / "data.dvc").read_bytes() == pointer


def test_damage_is_found_by_verify(retrained, project, versions, store):
    done = project.call("data", "verify", "--deep")
    assert done.returncode == 0, done.stdout
    assert "is whole" in done.stdout
    file = snapshots.find_version(store, versions[0]).files[0]
    key = snapshots.working_copy.key(file.md5)
    good = store.get(key)
    store.delete(key)
    try:
        done = project.call("data", "verify", versions[0][:8], "--json")
        assert done.returncode == 1
        (problem,) = json.loads(done.stdout)["problems"]
        assert file.path in problem
    finally:
        store.create(key, good)
