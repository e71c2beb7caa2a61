"""ingest_file: accepted batch, quarantine, Data Docs; restore_sample: the first data of a fresh clone."""

from pathlib import PurePath

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from restill import batches, bootstrap, ingest_reports, readers, storage
from restill.ledger import BatchOutcome
from restill.settings import Settings
from restill.storage import ObjectStore
from restill.storage.objects import LONGEST_LINK_SECONDS
from tasks import events
from tasks.progress import reporting, say
from tasks.recording import current
from tasks.step import HOURS, step


@step("ingest {place}", timeout_seconds=6 * HOURS)
def ingest_file(place: str, settings: Settings, *, released_from: str | None = None) -> BatchOutcome:
    """Judge one file and add it to the data set, or refuse it and leave the data set as it was."""
    store = storage.connect(settings.storage, settings.state_dir)
    with reporting("ingestion", f"ingesting {readers.shown_name(PurePath(place))}") as report:
        outcome = batches.ingest_place(place, settings, store, released_from=released_from, progress=report)
    _show(outcome, store)
    events.batch_judged(outcome, settings)
    return outcome


@step("restore the sample data set", timeout_seconds=1 * HOURS)
def restore_sample(settings: Settings) -> BatchOutcome | None:
    """Build the sample data set if data.dvc names it and nobody holds it."""
    store = storage.connect(settings.storage, settings.state_dir)
    outcome = bootstrap.restore_sample(settings, store)
    if outcome is not None:
        _show(outcome, store)
    return outcome


def _show(outcome: BatchOutcome, store: ObjectStore) -> None:
    """Put what became of a file on the run page, with a link to its Data Docs."""
    current().took_in(outcome)
    say(outcome.sentence)
    for sentence in (*outcome.reasons, *outcome.warnings):
        say(f"  {sentence}")
    rows = [{"rows": "accepted", "count": outcome.accepted}]
    rows += [{"rows": f"quarantined: {reason}", "count": count} for reason, count in outcome.quarantined.items()]
    create_table_artifact(
        key="batch", table=[*rows, {"rows": "in", "count": outcome.rows_in}], description=outcome.sentence
    )
    if outcome.report is not None:
        page = ingest_reports.with_links(outcome.report, store, seconds=LONGEST_LINK_SECONDS)
        create_markdown_artifact(key="data-docs", markdown=page, description=outcome.sentence)
