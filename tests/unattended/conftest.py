"""One stack for the tests of a module, as `restill up` starts it, with a file that waits."""

from collections.abc import Iterator

import pytest
from project_folder import Project
from stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(Project(tmp_path_factory.mktemp("unattended") / "project"))
    made.project.drop("1", 1500)
    made.up()
    try:
        yield made
    finally:
        made.down()
