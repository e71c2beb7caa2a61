"""ingest_file: accepted batch, quarantine, Data Docs; restore_sample: the first data of a fresh clone."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from restill import batches, bootstrap, ingest_reports, storage
from restill.batches import BatchOutcome
from restill.settings import Settings
from restill.storage import ObjectStore
from tasks.progress import say
from tasks.retries import RETRIES, RETRY_DELAYS_SECONDS, storage_failed

LINK_SECONDS = 7 * 24 * 60 * 60  # the longest that S3 presigns for


@task(
    task_run_name="ingest {path.name}",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=storage_failed,
    timeout_seconds=6 * 60 * 60,
    cache_policy=NO_CACHE,
)
def ingest_file(path: Path, settings: Settings) -> BatchOutcome:
    """Judge one file and add it to the data set, or refuse it and leave the data set as it was."""
    store = storage.connect(settings.storage, settings.state_dir)
    outcome = batches.ingest_file(path, settings, store)
    _show(outcome, store)
    return outcome


@task(
    task_run_name="restore the sample data set",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=storage_failed,
    timeout_seconds=60 * 60,
    cache_policy=NO_CACHE,
)
def restore_sample(settings: Settings) -> BatchOutcome | None:
    """Build the sample data set if data.dvc names it and nobody holds it."""
    store = storage.connect(settings.storage, settings.state_dir)
    outcome = bootstrap.restore_sample(settings, store)
    if outcome is not None:
        _show(outcome, store)
    return outcome


def _show(outcome: BatchOutcome, store: ObjectStore) -> None:
    """Put what became of a file on the run page, with a link to its Data Docs."""
    say(outcome.sentence)
    for reason in outcome.reasons:
        say(f"  {reason}")
    rows = [{"rows": "accepted", "count": outcome.accepted}]
    rows += [{"rows": f"quarantined: {reason}", "count": count} for reason, count in outcome.quarantined.items()]
    create_table_artifact(
        key="batch", table=[*rows, {"rows": "in", "count": outcome.rows_in}], description=outcome.sentence
    )
    if outcome.report is not None:
        page = ingest_reports.with_links(outcome.report, store, seconds=LINK_SECONDS)
        create_markdown_artifact(key="data-docs", markdown=page, description=outcome.sentence)
