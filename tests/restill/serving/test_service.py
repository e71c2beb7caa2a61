"""The HTTP service: a real process over a real registry."""

import dataclasses
import http.client
import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from served import PAIR, Service, eventually, promote

from restill.errors import ConfigurationError
from restill.registry import Registry
from restill.serving import Champion, LiveChampion
from restill.serving.listening import required_token
from restill.serving.service import make_app
from restill.settings import ServingSettings
from restill.storage import ObjectStore

LIGHT = """
import sys
import restill.serving, restill.serving.running
training = {"tensorflow", "keras", "pandas", "polars", "scipy", "sklearn", "pyarrow", "dvc"}
print(sorted((training | {"prefect", "rich", "typer", "psutil", "filelock"}) & set(sys.modules)))
"""
PAIRS = [PAIR, ("a", "a b"), ("h g f", "f g h")]
MAX_BODY = 100_000


@pytest.fixture(scope="module")
def served(server_connection, students, tmp_path_factory):
    """A registry whose students are all registered and the first is champion, and a service on it."""
    store = ObjectStore(dataclasses.replace(server_connection, prefix=f"test-{secrets.token_hex(6)}"))
    registry = Registry(store, "default")
    versions = [student.register(registry).version for student in students]
    promote(registry, versions[0])
    service = Service(registry, tmp_path_factory.mktemp("service"), RESTILL_SERVING__MAX_BODY_BYTES=str(MAX_BODY))
    try:
        yield registry, versions, service
    finally:
        assert service.stop() == 0


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served[2].url, timeout=30) as found:
        yield found


@pytest.fixture(scope="module")
def champion(served, tmp_path_factory):
    registry = served[0]
    return Champion.from_store(
        registry.store, model="default", alias="champion", cache_dir=tmp_path_factory.mktemp("cache")
    )


@pytest.fixture
def guarded(champion):
    with LiveChampion(champion, poll_seconds=3600) as live:
        yield TestClient(make_app(live, token="sixteen-letters!"))


def test_answers_are_those_of_the_library(client, champion):
    for pairs in (PAIRS[:1], PAIRS):
        found = client.post("/similarity", json={"pairs": pairs})
        assert found.status_code == 200
        assert found.json() == {
            "version": champion.version,
            "answers": [dataclasses.asdict(answer) for answer in champion.predict(pairs)],
        }


def test_vectors_are_those_of_the_library(client, champion):
    found = client.post("/embed", json={"texts": list(PAIR)}).json()
    assert found == {"version": champion.version, "vectors": champion.embed(PAIR).tolist()}


@pytest.mark.parametrize(
    ("path", "asked", "says"),
    [
        ("/similarity", {"pairs": [["a", " "]]}, "Text 2 of pair 1 has no visible character."),
        ("/similarity", {"pairs": [["a", "b"], ["\ud800", "b"]]}, "half a surrogate pair"),
        ("/similarity", {"pairs": [["a", 7]]}, "pairs.0.1: Input should be a valid string"),
        ("/similarity", {"pairs": [["a"]]}, "pairs.0.1: Field required"),
        ("/similarity", {"pairs": [PAIR] * 257}, "pairs: List should have at most 256 items"),
        ("/similarity", {}, "pairs: Field required"),
        ("/similarity", {"pairs": [], "alias": "x"}, "alias: Extra inputs are not permitted"),
        ("/embed", {"texts": ["a", "\u200b"]}, "Text 2 has no visible character."),
        ("/embed", {"texts": ["a"] * 257}, "texts: List should have at most 256 items"),
        ("/embed", [], "Input should be"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_why(client, path, asked, says):
    found = client.post(path, content=json.dumps(asked), headers={"Content-Type": "application/json"})
    assert found.status_code == 422
    assert says in found.json()["detail"]


def test_what_is_no_json_is_refused(client):
    headers = {"Content-Type": "application/json"}
    assert client.post("/similarity", content=b"{", headers=headers).status_code == 422
    assert client.post("/similarity", content=b"[" * 90_000, headers=headers).status_code in (400, 422)
    assert client.post("/similarity", content=b"\xff", headers=headers).status_code in (400, 422)


@pytest.mark.parametrize(
    "asked",
    [
        {"pairs": [], "a" * 50_000: 1},
        {"pairs": []} | {str(number): 1 for number in range(5_000)},
        {"pairs": [[number, number] for number in range(256)]},
    ],
    ids=["a long name", "many names", "many texts"],
)
def test_a_refusal_is_short_whatever_was_sent(client, asked):
    found = client.post("/similarity", json=asked)
    assert found.status_code == 422
    assert len(found.content) < 1000


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused(client, declared):
    """Whether its size is said before, or found out while it comes."""
    body = json.dumps({"pairs": [["a" * MAX_BODY, "b"]]}).encode()
    found = client.post("/similarity", content=body if declared else iter([body[:1000], body[1000:]]))
    assert found.status_code == 413
    assert "100,000 bytes" in found.json()["detail"]
    assert client.post("/similarity", json={"pairs": PAIRS}).status_code == 200


def test_a_body_in_pieces_is_put_together(client):
    body = json.dumps({"pairs": PAIRS}).encode()
    pieces = iter([body[:10], body[10:20], body[20:]])
    found = client.post("/similarity", content=pieces, headers={"Content-Type": "application/json"})
    assert found.json() == client.post("/similarity", json={"pairs": PAIRS}).json()


def test_a_long_text_within_the_body_is_answered(client):
    assert client.post("/similarity", json={"pairs": [["a " * 40_000, "a"]]}).status_code == 200


def test_it_says_which_version_answers_since_when(client, served):
    assert client.get("/healthz").text == client.get("/readyz").text == "ok"
    found = client.get("/version").json()
    entry = served[0].champion("champion")
    assert (found["version"], found["sequence"], found["problem"]) == (entry.version, entry.sequence, None)
    assert found["promoted_at"] < found["loaded_at"]


def test_metrics_count_requests_and_show_the_champion(client, served):
    before = _metrics(client)
    client.post("/similarity", json={"pairs": PAIRS})
    client.post("/similarity", json={"pairs": [["", ""]]})
    client.get("/nowhere")
    after = _metrics(client)
    entry = served[0].champion("champion")

    def more(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert more("restill_requests_total", path="/similarity", status="200") == 1
    assert more("restill_requests_total", path="/similarity", status="422") == 1
    assert more("restill_requests_total", path="other", status="404") == 1
    assert more("restill_request_seconds_count", path="/similarity") == 2
    assert more("restill_batch_size_sum", path="/similarity") == 4
    assert after["restill_champion_sequence",] == entry.sequence
    assert after["restill_champion_promoted_timestamp_seconds",] == pytest.approx(entry.at.timestamp())
    assert after["restill_failed_reloads_total",] == 0
    assert after["restill_champion_info", ("version", entry.version)] == 1
    assert time.time() - after["restill_champion_checked_timestamp_seconds",] < 30


def test_a_caller_that_leaves_is_no_failure_of_ours(client, served):
    gone = ("restill_requests_total", ("path", "/similarity"), ("status", "499"))
    before = _metrics(client).get(gone, 0)
    address = urlsplit(served[2].url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as link:
        link.sendall(f"POST /similarity HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: 100\r\n\r\n{{".encode())
    eventually(lambda: _metrics(client).get(gone, 0) == before + 1)
    assert not [key for key in _metrics(client) if ("status", "500") in key]


def _metrics(client):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def test_no_request_fails_while_versions_change(served, tmp_path):
    """Two promotions and a rollback under the load of several threads: each response is of one version."""
    registry, versions, service = served
    expected = {}
    done = threading.Event()

    def ask(seen):
        with httpx.Client(base_url=service.url, timeout=30) as asking:
            while not done.is_set():
                response = asking.post("/similarity", json={"pairs": PAIRS})
                seen.append((response.status_code, response.text))

    def answered(version):
        return any(json.loads(text)["version"] == version for _, text in list(seen[0])[-3:])

    seen = [[] for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, found) for found in seen]
        try:
            for version in (versions[1], versions[2], None):
                if version is None:
                    version = registry.rollback("champion", reason="a test", by="a test").version
                else:
                    promote(registry, version)
                eventually(lambda version=version: answered(version))
        finally:
            done.set()
        for future in asking:
            future.result(timeout=60)
    for version in versions:
        entry = next(entry for entry in registry.history("champion") if entry.version == version)
        known = Champion(registry, entry, cache_dir=tmp_path)
        expected[version] = [dataclasses.asdict(answer) for answer in known.predict(PAIRS)]
    responses = [response for found in seen for response in found]
    assert {status for status, _ in responses} == {200}
    assert {json.loads(text)["version"] for _, text in responses} == set(versions)
    for _, text in responses:
        found = json.loads(text)
        assert found["answers"] == expected[found["version"]]


def test_a_stop_lets_a_request_under_way_end(served, tmp_path):
    """It is told to stop in the middle of a request, listens no more, and answers that one."""
    service = Service(served[0], tmp_path)
    body = json.dumps({"pairs": PAIRS}).encode()

    def listens_no_more():
        try:
            httpx.get(f"{service.url}/healthz")
        except httpx.TransportError:
            return True
        return False

    address = urlsplit(service.url)
    head = f"POST /similarity HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=30) as link:
        link.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert link.recv(1000).startswith(b"HTTP/1.1 100")  # the request is under way, not on its way
        service.process.send_signal(signal.SIGTERM)
        eventually(listens_no_more)
        link.sendall(body)
        found = http.client.HTTPResponse(link)
        found.begin()
        assert len(json.loads(found.read())["answers"]) == len(PAIRS)
    assert service.stop() == 0


def test_without_the_token_only_health_is_told(guarded):
    assert guarded.get("/healthz").status_code == guarded.get("/readyz").status_code == 200
    assert guarded.head("/healthz").status_code == guarded.head("/readyz").status_code == 200
    right = {"Authorization": "Bearer sixteen-letters!"}
    for wrong in ({}, {"Authorization": "Bearer sixteen letters"}, {"Authorization": "Basic sixteen-letters!"}):
        for path in ("/version", "/metrics", "/openapi.json", "/nowhere"):
            found = guarded.get(path, headers=wrong)
            assert (found.status_code, found.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert guarded.post("/similarity", json={"pairs": [PAIR]}, headers=wrong).status_code == 401
    assert guarded.get("/metrics", headers=right).status_code == 200
    assert guarded.post("/similarity", json={"pairs": [PAIR]}, headers=right).status_code == 200


def test_beyond_this_machine_it_listens_with_a_token_alone(tmp_path):
    with pytest.raises(ConfigurationError, match="no token is set"):
        required_token(ServingSettings(host="0.0.0.0"), "serving")  # noqa: S104
    assert required_token(ServingSettings(host="0.0.0.0", without_token=True), "serving") is None  # noqa: S104
    assert all(
        required_token(ServingSettings(host=host), "serving") is None for host in ("127.0.0.1", "::1", "localhost")
    )
    file = tmp_path / "token"
    file.write_text("sixteen-letters!\n")
    assert required_token(ServingSettings(host="0.0.0.0", token_file=file), "serving") == "sixteen-letters!"  # noqa: S104
    file.write_text("short\n")
    with pytest.raises(ConfigurationError, match="fewer than 16"):
        required_token(ServingSettings(token_file=file), "serving")
    for wrong in ("sechzehn-Zeichen-ä", "two words of sixteen"):
        file.write_text(wrong)
        with pytest.raises(ConfigurationError, match="no HTTP header"):
            required_token(ServingSettings(token_file=file), "serving")
    with pytest.raises(ConfigurationError, match="no HTTP header"):
        required_token(ServingSettings(token="sechzehn-Zeichen-ä"), "serving")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        required_token(ServingSettings(token_file=tmp_path / "none"), "serving")


def test_without_a_champion_it_does_not_start(store, tmp_path):
    service = Service(Registry(store, "default"), tmp_path)
    assert service.process.wait(timeout=60) == 1
    service.stop()
    assert "Nothing was promoted" in "".join(service.said)


def test_serving_imports_neither_training_nor_prefect():
    found = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
