"""Bootstrap intervals and multiplicity correction; vectorised, with memory bounded by a chunk of resamples."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from restill.measurements import Interval, McNemar

Floats = NDArray[np.float64]

_CHUNK_VALUES = 8_000_000  # counts held at a time: 64 MB


def resampled_means(values: Floats, clusters: NDArray[np.str_], *, resamples: int, seed: int = 0) -> Floats:
    """Return `resamples` means of `values` with whole clusters drawn with replacement.

    A mean takes of a cluster its sum and its size, so clusters that agree in both are one kind, and how often each kind
    is drawn is multinomial: the same distribution as drawing cluster by cluster, for the price of a few kinds.

    Args:
        values: ``[pairs]``.
        clusters: ``[pairs]``, name of the pair's group of connected sentences.
        resamples: bootstrap resamples.
        seed: of the resampling, so that a verdict can be recomputed.
    References: Efron and Tibshirani 1993, chapter 6; Field and Welsh 2007 for the cluster bootstrap.
    """
    _, index = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(index)
    # Rounded: sums of the same values in another order are one kind.
    sums = np.round(np.bincount(index, weights=values), 9)
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    chunk = max(1, _CHUNK_VALUES // len(kinds))
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        drawn = generator.multinomial(len(sizes), counts / len(sizes), size=stop - start)
        totals = drawn @ kinds
        means[start:stop] = totals[:, 0] / totals[:, 1]
    return means


def effective_clusters(clusters: NDArray[np.str_]) -> float:
    """Return how many clusters of one size would say as much (Kish): as many as there are if they are of one size."""
    _, sizes = np.unique(clusters, return_counts=True)
    return float(sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum())


def expanded(confidence: float, clusters: float) -> float:
    """Return the quantile of bootstrap means whose interval end holds at `confidence` also for few clusters.

    Percentiles are too near to each other by √((n-1)/n), and normal where Student's t is due.

    References: Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789, section 5.3, the expanded percentile
        interval.
    """
    degrees = max(clusters - 1, 1.0)
    return float(ndtr(np.sqrt((degrees + 1) / degrees) * stdtrit(degrees, confidence)))


def bootstrap_p_value(means: Floats, bound: float, clusters: float) -> float:
    """Return the one-sided p-value of "the true mean is at most `bound`", with the expansion of `expanded`."""
    share = (np.count_nonzero(means <= bound) + 1) / (len(means) + 1)  # never exactly 0
    degrees = max(clusters - 1, 1.0)
    return float(stdtr(degrees, ndtri(share) / np.sqrt((degrees + 1) / degrees)))


def paired_difference(
    challenger: NDArray[np.bool_],
    champion: NDArray[np.bool_],
    clusters: NDArray[np.str_],
    *,
    confidence: float,
    resamples: int,
    seed: int = 0,
) -> tuple[Interval, Floats]:
    """Return the accuracy difference with its expanded percentile interval, and the resampled differences.

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
    means = resampled_means(gains, clusters, resamples=resamples, seed=seed)
    upper_quantile = expanded(confidence, effective_clusters(clusters))
    lower, upper = np.quantile(means, [1 - upper_quantile, upper_quantile])
    return Interval(estimate=float(gains.mean()), lower=float(lower), upper=float(upper)), means


def mcnemar(challenger: NDArray[np.bool_], champion: NDArray[np.bool_]) -> McNemar:
    """Compare two models on the pairs that one of them alone decides rightly.

    It takes pairs for independent, which those that share a sentence are not: reported, and no gate decides by it.

    Args:
        challenger: ``[pairs]``, whether the challenger decided the pair rightly.
        champion: ``[pairs]``, the same for the champion, on the same pairs.
    References: McNemar 1947, Psychometrika 12; the exact form is the sign test on the pairs that differ.
    """
    from scipy.stats import binomtest  # late: it takes a second to import, and most runs judge nothing

    ours, theirs = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    p_value = float(binomtest(ours, ours + theirs).pvalue) if ours + theirs else 1.0
    return McNemar(challenger_only=ours, champion_only=theirs, p_value=p_value)


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
    chunk = max(1, _CHUNK_VALUES // values)
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
