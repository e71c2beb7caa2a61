"""Removal of texts that wait in the object store: they are there only while they are needed."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from restill.logits import jobs, places
from restill.storage.objects import ObjectInfo, ObjectStore

# Longer than any run may take, so that nothing of a run that still goes on is removed.
ABANDONED_AFTER = timedelta(days=2)
_DELETIONS = 8


def sweep(store: ObjectStore, fingerprint: str) -> int:
    """Remove a teacher's plans that are done or abandoned, and texts that no other plan needs; return how many.

    A plan goes after its texts: if this is killed, the next run finds the plan and goes on.

    Raises: StorageUnreachable; IntegrityError naming a damaged plan.
    """
    works = places.listed(store, fingerprint, places.WORK)
    plans = places.listed(store, fingerprint, places.PLANS)
    if not works and not plans:
        return 0
    done = places.stored_shards(store, fingerprint)
    over: list[str] = []
    needed: set[str] = set()
    for found in plans:
        if _abandoned(found):
            over.append(found.key)
        elif (plan := jobs.read_plan(store, found.key)) is not None:
            missing = set(plan.shards) - done.keys()
            needed |= missing
            if not missing:
                over.append(found.key)
    for found in works:
        shard = PurePosixPath(found.key).stem
        # A young one without a plan belongs to one that is being made.
        if shard in done or (_abandoned(found) and shard not in needed):
            over.insert(0, found.key)
    texts = [key for key in over if f"/{places.WORK}/" in key]
    _delete(store, texts)
    _delete(store, [key for key in over if f"/{places.PLANS}/" in key])
    return len(over)


def sweep_all(store: ObjectStore) -> int:
    """Do so for every teacher that anything is kept of; return how many objects went.

    Raises: as `sweep`.
    """
    fingerprints = {found.key.removeprefix(places.ROOT).split("/")[0] for found in store.list(places.ROOT)}
    return sum(sweep(store, fingerprint) for fingerprint in sorted(fingerprints))


def forget_texts(store: ObjectStore) -> int:
    """Remove the waiting texts of every teacher, and their plans; return how many objects.

    A run that needs them stops, and the next one plans anew.

    Raises: StorageUnreachable.
    """
    keys = [found.key for found in store.list(places.ROOT)]
    texts = [key for key in keys if f"/{places.WORK}/" in key]
    plans = [key for key in keys if f"/{places.PLANS}/" in key]
    _delete(store, texts)
    _delete(store, plans)
    return len(texts) + len(plans)


def _abandoned(found: ObjectInfo) -> bool:
    return datetime.now(UTC) - found.modified > ABANDONED_AFTER


def _delete(store: ObjectStore, keys: list[str]) -> None:
    with ThreadPoolExecutor(_DELETIONS, thread_name_prefix="delete") as pool:
        list(pool.map(store.delete, keys))
