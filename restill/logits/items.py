"""What a teacher scores: a sentence, or an ordered pair of them; known in the store by 16 bytes of its digest."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 16

Item = str | tuple[str, str]  # a bi-encoder's, or a cross-encoder's
Digests = npt.NDArray[np.bytes_]


def sentence_digest(text: str) -> bytes:
    """Return the first 16 bytes of the sentence's sha256 (UTF-8): its key in the store."""
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


def pair_digest(text_a: str, text_b: str) -> bytes:
    """Return the first 16 bytes of the sha256 over both sentences' sha256 in hex: an ordered pair's key."""
    both = hashlib.sha256(text_a.encode()).hexdigest() + hashlib.sha256(text_b.encode()).hexdigest()
    return hashlib.sha256(both.encode()).digest()[:DIGEST_BYTES]


def item_digest(item: Item) -> bytes:
    """Return the digest of a sentence or of a pair."""
    return sentence_digest(item) if isinstance(item, str) else pair_digest(*item)


def as_array(digests: Sequence[bytes]) -> Digests:
    """Return digests as one array of 16-byte strings, which sorts as the digests do."""
    joined = b"".join(digests)
    if len(joined) != DIGEST_BYTES * len(digests):
        raise ValueError(
            f"A digest has {DIGEST_BYTES} bytes. Received: {len(digests)} with {len(joined)} bytes in all."
        )
    return np.frombuffer(joined, f"S{DIGEST_BYTES}") if joined else np.empty(0, f"S{DIGEST_BYTES}")


def digests_of(items: Sequence[Item]) -> Digests:
    """Return the items' digests, in their order."""
    return as_array([item_digest(item) for item in items])


def shard_name(digests: Digests) -> str:
    """Return the name of the shard of these items in this order: 32 hex digits."""
    return hashlib.sha256(digests.tobytes()).hexdigest()[:32]
