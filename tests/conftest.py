"""Fixtures for every test: one real S3 server a session, and a store of its own for each test."""

import dataclasses
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import jinja2
import pytest
from botocore.loaders import JSONFileLoader

from restill.storage import Connection, ObjectStore
from restill.storage.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Give one real embedded server, started on first use and stopped at the end whatever happens."""
    server = EmbeddedServer(tmp_path_factory.mktemp("embedded"))
    try:
        server.start()
        yield server
    finally:
        server.stop(timeout_seconds=1)  # its folder is thrown away: nothing is to be waited for


@pytest.fixture(scope="session")
def server_connection(embedded_server: EmbeddedServer) -> Connection:
    """Give the connection to that server: endpoint, keys and bucket, no prefix."""
    return embedded_server.start()


@pytest.fixture
def store(server_connection: Connection) -> ObjectStore:
    """Give an empty store: the session's server and bucket under a prefix of this test's own."""
    return ObjectStore(dataclasses.replace(server_connection, prefix=f"test-{secrets.token_hex(6)}"))


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Keep what libraries would read anew, half of the time that a small ingestion takes.

    Great Expectations compiles its templates for every page, and DVC's remote parses AWS's descriptions every time.
    """
    compile_template, compiled = jinja2.Environment.compile, {}
    load_file, loaded = JSONFileLoader.load_file, {}

    def compile_once(environment: jinja2.Environment, *arguments: Any) -> Any:
        key = (*arguments, *environment.extensions, environment.autoescape is False)
        if key not in compiled:
            compiled[key] = compile_template(environment, *arguments)
        return compiled[key]

    def load_once(loader: JSONFileLoader, path: str) -> Any:
        if path not in loaded:
            loaded[path] = load_file(loader, path)
        return loaded[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", compile_once)
        patch.setattr(JSONFileLoader, "load_file", load_once)
        yield


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the database of a Prefect server that has run nothing, to start from a copy: to make one takes 15 seconds.

    The processes of a test session share it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    made = folder / "prefect.db"
    with filelock.FileLock(folder / "prefect.lock"):
        if not made.exists():
            begun = folder / "begun.db"
            subprocess.run(
                [Path(sys.executable).parent / "prefect", "server", "database", "upgrade", "--yes"],
                env=os.environ | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{begun}"},
                check=True,
                capture_output=True,
            )
            begun.rename(made)
    return made
