"""Where the objects of a teacher's scores are in the object store.

    logits/<teacher fingerprint>/shards/<shard>.parquet   scores, for good
    logits/<teacher fingerprint>/waiting/<shard>.parquet  the texts of a shard that is still to be computed
    logits/<teacher fingerprint>/plans/<plan>.json        which shards one run wants

A shard is named by its items alone, so whoever computes it writes the same key, and only the first does.
"""

from pathlib import PurePosixPath

from restill.storage.objects import ObjectStore

ROOT = "logits/"
SHARDS, WORK, PLANS = "shards", "waiting", "plans"


def folder(fingerprint: str, name: str) -> str:
    """Return the prefix of one kind of object of a teacher."""
    return f"{ROOT}{fingerprint}/{name}/"


def shard_key(fingerprint: str, shard: str) -> str:
    """Return where a shard's scores are."""
    return f"{folder(fingerprint, SHARDS)}{shard}.parquet"


def work_key(fingerprint: str, shard: str) -> str:
    """Return where a shard's texts wait to be scored."""
    return f"{folder(fingerprint, WORK)}{shard}.parquet"


def plan_key(fingerprint: str, plan: str) -> str:
    """Return where a plan is."""
    return f"{folder(fingerprint, PLANS)}{plan}.json"


def stored_shards(store: ObjectStore, fingerprint: str) -> set[str]:
    """Return the names of the shards that are scored.

    Raises: StorageUnreachable.
    """
    return {PurePosixPath(found.key).stem for found in store.list(folder(fingerprint, SHARDS))}
