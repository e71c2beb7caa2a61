import dataclasses
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from restill import plans
from restill.approvals import Approval
from restill.manifests import ApprovalDecision, ApprovalRequest, PromotionEntry
from restill.plans import Plan, was_rolled_back
from restill.settings import Settings

A, B, C = "a" * 64, "b" * 64, "c" * 64


def entry(sequence, version, action="promote"):
    return PromotionEntry(
        model="m",
        alias="champion",
        sequence=sequence,
        version=version,
        manifest_sha256="0" * 64,
        promotion_id="p",
        action=action,
        reason="r",
        promoted_by="t",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        replaces_sequence=None,
        previous_entry_sha256=None,
        verdict_sha256=None,
    )


def verdict(passed):
    return SimpleNamespace(passed=passed, reason="because")


def plan(**changes):
    """Data and a registered challenger that is not the champion; the tests say the rest."""
    made = Plan(
        new_files=(),
        left_files=(),
        named_version="v",
        snapshot=SimpleNamespace(short="v"),
        missing_sentences=0,
        export="litert",
        challenger=SimpleNamespace(version=B, short=B[:12]),
        champion=entry(1, A),
        verdict=None,
        may_judge_again=False,
        rolled_back=False,
    )
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "nothing", "says"),
    [
        ({"champion": entry(1, B)}, True, "is the champion"),
        ({"verdict": verdict(passed=False)}, True, "not promoted (because)"),
        ({"verdict": verdict(passed=False), "may_judge_again": True}, False, "judge bbbbbbbbbbbb again"),
        ({"verdict": verdict(passed=True)}, False, "promote bbbbbbbbbbbb"),
        ({}, False, "judge bbbbbbbbbbbb, already trained"),
        ({"rolled_back": True, "verdict": verdict(passed=True)}, True, "rolled back"),
        ({"challenger": None}, False, "distill a student"),
        ({"champion": entry(1, B), "new_files": ("incoming/x.csv",)}, False, "ingest x.csv"),
        ({"snapshot": None, "challenger": None}, False, "bring data version v"),
        ({"snapshot": None, "challenger": None, "named_version": None}, False, "there is no data yet"),
    ],
)
def test_what_is_left_to_do(changes, nothing, says):
    made = plan(**changes)
    assert made.nothing_to_do is nothing
    assert any(says in line for line in made.lines()), made.lines()


def asked(decision=None, *, hours=72.0, verdict_sha256=A):
    """A request for a verdict on the challenger, and what was decided on it."""
    about = {"model": "m", "alias": "champion", "version": B, "verdict_sha256": verdict_sha256}
    now = datetime.now(UTC)
    request = ApprovalRequest(**about, at=now, expires_at=now + timedelta(hours=hours))
    made = decision and ApprovalDecision(**about, decision=decision, decision_id="d", by="ada", reason="r", at=now)
    return Approval(request, made)


@pytest.mark.parametrize(
    ("approval", "nothing", "says"),
    [
        (asked(), True, "waits for approval until"),
        (asked(hours=-1), True, "it timed out"),
        (asked("reject"), True, "was rejected by ada"),
        (asked("approve"), False, "promote bbbbbbbbbbbb"),  # the run that was to do it died
        # What was asked for was a verdict against another champion: judged anew, asked anew, but no is no.
        (asked(verdict_sha256=C), False, "promote bbbbbbbbbbbb"),
        (asked(hours=-1, verdict_sha256=C), False, "promote bbbbbbbbbbbb"),
        (asked("reject", verdict_sha256=C), True, "was rejected by ada"),
    ],
)
def test_a_person_has_the_word(approval, nothing, says):
    passed = SimpleNamespace(passed=True, reason="because", sha256=A)
    made = plan(verdict=passed, approval=approval)
    assert made.nothing_to_do is nothing
    assert any(says in line for line in made.lines()), made.lines()


def test_a_version_counts_as_rolled_back_until_it_is_promoted_again():
    history = [entry(1, A), entry(2, B), entry(3, A, "rollback")]
    assert was_rolled_back(B, history)
    assert not was_rolled_back(A, history)
    assert not was_rolled_back(B, [*history, entry(4, B), entry(5, A)])


def test_a_rollback_over_several_versions_takes_all_of_them_out_of_service():
    history = [entry(1, A), entry(2, B), entry(3, C), entry(4, A, "rollback")]
    assert was_rolled_back(B, history)
    assert was_rolled_back(C, history)
    assert not was_rolled_back(C, [*history, entry(5, C)])


def settings_for(*exports, attempts=2):
    changed = Settings()
    return changed.model_copy(
        update={
            "student": changed.student.model_copy(update={"exports": exports}),
            "gates": changed.gates.model_copy(update={"attempts": attempts}),
        }
    )


def judged(passed, *, retryable=False):
    return SimpleNamespace(passed=passed, retryable=retryable)


@pytest.mark.parametrize(
    ("verdicts", "champion", "expected"),
    [
        ({}, None, "litert_int8"),  # nothing trained yet
        ({B: []}, None, "litert_int8"),  # trained, not judged
        ({B: [judged(True)]}, None, "litert_int8"),  # passed, not promoted yet
        ({B: [judged(False)]}, None, "litert"),  # refused: the next export's turn
        ({B: [judged(False, retryable=True)]}, None, "litert_int8"),  # only latency was undecided, with a try left
        ({B: [judged(False, retryable=True)] * 2}, None, "litert"),  # and no try left
        ({B: [judged(False)], C: [judged(False)]}, None, "litert"),  # all refused: the last one says so
        ({B: [judged(False)]}, entry(1, B), "litert_int8"),  # live, whatever a later verdict said
        ({B: [], C: [judged(True)]}, entry(1, C), "litert"),  # refused against an earlier champion, not this sibling
    ],
)
def test_which_export_is_next(monkeypatch, verdicts, champion, expected):
    versions = {"litert_int8": B, "litert": C}
    registry = SimpleNamespace(
        find=lambda key, export: SimpleNamespace(version=versions[export]) if versions[export] in verdicts else None
    )
    monkeypatch.setattr(plans, "find_verdicts", lambda registry, challenger, *_: verdicts[challenger.version])
    settings = settings_for("litert_int8", "litert")
    export, _, found = plans._next_challenger(registry, "key", champion, [], settings)
    assert export == expected
    assert found == verdicts.get(versions[export], [])


def test_an_export_that_a_person_rolled_back_is_not_replaced_by_another(monkeypatch):
    history = [entry(1, A), entry(2, B), entry(3, A, "rollback")]
    registry = SimpleNamespace(find=lambda key, export: SimpleNamespace(version=B))
    monkeypatch.setattr(plans, "find_verdicts", lambda *_: [judged(False)])
    settings = settings_for("litert_int8", "litert")
    assert plans._next_challenger(registry, "key", history[-1], history, settings)[0] == "litert_int8"
