from pathlib import Path

import pytest
from data_sets import make_project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")
