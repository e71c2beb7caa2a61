"""More pairs from the sentences there are: each with those that are most like it to the teacher.

Random pairs are easy negatives; the pairs on which a student errs lie near each other. They have no label: the
teacher's score teaches them. In-batch pairs need no mining: the `similarity-matrix` loss compares all of a batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32_768  # sentences among which neighbours are looked for: cost grows with sentences · BLOCK
_AT_ONCE = 512


@dataclass(frozen=True)
class Mined:
    """Pairs of sentence rows ``[pairs]`` with the teacher's cosine."""

    a: NDArray[np.int32]
    b: NDArray[np.int32]
    scores: NDArray[np.float32]


def mine(
    stored: NDArray[np.float32],
    rows: NDArray[np.int64],
    sentences: NDArray[np.int64],
    *,
    neighbours: int,
    seed: int,
    block: int = BLOCK,
) -> Mined:
    """Return each sentence with its nearest others, a pair named once whichever side found it.

    Beyond `block` sentences neighbours are looked for in random blocks of that size, so that the cost stays linear.

    Args:
        stored: the teacher's unit vectors ``[stored, dimension]``, may be mapped from disk.
        rows: ``[sentences of the corpus]``, where in `stored` each is.
        sentences: rows of the corpus to pair.
        neighbours: others to pair each with.
        seed: of the blocks.
    """
    shuffled = np.random.default_rng(seed).permutation(sentences)
    firsts, seconds, scores = [], [], []
    for part in np.array_split(shuffled, max(1, -(-len(shuffled) // block))):
        part = np.sort(part)
        vectors = np.asarray(stored[rows[part]])
        # Teachers' vectors crowd around their mean; less it, neighbours are alike and not merely typical.
        vectors = vectors - vectors.mean(axis=0)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        count = min(neighbours, len(part) - 1)
        if count < 1:
            continue
        for start in range(0, len(part), _AT_ONCE):
            likeness = vectors[start : start + _AT_ONCE] @ vectors.T
            own = np.arange(len(likeness))
            likeness[own, own + start] = -np.inf
            nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
            firsts.append(np.repeat(part[own + start], count))
            seconds.append(part[nearest].ravel())
    if not firsts:
        empty = np.empty(0, np.int32)
        return Mined(empty, empty, np.empty(0, np.float32))
    a, b = np.concatenate(firsts), np.concatenate(seconds)
    pairs = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1), axis=0)
    for start in range(0, len(pairs), 8192):
        part = pairs[start : start + 8192]
        left, right = (np.asarray(stored[rows[part[:, side]]]) for side in (0, 1))
        norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        scores.append(np.einsum("nd,nd->n", left, right) / np.maximum(norms, 1e-12))
    return Mined(pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32), np.concatenate(scores).astype(np.float32))
