"""register_challenger, load_challenger, load_champion, promote_challenger, roll_back: what touches the registry."""

from pathlib import Path

from prefect.runtime import flow_run

from restill import lineage, storage
from restill.artifacts import Artifact
from restill.evaluation import Candidate
from restill.gates import Verdict
from restill.manifests import ApprovalDecision, Manifest, PromotionEntry
from restill.registry import Registry
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks import events
from tasks.progress import say
from tasks.recording import current
from tasks.step import HOURS, MINUTES, step


def _registry(settings: Settings) -> Registry:
    return Registry.configured(storage.connect(settings.storage, settings.state_dir), settings.registry)


def _fetch(
    registry: Registry, manifest: Manifest, settings: Settings, *, manifest_sha256: str | None = None
) -> Candidate:
    folder: Path = registry.fetch(manifest, settings.state_dir / "cache" / "versions", manifest_sha256=manifest_sha256)
    return Candidate(manifest, folder)


@step("register the challenger {export}", timeout_seconds=1 * HOURS)
def register_challenger(
    artifact: Artifact, export: str, snapshot: Snapshot, champion: PromotionEntry | None, settings: Settings
) -> Candidate:
    """Register one export of an artifact as a version, and return it as downloaded and verified from the registry."""
    registry = _registry(settings)
    manifest = lineage.register(
        registry, artifact, snapshot, settings, export=export, champion=champion, flow_run_id=flow_run.get_id()
    )
    current().version = manifest.version
    say(f"registered version {manifest.short}, {export} ({manifest.served_bytes / 1e6:.1f} MB served)")
    return _fetch(registry, manifest, settings)


@step("load challenger {manifest.short}", timeout_seconds=1 * HOURS)
def load_challenger(manifest: Manifest, settings: Settings) -> Candidate:
    """Return a version registered by an earlier run, downloaded and verified."""
    say(f"version {manifest.short} was trained on exactly this before")
    return _fetch(_registry(settings), manifest, settings)


@step("load the champion", timeout_seconds=1 * HOURS)
def load_champion(settings: Settings) -> tuple[PromotionEntry, Candidate] | None:
    """Return the promotion that is live with its version, downloaded and verified; None before the first."""
    registry = _registry(settings)
    registry.signer()  # a key that is missing or cannot be used is better known before the training than after it
    entry = registry.champion(settings.registry.alias)
    if entry is None:
        say("there is no champion yet: absolute gates only")
        return None
    current().is_live(entry)
    manifest = registry.manifest(entry.version)
    say(f"champion is version {manifest.short}, promoted {entry.at:%Y-%m-%d %H:%M} UTC")
    return entry, _fetch(registry, manifest, settings, manifest_sha256=entry.manifest_sha256)


@step("promote {challenger.short}", timeout_seconds=10 * MINUTES)
def promote_challenger(
    challenger: Manifest,
    verdict: Verdict,
    settings: Settings,
    *,
    replacing: PromotionEntry | None,
    approved: ApprovalDecision | None = None,
) -> PromotionEntry:
    """Make a challenger champion, directly after the entry it was judged against; a person who approved is named."""
    # The run's id: a retry whose first answer was lost recognises its own promotion. An approval's: so do two people.
    promotion_id = f"{flow_run.get_id()}-{challenger.short}" if flow_run.get_id() else None
    registry = _registry(settings)
    entry = registry.promote(
        challenger.version,
        alias=settings.registry.alias,
        expected=replacing,
        reason=f"Approved: {approved.reason}" if approved else verdict.reason,
        promoted_by=approved.by
        if approved
        else f"flow run {flow_run.get_name() or 'unnamed'} {flow_run.get_id() or ''}".strip(),
        verdict_sha256=verdict.sha256,
        promotion_id=approved.decision_id if approved else promotion_id,
    )
    current().is_live(entry, promoted=True)
    say(f"promoted version {challenger.short} as number {entry.sequence}")
    events.model_promoted(entry, registry, settings)
    return entry


@step("roll back", timeout_seconds=10 * MINUTES)
def roll_back(settings: Settings, *, to: str | None, reason: str, by: str) -> PromotionEntry:
    """Make an earlier version champion again."""
    entry = _registry(settings).rollback(settings.registry.alias, to=to, reason=reason, by=by)
    current().is_live(entry)
    say(f"champion is {entry.version[:12]} again: {reason}")
    events.model_rolled_back(entry, settings)
    return entry
