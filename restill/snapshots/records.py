"""Version records: what each published version of the data set is made of, immutable, beside it in the object store.

`data/versions/<version>.json` is written when every object of the version has been found in the remote, and before
data.dvc names it. So a version with a record can be had again, whatever data.dvc or git have gone on to name.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restill.errors import IntegrityError, VersionNotFound
from restill.snapshots.contents import FileRecord, version_of
from restill.storage.objects import ObjectNotFound, ObjectStore

FOLDER = "data/versions"
REQUESTS_AT_ONCE = 8
SHOWN_CANDIDATES = 5


class BatchRecord(BaseModel):
    """One batch of a version, as its batch.json says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    batch: str
    rows: int = 0
    splits: dict[str, int] = Field(default_factory=dict)
    labels: dict[str, int] = Field(default_factory=dict)
    quarantined: dict[str, int] = Field(default_factory=dict)
    parquet_sha256: str | None = None
    source_sha256: str | None = None
    row_rules_version: int | None = None
    suite_version: int | None = None
    test_sha256: str = ""  # of the pairs of its test split; empty: it has none
    replaces: tuple[str, ...] = ()  # batches that this one is the rest of, after pairs were forgotten


class VersionRecord(BaseModel):
    """One published version of the data set."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a later Restill may write more

    version: str = Field(pattern=r"^[0-9a-f]{32}$")
    parent: str | None  # what data.dvc named before; None: nothing, or not known
    at: datetime  # UTC
    reason: str
    batches: tuple[BatchRecord, ...]  # by id
    files: tuple[FileRecord, ...]  # by path
    size: int  # of the output in data.dvc: bytes
    nfiles: int

    @property
    def short(self) -> str:
        """Return the version as people are shown it."""
        return self.version[:12]

    @property
    def rows(self) -> int:
        """Return the number of pairs."""
        return sum(batch.rows for batch in self.batches)

    @property
    def test_version(self) -> str:
        """Return what names the test split, the same as long as that is; empty: there is none."""
        return test_version(batch.test_sha256 for batch in self.batches)

    @property
    def objects(self) -> frozenset[str]:
        """Return the names of the files' objects in the DVC remote."""
        return frozenset(file.md5 for file in self.files)


@dataclass(frozen=True)
class Counts:
    """Pairs of some batches."""

    batches: int
    rows: int
    splits: dict[str, int]
    labels: dict[str, int]

    @classmethod
    def of(cls, batches: Iterable[BatchRecord]) -> "Counts":
        """Add up batches."""
        found = list(batches)
        splits: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        for batch in found:
            splits.update(batch.splits)
            labels.update(batch.labels)
        return cls(len(found), sum(batch.rows for batch in found), dict(splits), dict(labels))

    def __sub__(self, other: "Counts") -> "Counts":
        """Return how much more these are."""

        def less(mine: dict[str, int], theirs: dict[str, int]) -> dict[str, int]:
            return {name: mine.get(name, 0) - theirs.get(name, 0) for name in dict.fromkeys([*mine, *theirs])}

        return Counts(
            self.batches - other.batches,
            self.rows - other.rows,
            less(self.splits, other.splits),
            less(self.labels, other.labels),
        )


@dataclass(frozen=True)
class VersionDiff:
    """What tells two versions apart."""

    a: VersionRecord
    b: VersionRecord
    only_a: tuple[BatchRecord, ...]
    only_b: tuple[BatchRecord, ...]
    both: tuple[BatchRecord, ...]  # as b has them
    rewritten: tuple[str, ...]  # ids of batches in both whose files differ
    difference: Counts  # b less a


@dataclass(frozen=True)
class LogEntry:
    """One line of the log."""

    record: VersionRecord
    named: bool  # by data.dvc, now
    in_chain: bool  # the named version or one that it was made from


def test_version(digests: Iterable[str]) -> str:
    """Return the name of a test split, 12 hex digits, by its batches' digests; empty if no batch has test pairs."""
    having = sorted(digest for digest in digests if digest)
    return hashlib.sha256("".join(having).encode()).hexdigest()[:12] if having else ""


def key(version: str) -> str:
    """Return where a version's record is in the object store."""
    return f"{FOLDER}/{version}.json"


def write(store: ObjectStore, record: VersionRecord) -> None:
    """Store a record unless the version has one: the first stands, from wherever the version arises again.

    Raises: StorageUnreachable.
    """
    store.create(key(record.version), record.model_dump_json(indent=1).encode(), content_type="application/json")


def read(store: ObjectStore, version: str) -> VersionRecord | None:
    """Return the record of exactly this version; None if it has none.

    Raises: IntegrityError if the record does not describe that version; StorageUnreachable.
    """
    try:
        document = store.get(key(version))
    except ObjectNotFound:
        return None
    try:
        record = VersionRecord.model_validate_json(document)
    except ValidationError as error:
        raise IntegrityError(
            f"{store.uri(key(version))} is not a version record: {error.errors()[0]['msg']}.",
            hint="It was damaged or replaced. Restore it; the next publication of that version writes it only if it "
            "is missing.",
        ) from error
    found = version_of(record.files)
    if record.version != version or found != version:
        raise IntegrityError(
            f"{store.uri(key(version))} describes {record.version} by files that are version {found}.",
            hint="It was damaged or replaced. Restore it.",
        )
    return record


def digest(store: ObjectStore, version: str) -> str | None:
    """Return the SHA-256 of a version's record as it is stored; None if it has none.

    Raises: StorageUnreachable.
    """
    try:
        return hashlib.sha256(store.get(key(version))).hexdigest()
    except ObjectNotFound:
        return None


def versions(store: ObjectStore) -> list[VersionRecord]:
    """Return the record of every version, oldest first.

    Raises: IntegrityError; StorageUnreachable.
    """
    names = _names(store, "")
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        found = [record for record in pool.map(lambda name: read(store, name), names) if record is not None]
    return sorted(found, key=lambda record: (record.at, record.version))


def find_version(store: ObjectStore, prefix: str) -> VersionRecord:
    """Return the record of a version, by its id or the beginning of it.

    Raises: VersionNotFound if none or several fit; IntegrityError; StorageUnreachable.
    """
    beginning = prefix.strip().lower().removesuffix(".dir")
    fitting = _names(store, beginning) if re.fullmatch(r"[0-9a-f]{1,32}", beginning) else []
    record = read(store, fitting[0]) if len(fitting) == 1 else None
    if record is not None:
        return record
    if len(fitting) > 1:
        shown = ", ".join(name[:12] for name in fitting[:SHOWN_CANDIDATES])
        more = f" and {len(fitting) - SHOWN_CANDIDATES} more" if len(fitting) > SHOWN_CANDIDATES else ""
        raise VersionNotFound(
            f"{prefix!r} is the beginning of {len(fitting)} data versions: {shown}{more}.", hint="Give more digits."
        )
    raise VersionNotFound(
        f"No data version {prefix!r} has a record in {store.uri(FOLDER)}.",
        hint="All of them: restill data log. For one that an older Restill published, bring its data.dvc back with git "
        "and run restill retrain: it is recorded then.",
    )


def log(store: ObjectStore, named: str | None) -> list[LogEntry]:
    """Return the named version and what it was made from, newest first, then all others, newest first.

    Raises: IntegrityError; StorageUnreachable.
    """
    records = {record.version: record for record in versions(store)}
    chain: list[VersionRecord] = []
    step = named
    # A version recorded late can name a later one as its parent, so a chain could close.
    while step is not None and step in records:
        chain.append(records.pop(step))
        step = chain[-1].parent
    return [LogEntry(record, record.version == named, True) for record in chain] + [
        LogEntry(record, False, False) for record in reversed(records.values())
    ]


def diff(store: ObjectStore, a: str, b: str) -> VersionDiff:
    """Compare two versions, each named by its id or the beginning of it.

    Raises: as `find_version`.
    """
    first, second = find_version(store, a), find_version(store, b)
    ours = {batch.batch: batch for batch in first.batches}
    theirs = {batch.batch: batch for batch in second.batches}
    common = [name for name in theirs if name in ours]
    before, after = _folders(first), _folders(second)
    return VersionDiff(
        a=first,
        b=second,
        only_a=tuple(batch for name, batch in ours.items() if name not in theirs),
        only_b=tuple(batch for name, batch in theirs.items() if name not in ours),
        both=tuple(theirs[name] for name in common),
        rewritten=tuple(name for name in common if before.get(name) != after.get(name)),
        difference=Counts.of(second.batches) - Counts.of(first.batches),
    )


def _folders(record: VersionRecord) -> dict[str, set[tuple[str, str]]]:
    """Return path and digest of each batch's files."""
    found: dict[str, set[tuple[str, str]]] = {}
    for file in record.files:
        batch = PurePosixPath(file.path).parent.name.removeprefix("batch=")
        found.setdefault(batch, set()).add((file.path, file.sha256))
    return found


def _names(store: ObjectStore, beginning: str) -> list[str]:
    keys = [info.key for info in store.list(f"{FOLDER}/{beginning}")]
    return [found.removeprefix(f"{FOLDER}/").removesuffix(".json") for found in keys if found.endswith(".json")]
