"""One shard of teacher scores as Parquet: columns `digest` and `embedding`, the teacher in the metadata."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from restill.errors import IntegrityError

DIGEST_BYTES = 16

Embeddings = npt.NDArray[np.float32]
Digests = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class Shard:
    """Digests `[n]` of 16 bytes and embeddings `[n, dimension]`; the name is the sha256 of the file."""

    name: str
    digests: Digests
    embeddings: Embeddings


def sentence_digest(text: str) -> bytes:
    """Return the first 16 bytes of the sentence's sha256 (UTF-8): its key in the store."""
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


def as_array(digests: Sequence[bytes]) -> Digests:
    """Return digests as one array of 16-byte strings, which sorts as the digests do."""
    joined = b"".join(digests)
    if len(joined) != DIGEST_BYTES * len(digests):
        raise ValueError(
            f"A digest has {DIGEST_BYTES} bytes. Received: {len(digests)} with {len(joined)} bytes in all."
        )
    return np.frombuffer(joined, f"S{DIGEST_BYTES}") if joined else np.empty(0, f"S{DIGEST_BYTES}")


def write_shard(digests: Digests, embeddings: Embeddings, fingerprint: str) -> bytes:
    """Return the bytes of a Parquet file: the same rows always give the same bytes."""
    rows, dimension = embeddings.shape
    schema = _schema(dimension).with_metadata({"fingerprint": fingerprint})
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST_BYTES), rows, [None, pa.py_buffer(digests.tobytes())]),
        pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), dimension),
    ]
    sink = io.BytesIO()
    # Embeddings and digests are close to random bytes: compression and dictionaries would only cost time.
    pq.write_table(pa.table(columns, schema=schema), sink, compression="none", use_dictionary=False)
    return sink.getvalue()


def read_shard(name: str, key: str, body: bytes, fingerprint: str) -> Shard:
    """Return the rows of a shard whose bytes are known to be those that were written.

    Raises: IntegrityError naming the key if it is not a shard of this teacher.
    """
    try:
        table = pq.read_table(io.BytesIO(body)).combine_chunks()
    except pa.ArrowException as error:
        raise IntegrityError(f"{key} is not a readable Parquet file: {error}.", hint="Delete that object.") from error
    owner = (table.schema.metadata or {}).get(b"fingerprint", b"").decode(errors="replace")
    if owner != fingerprint:
        raise IntegrityError(
            f"{key} holds scores of teacher {owner or 'unknown'}, not of {fingerprint}.",
            hint="Delete that object.",
        )
    kind = table.schema.field("embedding").type if "embedding" in table.column_names else None
    dimension = kind.list_size if kind is not None and pa.types.is_fixed_size_list(kind) else 0
    if not dimension or not table.num_rows or not table.schema.equals(_schema(dimension), check_metadata=False):
        raise IntegrityError(f"{key} is not a shard of teacher scores: {table.schema}.", hint="Delete that object.")
    digests, vectors = (table.column(column).chunk(0) for column in ("digest", "embedding"))
    values = vectors.flatten().to_numpy(zero_copy_only=False)
    if digests.null_count or len(values) != table.num_rows * dimension or np.isnan(values).any():
        raise IntegrityError(f"{key} has rows without a value.", hint="Delete that object.")
    joined = b"".join(digests.to_pylist())
    return Shard(name, np.frombuffer(joined, f"S{DIGEST_BYTES}"), values.reshape(table.num_rows, dimension))


def _schema(dimension: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("digest", pa.binary(DIGEST_BYTES)),
            pa.field("embedding", pa.list_(pa.float32(), dimension)),
        ]
    )
