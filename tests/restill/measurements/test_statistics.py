import numpy as np
import pytest
from scipy.stats import norm
from sklearn.calibration import calibration_curve

from restill.measurements import statistics
from restill.measurements.statistics import (
    block_intervals,
    bootstrap_p_value,
    effective_clusters,
    expanded,
    expected_calibration_error,
    holm,
    mcnemar,
    paired_difference,
    resampled_means,
)


def _clusters(count, size):
    return np.repeat([f"g{number}" for number in range(count)], size)


def test_identical_models_differ_by_exactly_nothing():
    right = np.random.default_rng(0).random(1000) < 0.9
    interval, _ = paired_difference(right, right, _clusters(100, 10), confidence=0.95, resamples=1000)
    assert (interval.lower, interval.estimate, interval.upper) == (0, 0, 0)


def test_interval_of_independent_pairs_has_the_textbook_width():
    """With one pair a cluster, the standard error is sd/√n; a one-sided 95 % end lies 1.645 of it away."""
    generator = np.random.default_rng(1)
    challenger, champion = generator.random(4000) < 0.90, generator.random(4000) < 0.88
    gains = challenger.astype(float) - champion.astype(float)
    interval, _ = paired_difference(
        challenger, champion, np.arange(4000).astype(str), confidence=0.95, resamples=10_000
    )
    expected = gains.std() / np.sqrt(4000) * 1.645
    assert interval.estimate - interval.lower == pytest.approx(expected, rel=0.05)
    assert interval.upper - interval.estimate == pytest.approx(expected, rel=0.05)


def test_pairs_that_err_together_widen_the_interval():
    """Ten copies of each pair carry no more information than one, and the cluster bootstrap knows."""
    generator = np.random.default_rng(2)
    challenger, champion = generator.random(200) < 0.9, generator.random(200) < 0.9
    once, _ = paired_difference(challenger, champion, np.arange(200).astype(str), confidence=0.95, resamples=4000)
    copied, _ = paired_difference(
        np.repeat(challenger, 10), np.repeat(champion, 10), _clusters(200, 10), confidence=0.95, resamples=4000
    )
    assert copied.upper - copied.lower == pytest.approx(once.upper - once.lower, rel=0.05)


def test_drawing_kinds_of_clusters_is_drawing_clusters():
    """The means have the distribution of a bootstrap that draws cluster by cluster, here done the plain way."""
    generator = np.random.default_rng(7)
    clusters = np.repeat(np.arange(60), generator.integers(1, 9, 60)).astype(str)
    values = generator.integers(-1, 2, len(clusters)).astype(float)
    _, index = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index)
    drawn = generator.integers(0, 60, size=(20_000, 60))
    plain = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    means = resampled_means(values, clusters, resamples=20_000)
    assert means.mean() == pytest.approx(plain.mean(), abs=0.002)
    for quantile in (0.01, 0.05, 0.5, 0.95, 0.99):
        assert np.quantile(means, quantile) == pytest.approx(np.quantile(plain, quantile), abs=0.01)


def test_few_clusters_widen_the_interval():
    """With 10 clusters Student's t with 9 degrees has its 95th percentile at 1.833."""
    assert expanded(0.95, 10) == pytest.approx(norm.cdf(np.sqrt(10 / 9) * 1.8331), abs=1e-4)
    assert expanded(0.95, 1e9) == pytest.approx(0.95, abs=1e-6)
    assert effective_clusters(np.array(list("aabbcc"))) == pytest.approx(3)
    assert effective_clusters(np.array(list("aaaab"))) == pytest.approx(25 / 17)


def test_p_values_agree_with_the_interval():
    """Where the lower end is, the p-value is what the confidence leaves."""
    generator = np.random.default_rng(8)
    right, other, clusters = generator.random(300) < 0.8, generator.random(300) < 0.7, _clusters(30, 10)
    interval, means = paired_difference(right, other, clusters, confidence=0.95, resamples=20_000)
    # Not closer: the means have few distinct values.
    assert bootstrap_p_value(means, interval.lower, 30) == pytest.approx(0.05, abs=0.01)


def test_mcnemar_worked_by_hand():
    """One pair for the challenger and five for the champion: 2 · (1 + 6) / 2⁶ of all outcomes are as uneven."""
    challenger = np.array([1, 0, 0, 0, 0, 0, 1, 1], bool)
    champion = np.array([0, 1, 1, 1, 1, 1, 1, 1], bool)
    found = mcnemar(challenger, champion)
    assert (found.challenger_only, found.champion_only) == (1, 5)
    assert found.p_value == pytest.approx(14 / 64)
    assert mcnemar(champion, champion).p_value == 1.0


def test_the_same_seed_gives_the_same_interval():
    right = np.random.default_rng(3).random(500) < 0.8
    other = np.random.default_rng(4).random(500) < 0.8
    draws = [paired_difference(right, other, _clusters(50, 10), confidence=0.9, resamples=2000)[0] for _ in range(2)]
    assert draws[0] == draws[1]


def test_block_intervals_cover_the_quantiles_of_their_blocks():
    blocks = np.random.default_rng(5).gamma(4.0, 0.25, size=(40, 50))
    (median, _), (p99, _) = block_intervals(blocks, [0.5, 0.99], confidence=0.95, resamples=500)
    assert median.lower < np.median(blocks) < median.upper
    assert median.upper - median.lower < 0.1
    assert p99.lower < p99.estimate == np.quantile(blocks, 0.99) < p99.upper


def test_block_intervals_are_the_quantiles_of_each_resample(monkeypatch):
    """Also where some values are equal, and where the resamples are drawn in several chunks."""
    blocks = np.random.default_rng(7).gamma(4.0, 0.25, size=(9, 20)).round(1)
    monkeypatch.setattr(statistics, "_CHUNK_VALUES", 50 * blocks.size)
    quantiles = [0.0, 0.5, 0.9, 0.99, 1.0]
    found = block_intervals(blocks, quantiles, confidence=0.9, resamples=120)
    generator = np.random.default_rng(0)
    drawn = np.concatenate([generator.integers(0, 9, size=(rows, 9)) for rows in (50, 50, 20)])
    for quantile, (_, resampled) in zip(quantiles, found, strict=True):
        assert resampled == pytest.approx(np.quantile(blocks[drawn].reshape(120, -1), quantile, axis=1))


def test_holm_steps_down_from_the_smallest_p_value():
    assert holm([0.04, 0.001, 0.03], level=0.05) == pytest.approx([0.05, 0.05 / 3, 0.025])


def test_calibration_error_agrees_with_scikit_learn_bins():
    generator = np.random.default_rng(6)
    probabilities = generator.random(5000)
    labels = generator.random(5000) < probabilities**2
    observed, stated = calibration_curve(labels, probabilities, n_bins=10)
    weights = np.histogram(probabilities, bins=10, range=(0, 1))[0] / 5000
    expected = float((np.abs(observed - stated) * weights).sum())
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-9)
