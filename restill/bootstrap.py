"""The first run of a fresh clone: data.dvc names the sample data set, and nobody holds it yet, so it is made again."""

from restill import batches, sample, snapshots
from restill.errors import DataMissing, IntegrityError
from restill.files import write_whole
from restill.ledger import BatchOutcome
from restill.settings import Settings
from restill.storage.objects import ObjectStore


def restore_sample(settings: Settings, store: ObjectStore) -> BatchOutcome | None:
    """Build the sample data set if that is what data.dvc names and neither this machine nor the remote holds it.

    Returns: what became of the sample file; None if there was nothing to restore.
    Raises: IntegrityError if what was built is not what data.dvc names.
    """
    pointer = settings.root / snapshots.POINTER
    with snapshots.locked(settings.root):
        if snapshots.named_version(settings.root) != sample.DATA_VERSION:
            return None
        try:
            snapshots.pull(settings.root, store)
        except DataMissing:
            named = pointer.read_bytes()
        else:
            return None
        path = sample.write_drop("1", settings.sample_dir)
        pointer.unlink()  # if this process dies now, the sample is an ordinary new file for the next one
        try:
            outcome = batches.ingest_file(path, settings, store)
            built = snapshots.named_version(settings.root)
            if built != sample.DATA_VERSION:
                raise IntegrityError(
                    f"The sample data set came out as version {built}, but data.dvc names {sample.DATA_VERSION}.",
                    hint="The locked packages make the named one with the default [data] settings; see "
                    "restill config show. "
                    "To go on with other settings: git rm data.dvc, and run again.",
                )
        except BaseException:
            write_whole(pointer, named)
            raise
        return outcome
