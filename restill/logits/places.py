"""Where the objects of a teacher's scores are in the object store.

    logits/<teacher fingerprint>/shards/<shard>.parquet   scores, for good
    logits/<teacher fingerprint>/waiting/<shard>.parquet  the texts of a shard that is still to be computed
    logits/<teacher fingerprint>/plans/<plan>.json        which shards one run wants

A shard is named by its items alone, so whoever computes it writes the same key, and only the first does.
"""

import re
from pathlib import PurePosixPath

from restill.storage.objects import ObjectInfo, ObjectStore

ROOT = "logits/"
SHARDS, WORK, PLANS = "shards", "waiting", "plans"
_NAME = re.compile("[0-9a-f]{32}")
_PLAN = re.compile("logits/[0-9a-f]{64}/plans/[0-9a-f]{32}[.]json")


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


def stored_shards(store: ObjectStore, fingerprint: str) -> dict[str, str]:
    """Return the shards that are scored: name → ETag, which tells one that was deleted and made anew.

    What else lies in their folder, such as a console's folder marker, is passed over.

    Raises: StorageUnreachable.
    """
    return {_name(found.key): found.etag for found in listed(store, fingerprint, SHARDS)}


def listed(store: ObjectStore, fingerprint: str, name: str) -> list[ObjectInfo]:
    """Return a teacher's objects of one kind, and nothing that others put beside them.

    Raises: StorageUnreachable.
    """
    prefix = folder(fingerprint, name)
    suffix = ".json" if name == PLANS else ".parquet"
    return [
        found
        for found in store.list(prefix)
        if _NAME.fullmatch(_name(found.key)) and found.key == f"{prefix}{_name(found.key)}{suffix}"
    ]


def is_plan(key: str) -> bool:
    """Return whether a plan could be stored there."""
    return _PLAN.fullmatch(key) is not None


def _name(key: str) -> str:
    return PurePosixPath(key).stem
