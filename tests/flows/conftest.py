"""A project for the tests of a module, and one Prefect server for all of them."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness
from project_folder import Project

from restill.storage import Connection


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, server_connection: Connection, request: pytest.FixtureRequest
) -> Iterator[Project]:
    made = Project(tmp_path_factory.mktemp("project") / "root", server_connection, f"flows/{request.module.__name__}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made
