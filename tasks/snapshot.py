"""pull_snapshot: what data.dvc names, here and in the remote."""

from restill import snapshots, storage
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks.progress import say
from tasks.step import HOURS, step


@step("pull the data version that data.dvc names", timeout_seconds=1 * HOURS)
def pull_snapshot(settings: Settings) -> Snapshot:
    """Bring the data version that data.dvc names to this machine, and make sure that the remote holds it."""
    snapshot = snapshots.pull(settings.root, storage.connect(settings.storage, settings.state_dir))
    counts = ", ".join(f"{rows:,} {split}" for split, rows in snapshot.rows.items())
    say(f"data version {snapshot.short}: {len(snapshot.batches)} batches, {counts} pairs")
    return snapshot
