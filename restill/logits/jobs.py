"""What is to be scored, as objects that a worker without the data set can read: a plan, and the texts of each shard."""

import hashlib
import io
from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from restill.errors import ConfigurationError, IntegrityError
from restill.logits import places
from restill.logits.items import Item, digests_of, shard_name
from restill.settings.teaching import TeacherKind
from restill.storage.objects import ObjectNotFound, ObjectStore

COLUMNS: dict[TeacherKind, tuple[str, ...]] = {"bi-encoder": ("text",), "cross-encoder": ("text_a", "text_b")}


class ScoringPlan(BaseModel):
    """The shards that one run wants of one teacher: names and numbers of items, in one order, short items first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    kind: TeacherKind
    shards: tuple[str, ...] = Field(min_length=1)
    items: tuple[int, ...]
    created_at: datetime  # UTC

    @property
    def key(self) -> str:
        """Return where the plan is stored: the same shards are the same plan."""
        digest = hashlib.sha256("\n".join(self.shards).encode()).hexdigest()[:32]
        return places.plan_key(self.fingerprint, digest)

    @property
    def total(self) -> int:
        """Return the number of items."""
        return sum(self.items)


def store_plan(
    store: ObjectStore, fingerprint: str, kind: TeacherKind, shards: Sequence[tuple[str, int]]
) -> ScoringPlan:
    """Store the plan of these shards, whose texts are stored already; the same plan again is fine.

    Raises: IntegrityError if it was there and is damaged; StorageUnreachable.
    """
    plan = ScoringPlan(
        fingerprint=fingerprint,
        kind=kind,
        shards=tuple(name for name, _ in shards),
        items=tuple(count for _, count in shards),
        created_at=datetime.now(UTC),
    )
    if not _create_or_touch(store, plan.key, plan.model_dump_json().encode(), "application/json"):
        read_plan(store, plan.key)
    return plan


def read_plan(store: ObjectStore, key: str) -> ScoringPlan | None:
    """Return a stored plan; None if there is none: its run has ended, or it is in another store.

    Raises: ConfigurationError if the key is none of a plan; IntegrityError if it is damaged; StorageUnreachable.
    """
    if not places.is_plan(key):
        raise ConfigurationError(
            f"{key!r} names no scoring plan.", hint="Plans are named by `score`, which starts its workers itself."
        )
    try:
        plan = ScoringPlan.model_validate_json(store.get(key))
        if plan.key != key or len(plan.items) != len(plan.shards):
            raise ValueError("its shards are not those that it is named for")
    except ObjectNotFound:
        return None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
        raise _damaged(key, faults) from error
    except ValueError as error:
        raise _damaged(key, str(error)) from error
    return plan


def store_work(store: ObjectStore, fingerprint: str, kind: TeacherKind, shard: str, texts: pa.Table) -> None:
    """Store the texts of a shard, unless they are there.

    Args:
        texts: the columns of `COLUMNS`, in the order of the shard's name.
    """
    sink = io.BytesIO()
    pq.write_table(texts.select(COLUMNS[kind]).cast(_schema(kind)), sink, compression="zstd")
    _create_or_touch(store, places.work_key(fingerprint, shard), sink.getvalue(), "application/vnd.apache.parquet")


def read_work(store: ObjectStore, fingerprint: str, kind: TeacherKind, shard: str) -> list[Item] | None:
    """Return the items of a shard in their order, proven by its name; None if they are not there.

    Raises: IntegrityError naming the key of a damaged object; StorageUnreachable.
    """
    key = places.work_key(fingerprint, shard)
    try:
        body = store.get(key)
    except ObjectNotFound:
        return None
    try:
        table = pq.read_table(io.BytesIO(body))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(key, str(error)) from error
    if not table.schema.equals(_schema(kind)) or any(column.null_count for column in table.columns):
        raise _damaged(key, f"it has the columns {', '.join(table.column_names) or 'of nothing'}")
    columns = [column.to_pylist() for column in table.columns]
    items: list[Item] = columns[0] if kind == "bi-encoder" else list(zip(*columns, strict=True))
    if (found := shard_name(digests_of(items))) != shard:
        raise _damaged(key, f"it holds the items of shard {found}")
    return items


def _create_or_touch(store: ObjectStore, key: str, body: bytes, content_type: str) -> bool:
    """Store an object, or make one that an earlier run left as young as a new one; return whether it is new.

    Old ones are swept (`cleaning`), and whoever goes on with an old plan needs its texts.
    """
    while not (new := store.create(key, body, content_type=content_type)) and not store.touch(key):
        pass  # swept between the two
    return new


def _schema(kind: TeacherKind) -> pa.Schema:
    return pa.schema([pa.field(name, pa.string()) for name in COLUMNS[kind]])


def _damaged(key: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{key} is damaged: {why}.", hint="Delete that object and run again: it is then written anew."
    )
