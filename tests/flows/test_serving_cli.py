"""`restill serve` in a process of its own, over a real registry."""

import socket
import sys

import httpx
import pytest
from served import PAIR, Service, make_students, promote

from restill.registry import Registry

SERVE = (sys.executable, "-c", "from flows.cli.main import main; main()", "serve", "--port")


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return make_students(tmp_path_factory.mktemp("students"), 1)[0]


@pytest.fixture
def registry(store, student):
    found = Registry(store, "default")
    promote(found, student.register(found).version)
    return found


def test_it_serves_the_champion_until_stopped(registry, tmp_path):
    service = Service(registry, tmp_path, command=(*SERVE, "0"))
    try:
        found = httpx.post(f"{service.url}/similarity", json={"pairs": [PAIR]}).json()
        assert found["version"] == registry.champion("champion").version
        assert len(found["answers"]) == 1
    finally:
        assert service.stop() == 0


def test_a_port_that_is_taken_is_a_configuration_error(registry, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        service = Service(registry, tmp_path, command=(*SERVE, port))
        assert service.process.wait(timeout=60) == 2
        service.stop()
    assert f"Cannot listen on 127.0.0.1, port {port}" in "".join(service.said)
