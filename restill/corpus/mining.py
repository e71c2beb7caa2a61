"""More pairs from the sentences there are: each with those that are most like it to the teacher.

Random pairs are easy negatives; the pairs on which a student errs lie near each other. They have no label: the
teacher's score teaches them. In-batch pairs need no mining: the `similarity-matrix` loss compares all of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32_768  # sentences among which neighbours are looked for: cost grows with sentences · BLOCK
_AT_ONCE = 512
_SCORED_AT_ONCE = 8192


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
) -> Iterator[Mined]:
    """Pair each sentence with its nearest others; a pair is named once, whichever side found it.

    Beyond `block` sentences neighbours are looked for in random blocks of that size, so that the cost stays linear.
    One block's pairs are in memory at a time; no pair is in two blocks.

    Args:
        stored: the teacher's unit vectors ``[stored, dimension]``, may be mapped from disk.
        rows: ``[sentences of the corpus]``, where in `stored` each is.
        sentences: rows of the corpus to pair.
        neighbours: others to pair each with.
        seed: of the blocks.
    """
    shuffled = np.random.default_rng(seed).permutation(sentences)
    for part in np.array_split(shuffled, max(1, -(-len(shuffled) // block))):
        if len(part) > 1:
            yield _mine_block(stored, rows, np.sort(part), min(neighbours, len(part) - 1))


def _mine_block(
    stored: NDArray[np.float32], rows: NDArray[np.int64], part: NDArray[np.int64], neighbours: int
) -> Mined:
    vectors = np.asarray(stored[rows[part]])
    norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    # Teachers' vectors crowd around their mean; less it, neighbours are alike and not merely typical.
    centred = vectors - vectors.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    firsts, seconds = [], []
    for start in range(0, len(part), _AT_ONCE):
        likeness = centred[start : start + _AT_ONCE] @ centred.T
        own = np.arange(len(likeness))
        likeness[own, own + start] = -np.inf
        nearest = np.argpartition(-likeness, neighbours - 1, axis=1)[:, :neighbours]
        firsts.append(np.repeat(own + start, neighbours))
        seconds.append(nearest.ravel())
    a, b = np.concatenate(firsts), np.concatenate(seconds)
    pairs = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1), axis=0)
    scores = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _SCORED_AT_ONCE):
        left, right = pairs[start : start + _SCORED_AT_ONCE].T
        cosines = np.einsum("nd,nd->n", vectors[left], vectors[right]) / (norms[left] * norms[right])
        scores[start : start + _SCORED_AT_ONCE] = cosines
    return Mined(part[pairs[:, 0]].astype(np.int32), part[pairs[:, 1]].astype(np.int32), scores)
