"""What waits for a person, on the real S3 server."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from measured import measurements
from registered import artifact, register

from restill import approvals, gates
from restill.approvals import Approval
from restill.errors import ApprovalRefused, IntegrityError
from restill.manifests import ApprovalDecision
from restill.registry import Registry
from restill.settings import GateSettings


@pytest.fixture
def registry(store):
    return Registry(store, "default")


@pytest.fixture
def manifest(registry, tmp_path):
    return register(registry, artifact(tmp_path / "artifact"))


@pytest.fixture
def verdict(registry, manifest):
    judged = gates.judge(measurements(challenger=manifest.version, champion=None), GateSettings())
    registry.add_verdict(manifest.version, judged.document())
    assert judged.passed
    return judged


def ask(registry, manifest, verdict_sha256, hours=72.0):
    return approvals.ask(registry, manifest.version, verdict_sha256, alias="champion", expires_hours=hours)


def test_asking_again_changes_nothing(registry, manifest, verdict):
    first, is_new = ask(registry, manifest, verdict.sha256)
    assert (is_new, first.status) == (True, "waiting")
    assert ask(registry, manifest, verdict.sha256, hours=1.0) == (first, False)
    assert first.request.expires_at - first.request.at == timedelta(hours=72)
    assert approvals.listed(registry, alias="champion") == [first]
    assert approvals.listed(registry, alias="another") == []


def test_the_newest_request_of_a_version_counts(registry, manifest, verdict):
    assert approvals.newest(registry, manifest.version, alias="champion") is None
    ask(registry, manifest, verdict.sha256)
    later, _ = ask(registry, manifest, "b" * 64)
    assert approvals.newest(registry, manifest.version, alias="champion") == later


def test_an_approval_is_kept_and_counts_once(registry, manifest, verdict):
    asked, _ = ask(registry, manifest, verdict.sha256)
    decided = approvals.decide(registry, asked, "approve", by="ada", reason="better on refunds")
    again = approvals.newest(registry, manifest.version, alias="champion")
    assert (again.status, again.decision) == ("approved", decided)
    assert approvals.decide(registry, again, "approve", by="bob", reason="me too") == decided
    assert approvals.used_by(again, registry.history("champion")) is None
    entry = registry.promote(
        manifest.version,
        alias="champion",
        expected=None,
        reason="Approved",
        promoted_by=decided.by,
        verdict_sha256=verdict.sha256,
        promotion_id=decided.decision_id,
    )
    assert approvals.used_by(again, registry.history("champion")) == entry


def test_a_rejected_version_is_not_approved_after_that(registry, manifest, verdict):
    asked, _ = ask(registry, manifest, verdict.sha256)
    approvals.decide(registry, asked, "reject", by="ada", reason="wrong on refunds")
    for seen in (asked, approvals.newest(registry, manifest.version, alias="champion")):  # also who looked before
        with pytest.raises(ApprovalRefused, match=r"was rejected by ada .*: wrong on refunds"):
            approvals.decide(registry, seen, "approve", by="bob", reason="fine")


def test_what_nobody_decided_in_time_is_not_promoted(registry, manifest, verdict):
    asked, _ = ask(registry, manifest, verdict.sha256, hours=1e-9)
    assert asked.status == "timed out"
    with pytest.raises(ApprovalRefused, match="not promoted, it timed out"):
        approvals.decide(registry, asked, "approve", by="ada", reason="late")
    assert approvals.newest(registry, manifest.version, alias="champion").decision is None


def test_an_approval_in_time_outlives_the_request(registry, manifest, verdict):
    """The run that promotes may be started again after the time is over."""
    asked, _ = ask(registry, manifest, verdict.sha256)
    decided = approvals.decide(registry, asked, "approve", by="ada", reason="good")
    over = asked.request.model_copy(update={"expires_at": datetime.now(UTC) - timedelta(hours=1)})
    assert Approval(over, decided).status == "approved"


def test_of_people_who_decide_at_once_one_has_decided(registry, manifest, verdict):
    asked, _ = ask(registry, manifest, verdict.sha256)
    told: list[ApprovalDecision | ApprovalRefused] = []
    start = threading.Barrier(8)

    def decide(number):
        start.wait()
        try:
            choice = "approve" if number % 2 else "reject"
            told.append(approvals.decide(registry, asked, choice, by=f"person {number}", reason="so"))
        except ApprovalRefused as error:
            told.append(error)

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = approvals.newest(registry, manifest.version, alias="champion").decision
    agreed = [answer for answer in told if isinstance(answer, ApprovalDecision)]
    assert agreed == [kept] * 4
    assert len(told) == 8


def test_a_damaged_record_is_named(registry, manifest, verdict, store):
    ask(registry, manifest, verdict.sha256)
    key = registry.layout.approval_request("champion", manifest.version, verdict.sha256)
    store.delete(key)
    assert store.create(key, b"{")
    with pytest.raises(IntegrityError, match=verdict.sha256):
        approvals.listed(registry, alias="champion")
