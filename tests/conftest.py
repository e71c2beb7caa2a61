"""Fixtures for every test: one real S3 server a session, and a store of its own for each test."""

import dataclasses
import secrets
from collections.abc import Iterator

import pytest

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
        server.stop()


@pytest.fixture(scope="session")
def server_connection(embedded_server: EmbeddedServer) -> Connection:
    """Give the connection to that server: endpoint, keys and bucket, no prefix."""
    return embedded_server.start()


@pytest.fixture
def store(server_connection: Connection) -> ObjectStore:
    """Give an empty store: the session's server and bucket under a prefix of this test's own."""
    return ObjectStore(dataclasses.replace(server_connection, prefix=f"test-{secrets.token_hex(6)}"))
