"""A project for the tests of a module, and one Prefect server for all of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness
from project_folder import Project

from restill.storage import Connection


@pytest.fixture(scope="session")
def prefect_server(prefect_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("prefect")
    shutil.copy(prefect_database, folder / "prefect-test.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect.testing.utilities.mkdtemp", lambda: str(folder))
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
