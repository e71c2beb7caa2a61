"""A file dropped in starts an ingestion, a batch a retrain, and people are told: with a real server and worker."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from measured import measurements
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import AutomationSort, FlowRunSort
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings
from prefect.states import Pending, Running
from prefect.types.entrypoint import EntrypointType
from registered import artifact, register

from flows import automations
from flows.ingest import ingest
from flows.promote import promote
from flows.retrain import retrain
from flows.watch import watch_incoming
from restill import gates, storage
from restill.errors import ConfigurationError
from restill.registry import Registry
from restill.settings import GateSettings, load_settings
from tasks.arrivals import QUIET

pytestmark = pytest.mark.timeout(900)  # a busy machine starts a server and a worker slowly

HOSTILE = """{{ 7 * 7 }} "drop" 'x' } {% raw %} $(touch owned) <!channel>\n.csv"""


def until(condition, what, seconds=180):
    """Wait for what a condition returns, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    pytest.fail(f"{what} did not come within {seconds} s")


def kill(process):
    for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
        child.kill()
    process.kill()
    process.wait()


def start(command, folder, **environment):
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [Path(sys.executable).parent / "prefect", *command],
            env={**os.environ, "PREFECT_HOME": str(folder), **environment},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def drain():
    """Send what waits to be sent, and let go of the connections."""
    APILogWorker.instance().drain()
    EventsWorker.drain_all()


@pytest.fixture(scope="module")
def server(project, prefect_database, tmp_path_factory):
    """Start a whole server: the one of the test harness has no triggers and actions."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(prefect_database, folder / "prefect.db")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    # Buckets of events that were over for a minute are thrown away unread by default: also while a server was down.
    process = start(["server", "start", "--port", str(port)], folder, PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER="P1D")

    def is_ready():
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"{url}/health").is_success
        except httpx.HTTPError:
            return False

    try:
        until(is_ready, "the server", 400)
        drain()  # what sends events stays with the server that it first met, and other tests may have had another
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: folder, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
            yield url
            drain()  # what waits to be sent goes before the server does: nobody would take it
    finally:
        kill(process)


@pytest.fixture(scope="module")
def messages():
    """Receive what a chat program would."""
    received = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    chat = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=chat.serve_forever, daemon=True).start()
    block = CustomWebhookNotificationBlock(
        name="desk", url=f"http://127.0.0.1:{chat.server_port}/", json_data={"text": "{{subject}}: {{body}}"}
    )
    yield block, received
    chat.shutdown()


@pytest.fixture(scope="module")
def registered(server, messages, project, tmp_path_factory):
    """Register deployments and automations, and start a worker for `ingest`; nobody works on `retrain`."""
    with pytest.raises(ConfigurationError, match="no deployment ingest/cpu"):
        automations.register()
    with get_client(sync_client=True) as client:
        for pool in ("cpu", "nobody"):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    for flow, pool in ((ingest, "cpu"), (retrain, "nobody")):
        flow.to_deployment(name="cpu", work_pool_name=pool, entrypoint_type=EntrypointType.MODULE_PATH).apply()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTILL_NOTIFICATIONS__BLOCK", "custom-webhook/desk")
        with pytest.raises(ConfigurationError, match="no block custom-webhook/desk"):
            automations.register()
        block, received = messages
        block.save("desk")
        assert [line.rsplit(": ", 1)[1] for line in automations.register()][-2:] == ["made", "made"]
    environment = {"PREFECT_API_URL": server, "PREFECT_WORKER_QUERY_SECONDS": "1"} | project.environment
    worker = start(
        ["worker", "start", "--pool", "cpu", "--type", "process"], tmp_path_factory.mktemp("worker"), **environment
    )
    try:
        yield received
    finally:
        kill(worker)


def runs(flow):
    with get_client(sync_client=True) as client:
        filtered = FlowFilter(name=FlowFilterName(any_=[flow]))
        return client.read_flow_runs(flow_filter=filtered, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200)


def written_before(path):
    past = (datetime.now(UTC) - 2 * QUIET).timestamp()
    os.utime(path, (past, past))


def all_automations():
    with get_client(sync_client=True) as client:
        return {found.name: found for found in client.read_automations(sort=AutomationSort.NAME_ASC, limit=200)}


@pytest.fixture(scope="module")
def silent(registered):
    """Return the id of a run that is Running, and whose last heartbeat was an hour ago."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(watch_incoming, state=Running())
        emit_event(
            "prefect.flow-run.heartbeat",
            {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
            occurred=datetime.now(UTC) - timedelta(hours=1),
            related=[
                {
                    "prefect.resource.id": f"prefect.flow.{run.flow_id}",
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": "watch-incoming",
                }
            ],
        )
    return run


def test_registering_again_changes_nothing_and_keeps_what_a_person_paused(registered, monkeypatch):
    monkeypatch.setenv("RESTILL_NOTIFICATIONS__BLOCK", "custom-webhook/desk")
    before = all_automations()
    assert len(before) == 6
    assert all(found.trigger.match.root for found in before.values())
    with get_client(sync_client=True) as client:
        client.pause_automation(before[automations.FAILED].id)
        changed = before[automations.ARRIVED].model_copy(update={"description": "by hand"})
        client.update_automation(
            changed.id, automations.AutomationCore(**changed.model_dump(exclude={"id", "owner_resource"}))
        )
    lines = dict(line.rsplit(": ", 1) for line in automations.register())
    assert lines.pop(automations.ARRIVED) == "changed"
    assert set(lines.values()) == {"as it was"}
    after = all_automations()
    with get_client(sync_client=True) as client:
        client.resume_automation(before[automations.FAILED].id)
    assert not after[automations.FAILED].enabled
    assert after[automations.ARRIVED].description == before[automations.ARRIVED].description
    monkeypatch.delenv("RESTILL_NOTIFICATIONS__BLOCK")
    assert [line for line in automations.register() if line.endswith("removed")] == [
        f"{automations.TOLD}: removed",
        f"{automations.FAILED}: removed",
    ]
    monkeypatch.setenv("RESTILL_NOTIFICATIONS__BLOCK", "custom-webhook/desk")
    automations.register()
    assert set(all_automations()) == set(before)


def test_a_file_dropped_in_is_ingested_and_starts_one_retrain(registered, project, silent):
    """Its name is data: neither template, shell nor chat takes anything in it for their own."""
    path = project.drop("1", 300)
    fresh = path.rename(path.with_name(HOSTILE))
    assert watch_incoming() == []  # it may still be written
    written_before(fresh)
    assert watch_incoming() == [str(fresh)]
    (run,) = until(lambda: runs("ingest"), "the run of ingest")
    assert run.parameters == {"files": [str(fresh)]}
    assert watch_incoming() == []  # nobody is told twice, whether the run waits, runs or has ended
    until(lambda: runs("ingest")[0].state.is_final(), "the end of ingest", 300)
    assert runs("ingest")[0].state.is_completed(), runs("ingest")[0].state
    (retraining,) = until(lambda: runs("retrain"), "the run of retrain")
    assert retraining.expected_start_time - retraining.created > automations.GATHERED - timedelta(seconds=30)
    assert watch_incoming() == []
    assert not list(Path(project.root).rglob("owned"))


def test_a_refused_file_is_told_of_once_and_again_when_it_changed(registered, project):
    path = Path(project.root) / "incoming" / "bad <!channel>.csv"
    path.write_text("text_a,text_b,label\na,b,1\n")
    written_before(path)
    assert watch_incoming() == [str(path)]
    (text,) = until(lambda: [text for text in registered if "bad" in text], "the message", 300)
    assert text.startswith("Restill: bad ‹!channel›.csv was refused")
    assert "Report: s3://" in text
    assert "<" not in text
    assert watch_incoming() == []


def test_a_run_that_is_no_more_heard_of_has_crashed(registered, silent):
    def state():
        with get_client(sync_client=True) as client:
            return client.read_flow_run(silent.id).state

    until(lambda: state().is_crashed(), "the state Crashed")
    assert "Nothing was heard" in state().message
    until(lambda: any(f"{silent.name} is Crashed" in text for text in registered), "the message")


def test_a_run_that_was_claimed_and_never_begun_has_crashed(registered, monkeypatch):
    monkeypatch.setenv("RESTILL_NOTIFICATIONS__BLOCK", "custom-webhook/desk")
    monkeypatch.setenv("RESTILL_STACK__PENDING_SECONDS", "60")
    assert f"{automations.UNBEGUN}: changed" in automations.register()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(watch_incoming, state=Pending())
        until(lambda: client.read_flow_run(run.id).state.is_crashed(), "the state Crashed")
        assert "did not begin it within 60 s" in client.read_flow_run(run.id).state.message
    monkeypatch.delenv("RESTILL_STACK__PENDING_SECONDS")
    assert f"{automations.UNBEGUN}: changed" in automations.register()


def test_what_a_person_approved_is_told(registered, project, tmp_path):
    settings = load_settings()
    registry = Registry(storage.connect(settings.storage, settings.state_dir), settings.registry.model)
    manifest = register(registry, artifact(tmp_path / "artifact"))
    verdict = gates.judge(measurements(challenger=manifest.version, champion=None), GateSettings())
    registry.add_verdict(manifest.version, verdict.document())
    promote(manifest.short, "approve", "ada", "better on refunds")
    (text,) = until(lambda: [text for text in registered if manifest.short in text], "the message")
    assert "was promoted as number 1 by ada: Approved: better on refunds" in text


def test_an_event_that_cannot_be_sent_fails_nobody(registered, project):
    from tasks import events

    settings = load_settings()
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "say", said.append)
        events.files_arrived(["x" * 2_000_000], "too many", settings)
    assert said[0].startswith("the event restill.files.arrived was not sent")
