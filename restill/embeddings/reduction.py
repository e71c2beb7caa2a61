"""From vectors of some tokens, as wide as their source has them, to the rows an embedding layer starts from."""

import numpy as np
from numpy.typing import NDArray

from restill.vocabulary import PAD_ID, UNKNOWN_ID

_AT_ONCE = 8192
_NOISE = 0.1  # spread of the columns the source has no numbers for, as a share of the others' mean spread
_FLAT = 1e-10  # variance of a direction, as a share of the largest, up to which it is rounding


def reduce_width(vectors: NDArray[np.float32], size: int, *, seed: int) -> NDArray[np.float32]:
    """Return the vectors' first principal components, ``[rows, size]``.

    They are centred and turned even if `size` is their own width: model2vec measured that this helps by itself. Where
    they have fewer directions than `size` (a narrow source, or few rows) the columns left get small random values, so
    that training can use them. A component's largest weight is positive: its sign is then no accident of LAPACK's.

    Args:
        vectors: ``[rows, width]``.
        size: width wanted.
        seed: of the random columns.
    References: https://github.com/MinishLab/model2vec/blob/main/results/README.md, ablations
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _AT_ONCE):  # in parts: float64 copies of all rows need not fit
        part = vectors[start : start + _AT_ONCE] - mean
        covariance += part.T @ part
    variances, directions = np.linalg.eigh(covariance)  # ascending
    kept = min(size, int((variances > _FLAT * max(variances[-1], 0.0)).sum()) if variances[-1] > 0 else 0)
    components = directions[:, ::-1][:, :kept]
    largest = components[np.abs(components).argmax(axis=0), np.arange(kept)]
    components = components * np.where(largest < 0, -1.0, 1.0)
    reduced = np.empty((len(vectors), size), np.float32)
    for start in range(0, len(vectors), _AT_ONCE):
        reduced[start : start + _AT_ONCE, :kept] = (vectors[start : start + _AT_ONCE] - mean) @ components
    spread = float(reduced[:, :kept].std(axis=0).mean()) if kept else 1.0
    noise = np.random.default_rng([seed, 0]).normal(scale=_NOISE * spread, size=(len(vectors), size - kept))
    reduced[:, kept:] = noise
    return reduced


def fill(
    rows: NDArray[np.float32], tokens: NDArray[np.int64], vocabulary_size: int, *, seed: int
) -> NDArray[np.float32]:
    """Return a whole table, float32 ``[vocabulary, size]``: rows of mean length 1, padding zero, unknown the mean.

    A token without a row gets random values with the spread of the others' (Kim 2014, §3.1: unknown words
    initialised with the variance of the pretrained ones).

    Args:
        rows: ``[tokens, size]``.
        tokens: the id of each row.
        vocabulary_size: rows of the table.
        seed: of the random rows.
    References: https://arxiv.org/abs/1408.5882
    """
    lengths = np.linalg.norm(rows, axis=1)
    scaled = (rows / max(float(lengths.mean()), 1e-12)).astype(np.float32)
    spread = float(np.sqrt(np.square(scaled).mean()))
    random = np.random.default_rng([seed, 1])
    table: NDArray[np.float32] = random.normal(scale=spread, size=(vocabulary_size, rows.shape[1])).astype(np.float32)
    table[tokens] = scaled
    table[PAD_ID] = 0.0
    table[UNKNOWN_ID] = scaled.mean(axis=0)
    return table
