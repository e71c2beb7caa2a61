"""Bootstrap intervals and multiplicity correction; vectorised, with memory bounded by a chunk of resamples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restill.measurements import Interval

Floats = NDArray[np.float64]

_CHUNK_DRAWS = 8_000_000  # random draws held at a time: 64 MB


def _resampled_means(totals: Floats, sizes: Floats, *, resamples: int, seed: int) -> Floats:
    """Return `resamples` means of values whose clusters (sum, size) are drawn with replacement."""
    generator = np.random.default_rng(seed)
    clusters = len(totals)
    means = np.empty(resamples)
    chunk = max(1, _CHUNK_DRAWS // clusters)
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        drawn = generator.integers(0, clusters, size=(stop - start, clusters), dtype=np.int32)
        means[start:stop] = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means


def paired_difference(
    challenger: NDArray[np.bool_],
    champion: NDArray[np.bool_],
    clusters: NDArray[np.str_],
    *,
    confidence: float,
    resamples: int,
    seed: int = 0,
) -> tuple[Interval, Floats]:
    """Return the accuracy difference with its percentile interval, and the resampled differences.

    Pairs that share a sentence err together, so whole clusters are resampled, not pairs.

    Args:
        challenger: ``[pairs]``, whether the challenger decided the pair rightly.
        champion: ``[pairs]``, the same for the champion, on the same pairs.
        clusters: ``[pairs]``, name of the pair's group of connected sentences.
        confidence: one-sided confidence of each end.
        resamples: bootstrap resamples.
        seed: of the resampling, so that a verdict can be recomputed.
    References: Efron and Tibshirani 1993, chapter 13; Field and Welsh 2007 for the cluster bootstrap.
    """
    gains = challenger.astype(np.float64) - champion.astype(np.float64)
    _, index = np.unique(clusters, return_inverse=True)
    totals = np.bincount(index, weights=gains).astype(np.float64)
    sizes: Floats = np.bincount(index).astype(np.float64)
    means = _resampled_means(totals, sizes, resamples=resamples, seed=seed)
    lower, upper = np.quantile(means, [1 - confidence, confidence])
    return Interval(estimate=float(gains.mean()), lower=float(lower), upper=float(upper)), means


def block_intervals(
    blocks: Floats, quantiles: Sequence[float], *, confidence: float, resamples: int, seed: int = 0
) -> list[tuple[Interval, Floats]]:
    """Return quantiles of timings, each with its interval and resampled values, resampling whole blocks.

    Neighbouring requests see the same disturbance, so single requests are not independent draws. All values are
    sorted once; a resample is how often each block was drawn, and its quantile is where the running count of draws
    reaches the wanted rank. That is the same number as `np.quantile` of the drawn values, without sorting them.

    Args:
        blocks: ``[blocks, requests]``, timings in the order they were taken.
        quantiles: each in [0, 1].
        confidence: one-sided confidence of each end.
        resamples: bootstrap resamples.
        seed: of the resampling; the same seed draws the same blocks, which pairs two arms of one run.
    References: Efron and Tibshirani 1993, chapter 13.
    """
    generator = np.random.default_rng(seed)
    count, values = len(blocks), blocks.size
    order = np.argsort(blocks, axis=None, kind="stable")
    ordered, block_of = blocks.ravel()[order], order // blocks.shape[1]
    ranks = [divmod(quantile * (values - 1), 1) for quantile in quantiles]  # whole rank, and the share of the next one
    found = np.empty((len(quantiles), resamples))
    chunk = max(1, _CHUNK_DRAWS // values)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(0, count, size=(rows, count)) + count * np.arange(rows)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.int32)
        reached = np.cumsum(times[:, block_of], axis=1, dtype=np.int32)  # values of the resample up to each
        for number, (rank, share) in enumerate(ranks):
            lower, upper = (
                ordered[np.argmax(reached > wanted, axis=1)] for wanted in (rank, min(rank + 1, values - 1))
            )
            found[number, start : start + rows] = lower + share * (upper - lower)
    intervals = []
    for quantile, resampled in zip(quantiles, found, strict=True):
        ends = np.quantile(resampled, [1 - confidence, confidence])
        estimate = float(np.quantile(blocks, quantile))
        intervals.append((Interval(estimate=estimate, lower=float(ends[0]), upper=float(ends[1])), resampled))
    return intervals


def holm(p_values: list[float], *, level: float) -> list[float]:
    """Return, for each test, the level it is judged at under Holm's step-down procedure.

    The smallest p-value is held against level/m, the next against level/(m-1), and so on.

    References: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    order = np.argsort(p_values, kind="stable")
    levels = [0.0] * len(p_values)
    for rank, position in enumerate(order):
        levels[int(position)] = level / (len(p_values) - rank)
    return levels


def expected_calibration_error(probabilities: Floats, labels: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Return the mean gap between stated probability and observed share, over equal-width bins, weighted by size.

    References: Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, https://arxiv.org/abs/1706.04599
    """
    index = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    stated = np.bincount(index, weights=probabilities, minlength=bins)
    observed = np.bincount(index, weights=labels.astype(np.float64), minlength=bins)
    return float(np.abs(stated - observed).sum() / counts.sum())
