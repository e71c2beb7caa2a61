"""Students that answer differently, and a registry in which the first of them is champion."""

import pytest
from served import make_students, promote

from restill.registry import Registry
from restill.serving import Champion


@pytest.fixture(scope="session")
def students(tmp_path_factory):
    return make_students(tmp_path_factory.mktemp("students"), 3)


@pytest.fixture
def registry(store, students):
    found = Registry(store, "default")
    promote(found, students[0].register(found).version)
    return found


@pytest.fixture
def champion(registry, tmp_path):
    return Champion.from_store(registry.store, model="default", alias="champion", cache_dir=tmp_path / "cache")
