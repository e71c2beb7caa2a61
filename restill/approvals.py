"""Approval: what passed every gate waits until a person decides, or until its time is over.

A request and the decision on it are written once, each by one conditional write, so of two people who decide at once
the first has decided. Neither makes anything live: that is the promotion's entry, which names who approved. A request
that nobody decided on in time is not promoted; that follows from its own record, and nothing has to be written.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from restill.errors import ApprovalRefused
from restill.manifests import SHORT, ApprovalDecision, ApprovalRequest, PromotionEntry, require_text
from restill.registry import Registry
from restill.storage.objects import ObjectNotFound
from restill.versions import JSON

Choice = Literal["approve", "reject"]
Status = Literal["waiting", "timed out", "approved", "rejected"]


@dataclass(frozen=True)
class Approval:
    """A request, and what was decided on it."""

    request: ApprovalRequest
    decision: ApprovalDecision | None

    @property
    def status(self) -> Status:
        """Return how it stands now."""
        if self.decision is not None:
            return "approved" if self.decision.decision == "approve" else "rejected"
        return "waiting" if datetime.now(UTC) < self.request.expires_at else "timed out"

    @property
    def words(self) -> str:
        """Return how it stands, as the end of a sentence that begins with the version."""
        until = f"{self.request.expires_at:%Y-%m-%d %H:%M} UTC"
        if self.decision is None:
            if self.status == "waiting":
                return f"passes every gate and waits for approval until {until}"
            return f"was not promoted, it timed out: nobody approved it by {until}"
        by = f"by {self.decision.by} on {self.decision.at:%Y-%m-%d %H:%M} UTC: {self.decision.reason}"
        return f"was {self.status} {by}"


def ask(
    registry: Registry, version: str, verdict_sha256: str, *, alias: str, expires_hours: float
) -> tuple[Approval, bool]:
    """Keep that a version waits; returns the request with what was decided on it, and whether it is new.

    Args:
        version: full id.
        verdict_sha256: digest of the stored verdict that passed it.
        alias: which pointer is to move.
        expires_hours: how long it waits.
    """
    now = datetime.now(UTC)
    request = ApprovalRequest(
        model=registry.model,
        alias=alias,
        version=version,
        verdict_sha256=verdict_sha256,
        at=now,
        expires_at=now + timedelta(hours=expires_hours),
    )
    key = registry.layout.approval_request(alias, version, verdict_sha256)
    is_new = registry.store.create(key, request.document(), content_type=JSON)
    return _read(registry, key), is_new


def newest(registry: Registry, version: str, *, alias: str) -> Approval | None:
    """Return the last request for a version, by its full id, with what was decided on it.

    Raises: IntegrityError if a record is none; StorageUnreachable.
    """
    found = listed(registry, alias=alias, version=version)
    return found[-1] if found else None


def listed(registry: Registry, *, alias: str, version: str = "") -> list[Approval]:
    """Return all requests, or those for one version by its full id, oldest first.

    Raises: IntegrityError if a record is none; StorageUnreachable.
    """
    keys = [item.key for item in registry.store.list(registry.layout.approval_requests(alias, version))]
    return sorted((_read(registry, key) for key in keys), key=lambda found: found.request.at)


def word(
    model: str, alias: str, version: str, verdict_sha256: str, choice: Choice, *, by: str, reason: str
) -> ApprovalDecision:
    """Return what a person says of a version; nothing is stored."""
    return ApprovalDecision(
        model=model,
        alias=alias,
        version=version,
        verdict_sha256=verdict_sha256,
        decision=choice,
        decision_id=secrets.token_hex(16),
        by=require_text(by, "The name of who decides"),
        reason=require_text(reason, "The reason"),
        at=datetime.now(UTC),
    )


def decide(registry: Registry, approval: Approval, choice: Choice, *, by: str, reason: str) -> ApprovalDecision:
    """Decide on a request, once: who decides the same as was decided before changes nothing.

    Returns: the decision that counts, which may be an earlier one.
    Raises: ApprovalRefused if it timed out, or somebody decided otherwise.
    """
    request = approval.request
    if approval.status == "waiting":
        about = (request.model, request.alias, request.version, request.verdict_sha256)
        made = word(*about, choice, by=by, reason=reason)
        key = registry.layout.approval_decision(request.alias, request.version, request.verdict_sha256)
        registry.store.create(key, made.document(), content_type=JSON)
        # Read back: what counts is what is stored, by us or by somebody before us.
        approval = Approval(request, ApprovalDecision.parse(registry.store.get(key), registry.store.uri(key)))
    if approval.decision is None or approval.decision.decision != choice:
        raise ApprovalRefused(
            f"Version {request.version[:SHORT]} {approval.words}.",
            hint="Have it judged again: restill retrain --force. That asks for approval anew.",
        )
    return approval.decision


def used_by(approval: Approval, history: list[PromotionEntry]) -> PromotionEntry | None:
    """Return the entry that an approval led to: it counts once."""
    decision = approval.decision
    if decision is None:
        return None
    return next((entry for entry in history if entry.promotion_id == decision.decision_id), None)


def _read(registry: Registry, key: str) -> Approval:
    store = registry.store
    request = ApprovalRequest.parse(store.get(key), store.uri(key))
    decided = registry.layout.approval_decision(request.alias, request.version, request.verdict_sha256)
    try:
        return Approval(request, ApprovalDecision.parse(store.get(decided), store.uri(decided)))
    except ObjectNotFound:
        return Approval(request, None)
