import numpy as np
import pytest

from restill.measurements.accuracy import Predictions, Rows, best_threshold, compare, measure


def _predictions(probabilities, threshold=0.5):
    values = np.array(probabilities, float)
    return Predictions(values, values, threshold)


def test_threshold_separates_what_can_be_separated():
    labels = np.array([False, False, True, True])
    assert best_threshold(np.array([0.1, 0.2, 0.8, 0.9]), labels) == pytest.approx(0.5)


def test_threshold_is_the_best_of_all_by_brute_force():
    generator = np.random.default_rng(0)
    for _ in range(20):
        labels = generator.random(60) < 0.4
        probabilities = np.round(np.clip(labels * 0.3 + generator.random(60) * 0.7, 0, 1), 1)  # rounded: ties
        found = ((probabilities >= best_threshold(probabilities, labels)) == labels).mean()
        every = max(((probabilities >= cut) == labels).mean() for cut in np.linspace(-0.01, 1.01, 205))
        assert found == pytest.approx(every)


def test_threshold_of_one_class_is_the_even_chance():
    assert best_threshold(np.array([0.2, 0.9]), np.array([True, True])) == 0.5


def test_measures_worked_by_hand():
    """Four pairs: decisions 1 1 0 0 against labels 1 0 1 0 are half right, half precise, half complete."""
    found = measure(_predictions([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False]))
    assert (found.accuracy, found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5, 0.5)
    assert found.roc_auc == pytest.approx(0.75)  # of the four (same, different) combinations three are in order


def test_what_one_class_cannot_measure_is_none():
    found = measure(_predictions([0.9, 0.2]), np.array([True, True]))
    assert found.accuracy == 0.5
    assert (found.roc_auc, found.f1, found.average_precision) == (None, None, None)


def test_small_slices_are_reported_and_not_judged():
    labels = np.array([True, False] * 300)
    rows = Rows(
        text_a=["a"] * 600,
        text_b=["b"] * 600,
        labels=labels,
        clusters=np.arange(600).astype(str),
        slices={"language=en": np.arange(600) < 590, "language=zh": np.arange(600) >= 590},
    )
    perfect, inverted = _predictions(labels.astype(float)), _predictions(1.0 - labels)
    overall, slices = compare(
        perfect, inverted, rows, confidence=0.95, resamples=1000, margin=0.02, min_pairs=100, min_clusters=20
    )
    assert overall.estimate == 1.0
    by_name = {part.name: part for part in slices}
    assert by_name["language=en"].difference is not None
    assert by_name["language=en"].p_value == pytest.approx(1 / 1001)
    assert by_name["language=zh"].difference is None


def test_a_handful_of_groups_gives_no_interval():
    """With one group every resample is the same, and the interval would be a point."""
    labels = np.array([True, False] * 300)
    rows = Rows(["a"] * 600, ["b"] * 600, labels, np.array(["g1", "g2", "g3"] * 200), {"language=en": labels})
    model = _predictions(labels.astype(float))
    overall, (part,) = compare(
        model, model, rows, confidence=0.95, resamples=1000, margin=0.02, min_pairs=100, min_clusters=20
    )
    assert overall is None
    assert (part.clusters, part.difference) == (3, None)
