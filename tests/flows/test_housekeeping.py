"""Housekeeping on a registry that is whole, and on one that is not."""

import secrets

import pytest
from prefect.exceptions import ParameterTypeError
from registered import artifact, register

from flows.housekeeping import housekeeping
from restill import storage
from restill.logits import jobs, places
from restill.registry import Registry
from restill.settings import load_settings


@pytest.fixture
def registry(project):
    settings = load_settings()
    return Registry(storage.connect(settings.storage, settings.state_dir), settings.registry.model)


def keys(store):
    """Return what is stored, without the records of runs."""
    return {item.key for item in store.list("") if not item.key.startswith("runs/")}


def test_a_whole_registry_is_said_to_be_whole_and_only_what_nobody_needs_goes(
    project, prefect_server, registry, tmp_path
):
    store = registry.store
    manifest = register(registry, artifact(tmp_path / "artifact"))
    shard = secrets.token_hex(16)
    jobs.store_plan(store, "f" * 64, "bi-encoder", [(shard, 1)])
    assert store.create(places.shard_key("f" * 64, shard), b"scores")  # the plan is done
    before = keys(store)
    state = housekeeping(dry_run=True, return_state=True)
    assert state.is_completed()
    assert state.message == (
        "The registry is whole: 0 promotions, 1 versions, 3 files. Would remove 0 objects, 0 bytes."
    )
    assert keys(store) == before
    state = housekeeping(return_state=True)
    assert state.message.endswith("Removed 0 objects, 0 bytes, and 1 objects with texts.")
    gone = before - keys(store)
    assert {key.split("/")[2] for key in gone} == {places.PLANS}
    assert registry.manifest(manifest.version) == manifest


def test_nothing_is_removed_from_a_damaged_registry_and_the_run_fails(project, prefect_server, registry, tmp_path):
    manifest = register(registry, artifact(tmp_path / "artifact"), training_key="damaged")
    store, key = registry.store, registry.layout.blob(manifest.files[0].sha256)
    store.delete(key)
    assert store.create(key, b"other bytes")
    before = keys(store)
    state = housekeeping(return_state=True)
    assert state.is_failed()
    assert state.message.startswith("The registry has a problem, so nothing was removed.")
    assert manifest.files[0].sha256 in state.message
    assert keys(store) == before


def test_wrong_numbers_are_refused_at_once():
    for wrong in ({"grace_days": 0.5}, {"keep": 0}, {"expire_candidates_days": -1}):
        with pytest.raises(ParameterTypeError):
            housekeeping.validate_parameters(wrong)
