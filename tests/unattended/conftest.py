"""One stack for the tests of a module, as `restill up` starts it, with a file that waits."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from project_folder import Project
from stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[Stack]:
    made = Stack(Project(tmp_path_factory.mktemp("unattended") / "project"))
    home = made.project.root / ".restill" / "prefect"
    home.mkdir(parents=True)
    shutil.copy(prefect_database, home / "prefect.db")
    made.up()
    made.project.drop("1", 1500)  # nobody looks for new files any more: they wait for the runs of the tests
    try:
        yield made
    finally:
        made.down()
