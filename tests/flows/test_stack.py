"""`restill up` with real processes: Prefect and S3 server, workers; each is killed, and so is what keeps them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from factories import write_tiny_teacher

from flows import prefect_server
from restill.settings import Settings, StackSettings
from restill.stack.keeper import Keeper
from restill.stack.parts import Part, look
from restill.stack.places import Places
from restill.stack.programs import MARK, programs

pytestmark = pytest.mark.timeout(900)  # a busy machine starts a dozen processes slowly

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from flows.cli.main import main; main()"]


class Stack:
    """A project with an embedded S3 server whose Prefect server listens beyond loopback, so it has a key."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, _free_port()
        self.state = root / ".restill"
        root.mkdir(parents=True)
        write_tiny_teacher(root / "teacher")
        (root / "restill.toml").write_text(
            '[teacher]\npath = "teacher"\n'
            f'[stack]\nhost = "0.0.0.0"\nport = {self.port}\npools = {{ cpu = 2, latency = 1 }}\n'
        )
        self.settings = Settings(
            root=root,
            stack=StackSettings(host="0.0.0.0", port=self.port, pools={"cpu": 2, "latency": 1}),  # noqa: S104
        )
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RESTILL_", "PREFECT_"))
        } | {"RESTILL_ROOT": str(root), "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}

    def restill(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.root,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )

    def parts(self) -> dict[str, Part]:
        keeper = Keeper(self.settings, programs(self.settings, own_server=True))
        return {part.name: part for part in look(self.settings, keeper, external_api=None)}

    def pids(self) -> dict[str, int | None]:
        return {name: part.pid for name, part in self.parts().items()}

    def processes(self) -> list[psutil.Process]:
        """Return every process that belongs to the stack, and the S3 server."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(MARK) == str(self.state / "stack")
                if marked or f"-dir={self.state / 's3' / 'data'}" in process.cmdline():
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def ask(self, path: str, **body: object) -> httpx.Response:
        """Ask the Prefect server, with the key."""
        user, _, password = (self.state / "stack" / "auth").read_text().strip().partition(":")
        return httpx.post(
            f"http://127.0.0.1:{self.port}/api/{path}", json=body, auth=(user, password), timeout=60, trust_env=False
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition, *, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Two `restill up` at once, in a folder whose name is long and has what a configuration file might trip over."""
    found = Stack(tmp_path_factory.mktemp("stack") / f"a 100% ;odd# {'long ' * 12}name")
    try:
        with ThreadPoolExecutor() as both:
            found.ups = list(both.map(lambda _: found.restill("up"), range(2)))
        yield found
    finally:
        found.restill("down")
        for process in found.processes():
            process.kill()


@pytest.fixture(scope="module")
def pids(stack):
    """The parts as the first two commands left them."""
    for up in stack.ups:
        assert up.returncode == 0, up.stdout + up.stderr
    status = stack.restill("status", "--json")
    assert status.returncode == 0, status.stderr
    parts = {part["part"]: part for part in json.loads(status.stdout)}
    assert {name: part["state"] for name, part in parts.items()} == dict.fromkeys(
        ("supervisord", "s3", "prefect", "worker-cpu", "worker-latency"), "up"
    )
    return {name: part["pid"] for name, part in parts.items()}


def test_two_at_once_start_one_stack_and_say_where_it_is(stack, pids):
    said = [up.stdout for up in stack.ups]
    assert sum("waiting for it" in text for text in said) == 1
    assert sum("Deployments are as they were" in text for text in said) == 1
    assert all(f":{stack.port}" in text for text in said)
    assert len([found for found in stack.processes() if "supervisor.supervisord" in found.cmdline()]) == 1


def test_what_is_reachable_from_elsewhere_asks_for_a_key_that_is_in_one_file_only(stack, pids):
    key = (stack.state / "stack" / "auth").read_text().strip()
    assert (stack.state / "stack" / "auth").stat().st_mode & 0o777 == 0o600
    assert (stack.state / "stack").stat().st_mode & 0o777 == 0o700
    refused = httpx.post(f"http://127.0.0.1:{stack.port}/api/flow_runs/filter", json={}, trust_env=False)
    assert refused.status_code == 401
    assert stack.ask("flow_runs/filter").status_code == 200
    assert all(key not in up.stdout + up.stderr for up in stack.ups)
    assert all(key not in " ".join(found.cmdline()) for found in stack.processes())
    holding = [path for path in stack.state.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert holding == [stack.state / "stack" / "auth"]


def test_the_form_of_retrain_has_meanings_limits_and_choices(stack, pids):
    found = {item["entrypoint"]: item for item in stack.ask("deployments/filter").json()}["flows.retrain.retrain"]
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert found["schedules"][0]["schedule"]["timezone"] == "Europe/Berlin"
    properties = found["parameter_openapi_schema"]["properties"]
    assert all(field["description"] for field in properties.values())
    assert properties["purpose"]["maxLength"] == 80
    overrides = found["parameter_openapi_schema"]["definitions"]["Overrides"]["properties"]
    assert overrides["student_kind"]["enum"] == ["siamese-lstm", "dssm", "cnn", "static", "bert"]
    assert (overrides["alpha"]["minimum"], overrides["alpha"]["maximum"]) == (0, 1)
    assert "soft loss" in overrides["alpha"]["description"]
    assert not any("default" in field or "anyOf" in field for field in overrides.values())


def test_a_wrong_value_is_refused_before_the_run_or_at_its_start_in_one_sentence(stack, pids):
    found = {item["entrypoint"]: item for item in stack.ask("deployments/filter").json()}["flows.retrain.retrain"]
    refused = stack.ask(f"deployments/{found['id']}/create_flow_run", parameters={"overrides": {"epochs": 0}})
    assert refused.status_code in (409, 422), refused.text
    assert "less than the minimum of 1" in refused.text
    # Nothing in a form tells that this choice needs a file.
    done = stack.restill(
        "retrain", "--remote", "--purpose", "Wrong / ../on purpose", "--set", "embeddings=word-vectors"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The overrides do not go together with the configuration: embeddings = word-vectors needs" in done.stdout
    assert "Traceback" not in done.stderr
    (run,) = stack.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["FAILED"]}}}).json()
    assert run["total_run_time"] < 30
    assert stack.restill("retrain", "--remote", "--set", "epochs=none").returncode == 2


def test_other_commands_report_to_the_server_that_is_up(stack, pids, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    prefect_server.use_running(stack.root)
    assert os.environ["PREFECT_API_URL"] == f"http://127.0.0.1:{stack.port}/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == (stack.state / "stack" / "auth").read_text().strip()


def test_the_doctor_finds_a_good_stack_good(stack, pids):
    done = stack.restill("doctor", "--json")
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, [check for check in found.values() if check["answer"] == "missing"]
    assert found["conditional writes"]["answer"] == found["pool cpu"]["answer"] == "ok"
    assert found["schedule of retrain"]["answer"] == "ok"
    assert found["pool gpu"]["answer"] == "note"  # no worker for it was asked for


def test_deployments_of_a_file_of_ones_own_are_registered_too(stack, pids):
    own = stack.root / "own.yaml"
    entry = "entrypoint: flows.latency.time_artifacts, description: ours, version: '1', work_pool: { name: latency }"
    own.write_text(f"name: own\ndeployments: [{{ name: own, {entry} }}]\n")
    for result in ("created", "unchanged"):
        deployed = stack.restill("deploy", "--json", "--file", str(own))
        assert deployed.returncode == 0, deployed.stderr
        assert [(item["name"], item["result"]) for item in json.loads(deployed.stdout)] == [
            ("time-artifacts/own", result)
        ]
    names = {item["entrypoint"] for item in stack.ask("deployments/filter").json()}
    assert "flows.retrain.retrain" in names  # what the file does not name is left alone
    stack.environment["RESTILL_STACK__DEPLOYMENTS"] = str(own)  # from here on


def test_whatever_is_killed_comes_back_by_itself(stack, pids):
    for name in ("s3", "prefect", "worker-cpu"):
        os.kill(pids[name], signal.SIGKILL)

    def mended() -> bool:
        parts = stack.parts()
        return all(part.is_up for part in parts.values()) and not any(
            parts[name].pid == pids[name] for name in ("s3", "prefect", "worker-cpu")
        )

    until(mended)
    assert stack.pids()["supervisord"] == pids["supervisord"]
    assert stack.pids()["worker-latency"] == pids["worker-latency"]


def test_up_mends_after_the_keeper_itself_was_killed(stack, pids):
    before = stack.pids()
    os.kill(before["supervisord"], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(before["supervisord"]))
    assert stack.restill("status").returncode == 1
    up = stack.restill("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "had left behind" in up.stdout
    after = stack.pids()
    assert all(part.is_up for part in stack.parts().values())
    assert not set(before.values()) & {pid for name, pid in after.items() if name != "s3"}
    workers = [found for found in stack.processes() if "worker" in found.cmdline()]
    assert len(workers) == 2


def test_a_port_that_is_taken_is_said_with_who_has_it(stack, pids, tmp_path):
    other = Stack(tmp_path / "other")
    refused = other.restill("up", RESTILL_STACK__PORT=str(stack.port))
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert f"port {stack.port}: process {stack.pids()['prefect']} has it" in refused.stderr
    assert "RESTILL_STACK__PORT" in refused.stderr
    assert other.processes() == []


def test_down_leaves_no_process_and_keeps_the_data(stack, pids):
    done = stack.restill("down")
    assert done.returncode == 0, done.stderr
    assert stack.processes() == []
    assert not Places(stack.state).socket.exists()
    assert (stack.state / "prefect" / "prefect.db").is_file()
    assert stack.restill("status").returncode == 1
    assert "was not running" in stack.restill("down").stdout
    refused = stack.restill("retrain", "--remote")
    assert refused.returncode == 2
    assert "restill up" in refused.stderr
