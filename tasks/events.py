"""What happened, told to whoever listens: Prefect events. Their names and payloads: docs/events.md. No step of its own.

Telling is not the job: a run whose event cannot be sent goes on, and its log says so.
"""

from collections.abc import Sequence
from datetime import datetime

from prefect.events import emit_event
from prefect.exceptions import EventTooLarge
from pydantic import JsonValue

from restill.decisions import Decision
from restill.ledger import BatchOutcome
from restill.manifests import Manifest, PromotionEntry
from restill.registry import Registry
from restill.settings import Settings
from restill.telling import one_line
from tasks.progress import say

FILES_ARRIVED = "restill.files.arrived"
BATCH_ACCEPTED = "restill.batch.accepted"
BATCH_REFUSED = "restill.batch.refused"
MODEL_PROMOTED = "restill.model.promoted"
MODEL_REFUSED = "restill.model.refused"
MODEL_AWAITS_APPROVAL = "restill.model.awaits-approval"
MODEL_ROLLED_BACK = "restill.model.rolled-back"


def resource_id(settings: Settings) -> str:
    """Return the resource that every event is about: the configured model."""
    return f"restill.model.{settings.registry.model}"


def files_arrived(files: Sequence[str], sentence: str, settings: Settings) -> None:
    """Tell of new files in the incoming place.

    Args:
        files: paths or s3:// addresses, as `ingest` takes them.
        sentence: the same for a person.
        settings: whose incoming place.
    """
    _emit(FILES_ARRIVED, settings, sentence, files=list(files))


def batch_judged(outcome: BatchOutcome, settings: Settings) -> None:
    """Tell what became of a file; one that changed nothing is no news. Reasons may quote texts, and stay here."""
    if outcome.outcome != "unchanged":
        _emit(
            BATCH_ACCEPTED if outcome.outcome == "accepted" else BATCH_REFUSED,
            settings,
            outcome.sentence,
            file=one_line(outcome.file_name),
            batch=outcome.batch_id,
            accepted_rows=outcome.accepted,
            rows=outcome.rows_in,
            report=outcome.report,
        )


def model_promoted(entry: PromotionEntry, registry: Registry, settings: Settings) -> None:
    """Tell that another version is live because it passed, was approved, or was forced."""
    how = "was promoted by force" if entry.forced else "was promoted"
    report = registry.layout.report(entry.version, entry.verdict_sha256, "html") if entry.verdict_sha256 else None
    _emit(
        MODEL_PROMOTED,
        settings,
        f"Version {entry.version[:12]} {how} as number {entry.sequence} by {entry.promoted_by}: {entry.reason}",
        version=entry.version,
        data_version=registry.manifest(entry.version).lineage.data_version,
        number=entry.sequence,
        by=one_line(entry.promoted_by),
        forced=entry.forced,
        verdict=entry.verdict_sha256,
        report=registry.store.uri(report) if report else None,
    )


def model_refused(challenger: Manifest, decision: Decision, settings: Settings) -> None:
    """Tell that a challenger did not pass."""
    _emit(
        MODEL_REFUSED,
        settings,
        f"Version {challenger.short} was not promoted. {decision.verdict.reason}",
        version=challenger.version,
        data_version=challenger.lineage.data_version,
        verdict=decision.verdict.sha256,
        report=decision.report_uri,
    )


def model_awaits_approval(
    challenger: Manifest, verdict: str, report: str, expires_at: datetime, settings: Settings
) -> None:
    """Tell that a challenger passed every gate and waits for a person."""
    _emit(
        MODEL_AWAITS_APPROVAL,
        settings,
        f"Version {challenger.short} passes every gate and waits for approval until {expires_at:%Y-%m-%d %H:%M} UTC. "
        f"Approve or reject it with the deployment promote, or: restill promote {challenger.short}",
        version=challenger.version,
        data_version=challenger.lineage.data_version,
        verdict=verdict,
        report=report,
        expires_at=expires_at.isoformat(timespec="seconds"),
    )


def model_rolled_back(entry: PromotionEntry, settings: Settings) -> None:
    """Tell that an earlier version is live again."""
    _emit(
        MODEL_ROLLED_BACK,
        settings,
        f"Champion is version {entry.version[:12]} again, by {entry.promoted_by}: {entry.reason}",
        version=entry.version,
        number=entry.sequence,
        by=one_line(entry.promoted_by),
    )


def _emit(event: str, settings: Settings, sentence: str, **facts: JsonValue) -> None:
    """Send an event. Prefect logs what goes wrong on the way, and raises only when the event is too large."""
    model = settings.registry.model
    resource = {"prefect.resource.id": resource_id(settings), "prefect.resource.name": model}
    try:
        emit_event(event, resource, payload={"sentence": one_line(sentence), "model": model, **facts})
    except EventTooLarge as error:
        say(f"the event {event} was not sent: {error}")
