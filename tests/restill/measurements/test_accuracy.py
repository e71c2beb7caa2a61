import numpy as np
import pytest

from restill.measurements.accuracy import Predictions, best_threshold, compare, measure
from restill.measurements.rows import Rows


def _predictions(probabilities, threshold=0.5):
    values = np.array(probabilities, float)
    return Predictions(values, values, threshold)


def _rows(labels, clusters=None, slices=None, unlabelled=None):
    grades = np.array(labels, float)
    names = [str(number) for number in range(len(grades))]
    groups = np.array(names) if clusters is None else clusters
    return Rows(names, ["a"] * len(grades), ["b"] * len(grades), grades, groups, slices or {}, unlabelled or {})


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
    found = measure(_predictions([0.9, 0.8, 0.3, 0.1]), _rows([1, 0, 1, 0]))
    assert (found.accuracy, found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5, 0.5)
    assert found.roc_auc == pytest.approx(0.75)  # of the four (same, different) combinations three are in order


def test_what_one_class_cannot_measure_is_none():
    found = measure(_predictions([0.9, 0.2]), _rows([1, 1]))
    assert found.accuracy == 0.5
    assert (found.roc_auc, found.f1, found.average_precision) == (None, None, None)
    assert found.not_measurable["roc_auc"] == "there is not a pair with label 0"


def test_spearman_is_of_graded_labels_or_else_of_the_teacher():
    graded = _rows([0.1, 0.4, 0.6, 0.9])
    assert measure(_predictions([0.2, 0.3, 0.4, 0.5]), graded).spearman == pytest.approx(1.0)
    binary, teacher = _rows([0, 1, 0, 1]), np.array([0.9, 0.5, 0.3, 0.1])
    assert measure(_predictions([0.2, 0.3, 0.4, 0.5]), binary, reference=teacher).spearman == pytest.approx(-1.0)
    alone = measure(_predictions([0.2, 0.3, 0.4, 0.5]), binary)
    assert alone.spearman is None
    assert "not graded" in alone.not_measurable["spearman"]


def test_calibrated_probabilities_that_are_level_do_not_change_the_ranks():
    """Isotonic calibration gives several cosines one probability; the model still ranks them."""
    cosines = np.array([0.1, 0.2, 0.3, 0.4])
    found = measure(Predictions(cosines, np.full(4, 0.5), 0.5), _rows([0, 0, 1, 1]))
    assert found.roc_auc == 1.0


def test_small_slices_are_reported_and_not_judged():
    labels = np.array([True, False] * 300)
    slices = {"language=en": np.arange(600) < 590, "language=zh": np.arange(600) >= 590, "batch=new": labels & False}
    rows = _rows(labels, slices=slices, unlabelled={"batch=new": 40})
    perfect, inverted = _predictions(labels.astype(float)), _predictions(1.0 - labels)
    found = compare(
        perfect, inverted, rows, confidence=0.95, resamples=1000, margin=0.02, min_pairs=100, min_clusters=20
    )
    assert found.difference.estimate == 1.0
    assert (found.mcnemar.challenger_only, found.mcnemar.champion_only) == (600, 0)
    by_name = {part.name: part for part in found.slices}
    assert by_name["language=en"].difference is not None
    assert by_name["language=en"].p_value == pytest.approx(1 / 1001, rel=0.1)
    assert (by_name["language=en"].challenger, by_name["language=en"].champion) == (1.0, 0.0)
    assert by_name["language=zh"].difference is None
    assert by_name["language=zh"].not_judged == "fewer than 100 pairs"
    assert by_name["batch=new"].not_judged == "not measurable: none of its 40 pairs has a label"


def test_a_handful_of_groups_gives_no_interval():
    """With one group every resample is the same, and the interval would be a point."""
    labels = np.array([True, False] * 300)
    rows = _rows(labels, np.array(["g1", "g2", "g3"] * 200), {"language=en": labels})
    model = _predictions(labels.astype(float))
    found = compare(model, model, rows, confidence=0.95, resamples=1000, margin=0.02, min_pairs=100, min_clusters=20)
    (part,) = found.slices
    assert found.difference is None
    assert found.error is None
    assert (part.clusters, part.difference) == (3, None)
    assert part.not_judged == "fewer than 20 groups of sentences"
