"""What became of each file, kept in the object store under `batches/`: no file is judged again for nothing."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from restill import expectations, partitions
from restill.errors import DataRejected
from restill.pairs import RULES_VERSION
from restill.settings import DataSettings
from restill.storage.objects import ObjectNotFound, ObjectStore

FOLDER = "batches"


Decided = Literal["accepted", "refused", "unchanged"]  # unchanged: the data set holds these pairs already


class BatchOutcome(BaseModel):
    """What became of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Decided
    file_name: str
    batch_id: str | None  # None: the file could not be read
    rows_in: int
    accepted: int  # rows
    quarantined: dict[str, int]  # rows by reason
    reasons: tuple[str, ...]  # why it was refused, a sentence each
    warnings: tuple[str, ...] = ()  # what a person should look at, a sentence each
    detected: str | None = None  # how the file was read, in words
    released_from: str | None = None  # the report whose quarantine these rows come from, corrected
    report: str | None = None  # address of the report's first page
    at: datetime
    final: bool = True  # False: the file was not whole, and the next run looks at it again
    dry_run: bool = False

    @property
    def sentence(self) -> str:
        """Return what happened, for a person."""
        if self.outcome == "unchanged":
            return f"{self.file_name} changes nothing: the data set holds all of its pairs."
        if self.outcome == "refused":
            refused = "would be refused" if self.dry_run else "was refused, the data set is as before"
            return f"{self.file_name} {refused}: {len(self.reasons)} reason{'s' if len(self.reasons) > 1 else ''}."
        kept_out = ", ".join(f"{count:,} {reason}" for reason, count in self.quarantined.items()) or "none"
        return (
            f"{self.file_name} {'would be' if self.dry_run else 'was'} accepted as batch {self.batch_id}: "
            f"{self.accepted:,} of {self.rows_in:,} rows; quarantined: {kept_out}."
        )


def outcome_of(key: str, store: ObjectStore) -> BatchOutcome | None:
    """Return what was decided under a ledger key, or None.

    An acceptance comes before a refusal: the data set may have grown between the two.
    """
    for decided in ("accepted", "refused"):
        try:
            return BatchOutcome.model_validate_json(store.get(f"{FOLDER}/{key}/{decided}.json"))
        except ObjectNotFound:
            continue
    return None


def ledger_key(path: Path, data: DataSettings) -> str:
    """Return the digest of everything a decision depends on but the data set: file, columns, rules and limits.

    Raises: DataRejected if there is no such file.
    """
    try:
        digest = partitions.file_digest(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataRejected(f"{str(path)!a} cannot be read: {why}.", hint="Check the path.") from error
    return key_of_digest(digest, data)


def key_of_digest(file_sha256: str, data: DataSettings) -> str:
    """Return the ledger key of a file by its digest."""
    rules = {
        "file": file_sha256,
        "rows": RULES_VERSION,
        "suite": expectations.SUITE_VERSION,
        "settings": data.model_dump(mode="json", exclude={"incoming", "git"}),
    }
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def record(outcome: BatchOutcome, key: str, store: ObjectStore) -> None:
    """Keep the outcome where `outcome_of` finds it. Pairs that are in the data set count as accepted."""
    if not outcome.final:
        return
    decided = "refused" if outcome.outcome == "refused" else "accepted"
    kept = outcome.model_copy(update={"outcome": decided})
    store.create(
        f"{FOLDER}/{key}/{decided}.json", kept.model_dump_json(indent=1).encode(), content_type="application/json"
    )
