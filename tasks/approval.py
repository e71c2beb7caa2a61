"""ask_approval, show_request, decide_request: what passed every gate waits for a person."""

from dataclasses import dataclass

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from restill import approvals, reports, storage
from restill.approvals import Approval, Choice
from restill.errors import ApprovalRefused, GateRefused
from restill.gates import Verdict
from restill.manifests import ApprovalDecision, Manifest, PromotionEntry
from restill.registry import Registry
from restill.settings import Settings
from restill.storage.objects import LONGEST_LINK_SECONDS, ObjectNotFound
from restill.verdicts import stored_verdicts
from tasks import events
from tasks.progress import say
from tasks.step import MINUTES, step


@dataclass(frozen=True)
class Asked:
    """What a person decides on."""

    manifest: Manifest
    verdict: Verdict  # that passed it
    approval: Approval | None  # None: nobody asked, a person takes the word
    used_by: PromotionEntry | None = None  # the entry that this approval led to


def _registry(settings: Settings) -> Registry:
    return Registry.configured(storage.connect(settings.storage, settings.state_dir), settings.registry)


@step("ask for approval of {challenger.short}", timeout_seconds=10 * MINUTES)
def ask_approval(challenger: Manifest, verdict: Verdict, settings: Settings) -> Approval:
    """Keep that a challenger waits and tell it; returns the request with what was decided on it, if anything."""
    registry = _registry(settings)
    approval, is_new = approvals.ask(
        registry,
        challenger.version,
        verdict.sha256,
        alias=settings.registry.alias,
        expires_hours=settings.approval.expires_hours,
    )
    if is_new:
        report = registry.store.uri(registry.layout.report(challenger.version, verdict.sha256, "html"))
        events.model_awaits_approval(challenger, verdict.sha256, report, approval.request.expires_at, settings)
    create_markdown_artifact(
        key="approval",
        markdown=f"Version `{challenger.short}` {approval.words}.\n\nGates and report are on this page. To decide, run "
        f"the deployment **promote** with version `{challenger.version}`, or on the command line:\n\n"
        f'    restill promote {challenger.short} --by NAME --reason "…"\n'
        f'    restill promote {challenger.short} --reject --by NAME --reason "…"\n',
        description=f"Version {challenger.short} {approval.words}.",
    )
    say(f"version {challenger.short} {approval.words}")
    return approval


@step("look at {version}", timeout_seconds=10 * MINUTES)
def show_request(version: str, settings: Settings) -> Asked:
    """Return what a person decides on, and show its gates and report on the run page.

    Raises: VersionNotFound; GateRefused if no verdict ever passed it.
    """
    registry = _registry(settings)
    manifest = registry.manifest(version)
    verdicts = stored_verdicts(registry, manifest.version)
    approval = approvals.newest(registry, manifest.version, alias=settings.registry.alias)
    passed = {verdict.sha256: verdict for verdict in verdicts if verdict.passed}
    verdict = passed.get(approval.request.verdict_sha256) if approval else next(reversed(passed.values()), None)
    if verdict is None:
        raise GateRefused(
            f"Version {manifest.short} has no verdict that passes it. "
            f"{verdicts[-1].reason if verdicts else 'It was never judged.'}",
            hint="To promote it all the same: restill promote --force; the history will show it.",
        )
    sentence = f"Version {manifest.short} {approval.words}." if approval else verdict.reason
    create_table_artifact(
        key="gates", table=[row.model_dump(mode="json") for row in verdict.decisive_first], description=sentence
    )
    create_markdown_artifact(key="report", markdown=_report(registry, manifest.version, verdict), description=sentence)
    say(sentence)
    history = registry.history(settings.registry.alias)
    return Asked(manifest, verdict, approval, approvals.used_by(approval, history) if approval else None)


@step("{choice} {asked.manifest.short}", timeout_seconds=10 * MINUTES)
def decide_request(asked: Asked, choice: Choice, settings: Settings, *, by: str, reason: str) -> ApprovalDecision:
    """Keep what a person decided, unless it is too late, and return what counts: somebody may have been first.

    Raises: ApprovalRefused if it timed out, somebody decided otherwise, or there is nothing to reject.
    """
    short = asked.manifest.short
    if asked.approval is None:
        if choice == "reject":
            raise ApprovalRefused(
                f"Version {short} does not wait for approval.", hint="What waits: restill registry approvals."
            )
        about = (asked.manifest.model, settings.registry.alias, asked.manifest.version, asked.verdict.sha256)
        return approvals.word(*about, choice, by=by, reason=reason)
    decided = approvals.decide(_registry(settings), asked.approval, choice, by=by, reason=reason)
    say(f"version {short}: {decided.decision} by {decided.by}")
    return decided


def _report(registry: Registry, version: str, verdict: Verdict) -> str:
    """Return the stored model card, with a link to the page."""
    card, page = (registry.layout.report(version, verdict.sha256, suffix) for suffix in ("md", "html"))
    try:
        text = registry.store.get(card).decode()
    except ObjectNotFound:
        return f"Its report is not in the registry any more.\n\n{verdict.reason}"
    return reports.with_link(text, registry.store.uri(page), registry.store, seconds=LONGEST_LINK_SECONDS)
