"""pull_snapshot: what data.dvc names, here and in the remote."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from restill import snapshots, storage
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks.progress import say
from tasks.retries import RETRIES, RETRY_DELAYS_SECONDS, storage_failed


@task(
    task_run_name="pull the data version that data.dvc names",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=storage_failed,
    timeout_seconds=60 * 60,
    cache_policy=NO_CACHE,
)
def pull_snapshot(settings: Settings) -> Snapshot:
    """Bring the data version that data.dvc names to this machine, and make sure that the remote holds it."""
    snapshot = snapshots.pull(settings.root, storage.connect(settings.storage, settings.state_dir))
    counts = ", ".join(f"{rows:,} {split}" for split, rows in snapshot.rows.items())
    say(f"data version {snapshot.short}: {len(snapshot.batches)} batches, {counts} pairs")
    return snapshot
