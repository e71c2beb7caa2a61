"""A challenger that passed waits for a person: approved, rejected, timed out, overtaken, decided on twice."""

import json
import os
import subprocess
import sys
import threading

import pytest
from measured import measurements
from prefect.exceptions import ParameterTypeError
from prefect.settings import PREFECT_API_URL
from registered import artifact, register

from flows.evaluate import evaluate
from flows.promote import promote
from flows.retrain import retrain
from restill import approvals, gates, storage
from restill.errors import ApprovalRefused, GateRefused, VersionNotFound
from restill.registry import Registry
from restill.settings import GateSettings, load_settings
from tasks import events

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def registry(project):
    settings = load_settings()
    return Registry(storage.connect(settings.storage, settings.state_dir), settings.registry.model)


@pytest.fixture
def told(monkeypatch):
    """Keep the events that are sent."""
    sent = []
    send = events.emit_event

    def emit_event(event, resource, payload):
        sent.append((event, payload))
        return send(event, resource, payload=payload)

    monkeypatch.setattr(events, "emit_event", emit_event)
    return sent


@pytest.fixture(autouse=True)
def required(monkeypatch):
    monkeypatch.setenv("RESTILL_APPROVAL__REQUIRED", "true")


def call(*arguments, code=0):
    """Run the command line in a process of its own: a command that runs a flow moves its output."""
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli.main import main; main()", *arguments, "--json"],
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def waiting(registry, tmp_path):
    """Register versions of random bytes that passed against the present champion, and wait."""

    def make(name, hours=72.0):
        manifest = register(registry, artifact(tmp_path / name), training_key=name)
        live = registry.champion("champion")
        found = measurements(challenger=manifest.version, champion=live.version if live else None)
        verdict = gates.judge(found, GateSettings(disabled=("champion_non_inferiority", "slices")))
        verdict = verdict.model_copy(update={"passed": True})
        registry.add_verdict(manifest.version, verdict.document())
        approvals.ask(registry, manifest.version, verdict.sha256, alias="champion", expires_hours=hours)
        return manifest

    return make


def state_of(*arguments):
    return promote(*arguments, return_state=True)


def test_a_retrain_asks_and_a_person_promotes_even_when_the_champion_has_changed(
    project, prefect_server, registry, told, monkeypatch
):
    project.drop("1", 1000)
    made = {}
    for seed in ("7", "8"):
        monkeypatch.setenv("RESTILL_DISTILLATION__SEED", seed)
        outcome = retrain()
        assert outcome.approval is not None, outcome.sentence
        assert not outcome.refused
        assert "passes every gate and waits for approval until" in outcome.sentence
        made[seed] = outcome.decision.verdict.measurements.challenger
    assert registry.champion("champion") is None
    assert [event for event, _ in told] == [events.BATCH_ACCEPTED, *[events.MODEL_AWAITS_APPROVAL] * 2]
    assert told[-1][1]["version"] == made["8"]
    assert told[-1][1]["report"].startswith("s3://")

    again = retrain()  # it does not ask twice, and says what is waited for
    assert "waits for approval" in again.sentence
    assert len(told) == 3

    approvals.decide(registry, again.plan.approval, "approve", by="ada", reason="better on refunds")
    finished = retrain()  # the run that was to act on it died
    assert finished.decision is None  # nothing was measured again
    assert f"{made['8'][:12]} is the champion already" in state_of(made["8"], "approve", "bob", "good").message
    entry = registry.champion("champion")
    assert (entry.version, entry.promoted_by, entry.reason) == (made["8"], "ada", "Approved: better on refunds")
    assert told[-1][0] == events.MODEL_PROMOTED
    assert told[-1][1]["by"] == "ada"

    with monkeypatch.context() as strict:
        strict.setenv("RESTILL_GATES__MAX_ARTIFACT_MB", "0.0001")
        state = state_of(made["7"], "approve", "bob", "also good")
    assert state.is_completed()
    assert "approved by bob and is not promoted: the champion had changed" in state.message
    assert told[-1][0] == events.MODEL_REFUSED
    assert registry.champion("champion") == entry

    state = state_of(made["7"], "approve", "eve", "once more")
    assert "after it was judged again, as the champion had changed, approved by bob" in state.message
    live = registry.champion("champion")
    assert (live.version, live.promoted_by, live.sequence) == (made["7"], "bob", 2)
    assert registry.verify() == []


def test_versions_are_measured_on_other_data_and_decided_on_under_other_limits(project, prefect_server, registry):
    live = registry.champion("champion").version
    manifest = next(found for found in registry.versions() if found.version != live)
    state = evaluate(manifest.short, manifest.lineage.data_version, return_state=True)
    assert state.message.startswith(f"Version {manifest.short} on data version {manifest.lineage.data_version[:12]}")
    assert "Accuracy against the champion: " in state.message
    strict = GateSettings(min_accuracy=1.0, resamples=1000)
    state = evaluate(manifest.short, limits=strict, return_state=True)
    assert state.message.startswith(f"Under these limits version {manifest.short} would not have been promoted.")
    schema = evaluate.parameters.model_dump()["properties"]
    assert set(schema) == {"version", "data_version", "limits"}


def test_a_second_person_finds_it_done_and_a_used_approval_does_not_count_again(prefect_server, registry, waiting):
    first = waiting("first")
    state_of(first.short, "approve", "ada", "good")
    number = registry.champion("champion").sequence
    assert f"is the champion already: number {number}" in state_of(first.short, "approve", "bob", "good").message
    with pytest.raises(ApprovalRefused, match="was approved by ada"):
        promote(first.short, "reject", "bob", "no")
    second = waiting("second")
    state_of(second.short, "approve", "ada", "better")
    with pytest.raises(ApprovalRefused, match=f"was used: it led to number {number}"):
        promote(first.short, "approve", "bob", "back to it")
    assert registry.champion("champion").version == second.version


def test_two_people_who_approve_at_once_promote_once(prefect_server, registry, waiting):
    version = waiting("both").version
    before = registry.champion("champion")
    found = {}
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: state_of(version, "approve", name, "good")}))
        for name in ("ada", "bob")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(state.is_completed() for state in found.values()), found
    live = registry.champion("champion")
    assert (live.version, live.sequence) == (version, before.sequence + 1 if before else 1)
    assert live.promoted_by in found


def test_what_is_rejected_or_too_late_or_unknown_is_not_promoted(prefect_server, registry, waiting):
    before = registry.champion("champion")
    rejected, late = waiting("rejected"), waiting("late", hours=1e-9)
    state = state_of(rejected.short, "reject", "ada", "wrong on refunds")
    assert state.is_completed()
    assert state.message == f"Version {rejected.short} is not promoted: ada rejected it. wrong on refunds"
    with pytest.raises(ApprovalRefused, match="rejected by ada"):
        promote(rejected.short, "approve", "bob", "good")
    state = state_of(late.short, "approve", "ada", "good")
    assert state.is_failed()
    assert "was not promoted, it timed out" in state.message
    with pytest.raises(VersionNotFound):
        promote("0123", "approve", "ada", "good")
    kept = {found.request.version: found.status for found in approvals.listed(registry, alias="champion")}
    assert (kept[late.version], kept[rejected.version]) == ("timed out", "rejected")
    assert registry.champion("champion") == before


def test_the_form_refuses_what_is_no_version_name_or_choice():
    schema = promote.parameters.model_dump()["properties"]
    assert schema["decision"]["enum"] == ["approve", "reject"]
    assert "registry approvals" in schema["version"]["description"]
    for wrong in (("../x", "approve", "a", "b"), ("a" * 12, "force", "a", "b"), ("a" * 12, "approve", "", "b")):
        with pytest.raises(ParameterTypeError):
            promote.validate_parameters(dict(zip(("version", "decision", "by", "reason"), wrong, strict=True)))


def test_what_nobody_asked_for_is_promoted_if_it_passed(prefect_server, registry, tmp_path):
    manifest = register(registry, artifact(tmp_path / "judged"), training_key="judged")
    with pytest.raises(GateRefused, match="never judged"):
        promote(manifest.short, "approve", "ada", "good")
    live = registry.champion("champion")
    found = measurements(challenger=manifest.version, champion=live.version if live else None)
    verdict = gates.judge(found, GateSettings()).model_copy(update={"passed": True})
    registry.add_verdict(manifest.version, verdict.document())
    with pytest.raises(ApprovalRefused, match="does not wait"):
        promote(manifest.short, "reject", "ada", "no")
    assert "approved by ada" in state_of(manifest.short, "approve", "ada", "good").message
    assert registry.champion("champion").verdict_sha256 == verdict.sha256


def test_the_command_decides_on_what_waits(prefect_server, registry, waiting):
    version = waiting("one")
    assert version.version in [found["request"]["version"] for found in call("registry", "approvals")]
    entry = call("promote", version.short, "--by", "ada", "--reason", "good")
    assert (entry["version"], entry["promoted_by"], entry["forced"]) == (version.version, "ada", False)
