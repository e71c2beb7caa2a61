"""One shard of teacher scores as Parquet: columns `digest` and `embedding`, the teacher in the metadata.

A cross-encoder's score is stored as an embedding of width 1.
"""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from restill.errors import IntegrityError, TeacherError
from restill.logits import places
from restill.logits.items import DIGEST_BYTES, Digests, shard_name
from restill.storage.objects import ObjectStore

Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tokens:
    """What computing cost: tokens read, and tokens computed, padding included."""

    real: int = 0
    padded: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        """Return both together."""
        return Tokens(self.real + other.real, self.padded + other.padded)

    @property
    def padding_share(self) -> float:
        """Return the share of the computed tokens that were padding, in [0, 1)."""
        return 1 - self.real / self.padded if self.padded else 0.0


NO_TOKENS = Tokens()


@dataclass(frozen=True)
class Shard:
    """Digests ``[n]`` of 16 bytes and embeddings ``[n, dimension]``; the name is that of these items in this order."""

    name: str
    digests: Digests
    embeddings: Embeddings
    tokens: Tokens = NO_TOKENS


def store_shard(
    store: ObjectStore, fingerprint: str, digests: Digests, embeddings: Embeddings, tokens: Tokens = NO_TOKENS
) -> bool:
    """Store the scores of some items, unless they are there: whoever comes second writes nothing.

    Args:
        store: where the shards are.
        fingerprint: of the teacher.
        digests: of distinct items, ``[n]``.
        embeddings: float32 ``[n, dimension]``, a row per item.
        tokens: what computing them cost.

    Returns: whether this call is known to have written them.
    Raises: ValueError on a wrong shape, type or repeated item; TeacherError if a value is not finite;
        StorageUnreachable.
    """
    if embeddings.ndim != 2 or embeddings.dtype != np.float32 or len(embeddings) != len(digests):
        raise ValueError(
            f"One float32 row per item is stored. Received: {len(digests)} items and "
            f"{embeddings.dtype} {embeddings.shape}."
        )
    if len(distinct := np.unique(digests)) != len(digests) or not len(digests):
        raise ValueError(f"A shard holds an item once. Received: {len(digests)}, {len(distinct)} distinct.")
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise TeacherError(
            f"The teacher {fingerprint[:12]} gave {len(bad)} scores that are not finite, the first for the item "
            f"{digests[bad[0]].hex()}; nothing of this shard was stored.",
            hint="The weights may be damaged, or the precision too low for this teacher: use float32.",
        )
    key = places.shard_key(fingerprint, shard_name(digests))
    return store.create(key, write_shard(digests, embeddings, fingerprint, tokens))


def write_shard(digests: Digests, embeddings: Embeddings, fingerprint: str, tokens: Tokens = NO_TOKENS) -> bytes:
    """Return the bytes of a Parquet file: the same rows always give the same bytes."""
    rows, dimension = embeddings.shape
    schema = _schema(dimension).with_metadata(
        {
            "fingerprint": fingerprint,
            "real_tokens": str(tokens.real),
            "padded_tokens": str(tokens.padded),
            "sha256": _checksum(digests, embeddings, fingerprint, tokens),
        }
    )
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST_BYTES), rows, [None, pa.py_buffer(digests.tobytes())]),
        pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), dimension),
    ]
    sink = io.BytesIO()
    # Embeddings and digests are close to random bytes: compression and dictionaries would only cost time.
    pq.write_table(pa.table(columns, schema=schema), sink, compression="none", use_dictionary=False)
    return sink.getvalue()


def read_shard(name: str, key: str, body: bytes, fingerprint: str) -> Shard:
    """Return the rows of a shard, proven to be those that were written for this teacher under this name.

    Raises: IntegrityError naming the key.
    """
    hint = "Delete that object; the next run scores its items again."
    try:
        table = pq.read_table(io.BytesIO(body)).combine_chunks()
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        tokens = Tokens(int(facts.get("real_tokens", 0)), int(facts.get("padded_tokens", 0)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError(f"{key} is not a readable Parquet file: {error}.", hint=hint) from error
    owner = facts.get("fingerprint")
    if owner != fingerprint:
        raise IntegrityError(f"{key} holds scores of teacher {owner or 'unknown'}, not of {fingerprint}.", hint=hint)
    kind = table.schema.field("embedding").type if "embedding" in table.column_names else None
    dimension = kind.list_size if kind is not None and pa.types.is_fixed_size_list(kind) else 0
    if not dimension or not table.num_rows or not table.schema.equals(_schema(dimension), check_metadata=False):
        raise IntegrityError(f"{key} is not a shard of teacher scores: {table.schema}.", hint=hint)
    stored, vectors = (table.column(column).chunk(0) for column in ("digest", "embedding"))
    values = vectors.flatten().to_numpy(zero_copy_only=False)
    if stored.null_count or len(values) != table.num_rows * dimension or np.isnan(values).any():
        raise IntegrityError(f"{key} has rows without a value.", hint=hint)
    digests = np.frombuffer(b"".join(stored.to_pylist()), f"S{DIGEST_BYTES}")
    embeddings = values.reshape(table.num_rows, dimension)
    expected, found = facts.get("sha256"), _checksum(digests, embeddings, fingerprint, tokens)
    if found != expected:
        raise IntegrityError(
            f"The shard of teacher scores {key} is damaged: expected sha256 {expected}, found {found}.", hint=hint
        )
    if (belongs := shard_name(digests)) != name:
        raise IntegrityError(f"{key} holds the items of another shard, {belongs}.", hint=hint)
    return Shard(name, digests, embeddings, tokens)


def _checksum(digests: Digests, embeddings: Embeddings, fingerprint: str, tokens: Tokens) -> str:
    """Return the sha256 (hex) of everything that a shard says."""
    digest = hashlib.sha256(f"{fingerprint} {embeddings.shape} {tokens.real} {tokens.padded}".encode())
    digest.update(digests.tobytes())
    digest.update(np.ascontiguousarray(embeddings, "<f4").tobytes())
    return digest.hexdigest()


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("digest", pa.binary(DIGEST_BYTES)),
            pa.field("embedding", pa.list_(pa.float32(), dimension)),
        ]
    )
