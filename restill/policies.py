"""Who may do what in the bucket: every place that Restill keeps objects in, and IAM policies that follow from it. Pure.

A role may do what its policy allows and nothing else. The bucket's own policy binds every key, the owner's included:
what is written once is not overwritten, and no entry of a promotion history is deleted.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from restill.errors import ConfigurationError

Policy = dict[str, Any]
BUCKET = "bucket"  # name of the bucket's own policy among the documents
MODEL, ALIAS = "{model}", "{alias}"
VERSION = "2012-10-17"  # of the policy language


class Role(StrEnum):
    """Whose keys a process runs with. `collector` is a right that is given in addition."""

    READER = "reader"  # serves
    TRAINER = "trainer"  # ingests, scores, trains, registers, judges
    PROMOTER = "promoter"  # promotes and rolls back
    COLLECTOR = "collector"  # removes garbage


READER, TRAINER, PROMOTER, COLLECTOR = Role


@dataclass(frozen=True)
class Place:
    """Objects of one kind, and which roles may do what with them."""

    key: str  # below the prefix; * stands for anything, {model} and {alias} for their names
    what: str
    write: tuple[Role, ...]
    delete: tuple[Role, ...] = ()
    once: bool = True  # written with If-None-Match, and never again
    parts: bool = False  # large files are uploaded or copied in parts


_SERVING = ("serving/{model}/*", "serving/{model}@{alias}/*")  # the second for other aliases than `champion`

# Every object that Restill writes; a test writes all of them with these rights and no others.
PLACES = (
    # Not `once`: a copy onto itself makes a blob young again. A blob with other bytes fails its digest.
    Place(
        "registry/{model}/blobs/sha256/*", "files, by digest", (TRAINER,), delete=(COLLECTOR,), once=False, parts=True
    ),
    Place("registry/{model}/versions/*/manifest.json", "what a version is made of", (TRAINER,)),
    Place("registry/{model}/versions/*/verdicts/*", "what the gates said", (TRAINER, PROMOTER)),
    Place("registry/{model}/versions/*/predictions/*", "evidence: answers to the test pairs", (TRAINER, PROMOTER)),
    Place("registry/{model}/versions/*/timings/*", "evidence: milliseconds", (TRAINER, PROMOTER)),
    Place("registry/{model}/versions/*/reports/*", "pages of decisions", (TRAINER, PROMOTER)),
    Place("registry/{model}/versions/*", "all of a version that is removed", (), delete=(COLLECTOR,)),
    Place(
        "registry/{model}/versions/*/retired.json",
        "it is going to be removed",
        (COLLECTOR,),
        delete=(TRAINER, COLLECTOR),
    ),
    Place("registry/{model}/gc/*", "a removal is under way", (COLLECTOR,), delete=(COLLECTOR,)),
    Place("registry/{model}/test-splits/*", "how often a test split decided", (TRAINER, PROMOTER)),
    Place("registry/{model}/approvals/{alias}/requests/*", "what waits for a person", (TRAINER, PROMOTER)),
    Place("registry/{model}/approvals/{alias}/decisions/*", "what a person decided", (PROMOTER,)),
    Place("registry/{model}/aliases/*", "the promotion history", (PROMOTER,)),
    Place("registry/{model}/{alias}.json", "pointer for scripts, derived", (PROMOTER,), delete=(PROMOTER,), once=False),
    *(
        Place(
            key,
            "TensorFlow Serving's layout, derived",
            (PROMOTER,),
            delete=(PROMOTER, COLLECTOR),
            once=False,
            parts=True,
        )
        for key in _SERVING
    ),
    Place("logits/*/shards/*", "teacher scores", (TRAINER,)),
    Place("logits/*/waiting/*", "texts that wait to be scored", (TRAINER,), delete=(TRAINER,)),
    Place("logits/*/plans/*", "what one run wants scored", (TRAINER,), delete=(TRAINER,)),
    Place("latency/*", "orders to other machines, and their timings", (TRAINER,), delete=(TRAINER,)),
    Place("data/versions/*", "what each data version is made of", (TRAINER,)),
    Place("data/forgotten/*", "what was removed on request", (TRAINER,)),
    Place("dvc/*", "the data set: DVC's remote", (TRAINER,), once=False, parts=True),
    Place("batches/*", "what became of each file", (TRAINER,)),
    Place("runs/{model}/*", "what became of each run", (TRAINER, PROMOTER)),
    Place("reports/ingest/*", "reports of files, with their quarantine", (TRAINER,)),
    Place(".probe/*", "proof that the store honours conditional writes", tuple(Role)[1:], delete=tuple(Role)[1:]),
)

# What each role reads and lists.
READS: Mapping[Role, tuple[str, ...]] = {
    READER: ("registry/{model}/*", "runs/{model}/*"),
    TRAINER: (
        "registry/{model}/*",
        "runs/{model}/*",
        "logits/*",
        "latency/*",
        "data/*",
        "dvc/*",
        "batches/*",
        "reports/ingest/*",
    ),
    PROMOTER: ("registry/{model}/*", *_SERVING, "data/versions/*", "batches/*", "runs/{model}/*"),
    COLLECTOR: ("registry/{model}/*", *_SERVING),
}


def documents(
    bucket: str,
    prefix: str = "",
    models: Sequence[str] = ("default",),
    aliases: Sequence[str] = ("champion",),
    *,
    partition: str = "aws",
) -> dict[str, Policy]:
    """Return the policy of every role, and under `bucket` the bucket's own.

    Args:
        bucket: name of the bucket.
        prefix: key prefix in it, as in `storage.prefix`.
        models: names in the registry.
        aliases: that promotion moves.
        partition: `aws`, or `aws-cn` in China.
    Raises: ConfigurationError if a name holds what a policy would take for a pattern or variable.
    """
    for name in (bucket, prefix, partition, *models, *aliases):
        if set(name) & set("*?${}"):
            raise ConfigurationError(
                f"{name!r} cannot be part of a policy: it would be taken for a pattern.",
                hint="Name bucket, prefix and models without * ? $ { }.",
            )
    here = _Bucket(f"arn:{partition}:s3:::{bucket}", prefix.strip("/"))
    found = {str(role): _role(role, here, models, aliases) for role in Role}
    return found | {BUCKET: _bucket(here)}


def text(policy: Policy) -> str:
    """Return a policy as the file that is handed to AWS."""
    return json.dumps(policy, indent=2) + "\n"


def who_may(action: str, key: str) -> tuple[Role, ...]:
    """Return the roles that may do something with an object, by its key below the prefix.

    Args:
        action: `s3:GetObject`, `s3:ListBucket`, `s3:PutObject` or `s3:DeleteObject`; nobody may do anything else.
    """
    if action in ("s3:GetObject", "s3:ListBucket"):
        return tuple(role for role in Role if any(_covers(pattern, key) for pattern in READS[role]))
    found: set[Role] = set()
    for place in PLACES:
        if _covers(place.key, key):
            found.update({"s3:PutObject": place.write, "s3:DeleteObject": place.delete}.get(action, ()))
    return tuple(role for role in Role if role in found)


@dataclass(frozen=True)
class _Bucket:
    arn: str
    prefix: str

    def full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def objects(self, keys: Iterable[str]) -> list[str]:
        return [f"{self.arn}/{self.full(key)}" for key in keys]


_ACTIONS = {"Write": "s3:PutObject", "Delete": "s3:DeleteObject", "GiveUpUploads": "s3:AbortMultipartUpload"}


def _role(role: Role, bucket: _Bucket, models: Sequence[str], aliases: Sequence[str]) -> Policy:
    def named(patterns: Iterable[str]) -> list[str]:
        pairs = [(model, alias) for model in models for alias in aliases]
        filled = (pattern.replace(MODEL, model).replace(ALIAS, alias) for pattern in patterns for model, alias in pairs)
        return list(dict.fromkeys(filled))

    # AWS counts characters: each place stands in one statement, with all that may be done there.
    together: dict[tuple[str, ...], list[str]] = {}
    for place in PLACES:
        allowed = {
            "Write": role in place.write,
            "Delete": role in place.delete,
            "GiveUpUploads": role in place.write and place.parts,
        }
        together.setdefault(tuple(name for name in allowed if allowed[name]), []).append(place.key)
    together.pop((), None)
    statements = [
        {
            "Sid": "List",
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": bucket.arn,
            "Condition": {"StringLike": {"s3:prefix": [bucket.full(key) for key in named(READS[role])]}},
        },
        {
            "Sid": "Read",
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": bucket.objects(named(READS[role])),
        },
        *(
            {
                "Sid": "".join(names),
                "Effect": "Allow",
                "Action": [_ACTIONS[name] for name in names],
                "Resource": bucket.objects(named(patterns)),
            }
            for names, patterns in together.items()
        ),
    ]
    return {"Version": VERSION, "Statement": statements}


def _bucket(bucket: _Bucket) -> Policy:
    def deny(sid: str, actions: list[str], places: Iterable[Place]) -> Policy:
        resources = bucket.objects(place.key.replace(MODEL, "*").replace(ALIAS, "*") for place in places)
        return {"Sid": sid, "Effect": "Deny", "Principal": "*", "Action": actions, "Resource": resources}

    overwriting = deny(
        "NothingIsOverwritten", ["s3:PutObject"], (place for place in PLACES if place.once and place.write)
    )
    # Without the header a write replaces what is there. Copies and uploads in parts (whose parts have no header) fall
    # under this too: nothing that is written once is written that way.
    overwriting["Condition"] = {"Null": {"s3:if-none-match": "true"}}
    deleting = deny(
        "HistoryIsNotDeleted",
        ["s3:DeleteObject", "s3:DeleteObjectVersion"],
        (place for place in PLACES if not place.delete and "/aliases/" in place.key),
    )
    return {"Version": VERSION, "Statement": [overwriting, deleting]}


def _covers(pattern: str, key: str) -> bool:
    """Return whether a key, or the beginning of keys that is listed, is of a pattern; a name has no slash."""
    folder = pattern.removesuffix("*")
    wanted = re.sub(r"\\\*|\\\{\w+\\\}", "[^/]+", re.escape(folder))
    return re.fullmatch(wanted if folder == pattern else f"{wanted}.*", key) is not None
