"""Small parts for tests of the logits store: data sets of a few pairs, and a teacher that needs no TensorFlow."""

import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from restill.logits import LogitsStore
from restill.logits.items import Item, digests_of, item_digest
from restill.logits.shards import store_shard
from restill.snapshots import Snapshot
from restill.storage.objects import ObjectStore

SENTENCES = [
    f"{verb} the {thing} {place}"
    for verb, thing, place in itertools.product(
        ("open", "close", "find"), ("door", "window", "bank account"), ("now", "in the kitchen", "")
    )
]
DIMENSION = 8


def rows(count: int, *, start: int = 0, dimension: int = DIMENSION) -> np.ndarray:
    return np.random.default_rng(start).normal(size=(count, dimension)).astype(np.float32)


def add(logits: LogitsStore, items: Sequence[Item], embeddings: np.ndarray) -> bool:
    """Store one shard."""
    return store_shard(logits.objects, logits.fingerprint, digests_of(items), embeddings)


def snapshot_of(folder: Path, pairs: Sequence[tuple[str, str]], *, batches: int = 1) -> Snapshot:
    """Return a data version of these pairs."""
    names = [f"{number:04}" for number in range(batches)]
    for number, name in enumerate(names):
        part = pairs[number::batches]
        file = folder / f"batch={name}" / "part-0.parquet"
        file.parent.mkdir(parents=True)
        texts = {"text_a": [a for a, _ in part], "text_b": [b for _, b in part]}
        pq.write_table(pa.table(texts, schema=pa.schema([("text_a", pa.string()), ("text_b", pa.string())])), file)
    return Snapshot("v" * 32, folder, tuple(names), {"train": len(pairs)})


def numbered(count: int, *, start: int = 0) -> list[tuple[str, str]]:
    """Return pairs of `2 · count` distinct sentences of several lengths."""
    return [
        (f"turn lamp {n} on{' please' * (n % 5)}", f"switch lamp {n} off{' now' * (n % 3)}")
        for n in range(start, start + count)
    ]


def shard_keys(store: ObjectStore, fingerprint: str) -> list[str]:
    return sorted(found.key for found in store.list(f"logits/{fingerprint}/shards/"))


def contents(store: ObjectStore, fingerprint: str) -> dict[str, bytes]:
    """Return every stored shard, by key."""
    return {key: store.get(key) for key in shard_keys(store, fingerprint)}


def quiet(_done: int, _total: int, _what: str) -> None:
    """No progress shown."""


def until(condition: Callable[[], bool], *, seconds: float = 200) -> None:
    """Wait for a condition; fail after so many seconds, which a busy machine may need."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


class StubTeacher:
    """A teacher whose score of an item is read from the item's digest."""

    def __init__(
        self, kind: str = "bi-encoder", fingerprint: str = "f" * 64, before: Callable[[int], None] = lambda _: None
    ) -> None:
        self.kind = kind
        self.fingerprint = fingerprint
        self.real_tokens = 0
        self.padded_tokens = 0
        self.encoded: list[Item] = []
        self.calls = 0
        self._before = before

    def tokenize(self, items: Sequence[Item]) -> Sequence[Item]:
        return items

    def encode_rows(self, items: Sequence[Item]) -> np.ndarray:
        self._before(self.calls)
        self.calls += 1
        self.encoded += items
        self.real_tokens += 3 * len(items)
        self.padded_tokens += 4 * len(items)
        width = 1 if self.kind == "cross-encoder" else DIMENSION
        seeds = [hashlib.sha256(item_digest(item)).digest() for item in items]
        raw = np.frombuffer(b"".join(seeds), "<i4").reshape(len(items), -1)[:, :width]
        return np.ascontiguousarray(raw / 2**31, np.float32)
