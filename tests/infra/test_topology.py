"""PostgreSQL, Redis, Prefect's server in two processes, and two workers: what infra/compose.yaml puts on one host."""

import os
import tempfile
from pathlib import Path

import httpx
import pytest
from plain_processes import find, until
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from topology import NEEDED, SECONDS, WORKERS, Topology

AFTER = {what: f"followed restill.incoming.{what}" for what in ("first", "late")}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stack():
    """Start all of it once; the tests below follow each other on it."""
    if missing := [program for program in NEEDED if find(program) is None]:
        reason = f"not installed here: {', '.join(missing)} (Debian: apt-get install postgresql redis-server)"
        if os.environ.get("RESTILL_REQUIRE_SERVICES"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="restill-topology-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL, as another user, must reach its folder in there
        topology = Topology(Path(folder))
        try:
            topology.start()
            yield topology
        finally:
            topology.stop()


@pytest.fixture(scope="module")
def deployment(stack):
    return stack.deploy()


@pytest.fixture(scope="module")
def automation(stack, deployment):
    """Let each announcement start a run, as new files start `ingest`."""
    noted = {"folder": str(stack.noted), "what": "followed {{ event.resource.id }}"}
    action = RunDeployment(
        source="selected",
        deployment_id=deployment,
        parameters={k: {"__prefect_kind": "jinja", "template": v} for k, v in noted.items()},
    )
    trigger = EventTrigger(
        expect={"restill.files.arrived"}, match={"prefect.resource.id": "restill.incoming.*"}, posture=Posture.Reactive
    )
    return stack.client.create_automation(AutomationCore(name="follow", trigger=trigger, actions=[action]))


def notes(stack):
    return {path.name for path in stack.noted.iterdir()}


def followed(stack, what):
    """Wait until the run that an announcement starts has left its note."""
    until(lambda: AFTER[what] in notes(stack), seconds=SECONDS, what=f"the run after {what}")


@pytest.mark.parametrize(("auth", "status"), [(None, 401), (("admin", "wrong"), 401), ("right", 200)])
def test_the_api_answers_only_those_who_know_the_password(stack, auth, status):
    given = tuple(stack.auth.split(":", 1)) if auth == "right" else auth
    assert httpx.post(f"{stack.url}/flow_runs/filter", auth=given, json={}, timeout=30).status_code == status
    assert httpx.get(f"{stack.url}/health", timeout=30).status_code == 200


def test_no_secret_stands_in_a_command_line(stack):
    lines = " ".join(" ".join(process.cmdline()) for process in stack.processes.all())
    assert "redis-server" in lines
    for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_AUTH"):
        assert stack.variables[name] not in lines


def test_an_announcement_starts_a_run_on_the_other_worker(stack, deployment, automation):
    """The first waits for the second, and no worker does two at once."""
    stack.completed(stack.ask(deployment, "first", announce=True, after=AFTER["first"]))
    followed(stack, "first")
    assert {stack.ended(run.id).labels["prefect.worker.name"] for run in stack.runs()} == set(WORKERS)


def test_what_a_killed_worker_had_not_begun_is_done_by_the_other(stack, deployment):
    """What it had begun lives on in a process of its own, but crashes on its next line of log, which nobody reads."""
    stack.processes.stop("worker-2")
    begun = stack.ask(deployment, "begun", after="waiting")
    running = lambda: stack.client.read_flow_run(begun).state.is_running()  # noqa: E731
    until(running, seconds=SECONDS, what="the run's beginning")
    waiting = stack.ask(deployment, "waiting")  # worker-1 may not take it: its limit is one run
    stack.processes.kill("worker-1")
    stack.processes.resume("worker-2")
    assert stack.completed(waiting).labels["prefect.worker.name"] == "worker-2"
    assert stack.ended(begun).state.is_crashed()
    assert "begun" not in notes(stack)


def test_what_is_announced_while_the_services_are_dead_is_not_lost(stack, deployment, automation):
    """Nor is any run lost when the server is killed as well. What has not yet come to Redis would be."""
    before = {run.id for run in stack.runs()}
    stack.processes.kill("prefect-services")
    announced = stack.ask(deployment, "late", announce=True)
    stack.completed(announced)
    until(lambda: stack.holds("restill.incoming.late"), seconds=SECONDS, what="the announcement in Redis")
    stack.processes.kill("prefect-server")
    stack.start_server()
    after = {run.id for run in stack.runs()}
    assert after == before | {announced}
    stack.start_services()
    followed(stack, "late")


def test_every_run_was_done_once(stack):
    """Twice would have failed, as its note is there."""
    runs = [stack.ended(run.id) for run in stack.runs()]
    states = {run.parameters["what"]: run.state.type.value for run in runs}
    assert states.pop("begun") == "CRASHED"
    assert set(states.values()) == {"COMPLETED"}, states
    assert notes(stack) == set(states) == {"waiting", *AFTER, *AFTER.values()}
