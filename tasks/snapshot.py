"""pull_snapshot: what data.dvc names, or a version asked for, here and in the remote."""

from restill import snapshots, storage
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks.progress import say
from tasks.recording import current
from tasks.step import HOURS, step


@step("pull the data version", timeout_seconds=1 * HOURS)
def pull_snapshot(settings: Settings, data_version: str | None = None) -> Snapshot:
    """Bring the data version that data.dvc names to this machine, and make sure that the remote holds it.

    A version asked for comes to a folder of its own, and data.dvc stays as it is.
    """
    store = storage.connect(settings.storage, settings.state_dir)
    if data_version is None:
        snapshot = snapshots.pull(settings.root, store)
    else:
        snapshot = snapshots.open_version(settings.root, store, data_version)
    current().data_version = snapshot.version
    counts = ", ".join(f"{rows:,} {split}" for split, rows in snapshot.rows.items())
    say(f"data version {snapshot.short}: {len(snapshot.batches)} batches, {counts} pairs")
    return snapshot
