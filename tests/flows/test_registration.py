"""infra/prefect.yaml, and what is refused in a file like it."""

import importlib
import re

import pytest
from prefect import Flow

from flows import registration
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
