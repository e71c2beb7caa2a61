import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restill.errors import TrainingFailed
from restill.logits import PlattCalibration, fit_platt


def test_platt_finds_the_curve_that_made_the_labels():
    random = np.random.default_rng(3)
    cosines = random.uniform(0.7, 1.0, 20_000)
    labels = random.random(20_000) < 1 / (1 + np.exp(-30 * (cosines - 0.85)))
    found = fit_platt(cosines.astype(np.float32), labels.astype(np.int8))
    assert found.scale == pytest.approx(30, rel=0.1)
    assert found.bias == pytest.approx(0.85, abs=0.005)


def test_platt_logits_are_scaled_distances_to_the_bias():
    found = PlattCalibration(scale=10, bias=0.5).logits(np.array([0.5, 0.7, 0.4], np.float32))
    np.testing.assert_allclose(found, [0, 2, -1], atol=1e-5)
    assert found.dtype == np.float32


def test_platt_reaches_the_targets_it_was_given():
    """Two cosines, four pairs each, one class each: the curve passes through Platt's targets 5/6 and 1/6."""
    found = fit_platt(np.repeat([0.9, 0.5], 4), np.repeat([1, 0], 4))
    logits = found.logits(np.array([0.9, 0.5], np.float32))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), [5 / 6, 1 / 6], atol=1e-3)


@pytest.mark.parametrize(("label", "target"), [(1, 11 / 12), (0, 1 / 12)])
def test_platt_of_one_class_keeps_a_rising_curve_with_the_right_mean(label, target):
    cosines = np.linspace(0.2, 0.9, 10)
    found = fit_platt(cosines, np.full(10, label))
    assert found.scale == pytest.approx(1)
    assert np.mean(1 / (1 + np.exp(-found.logits(cosines)))) == pytest.approx(target, abs=1e-3)


@given(st.lists(st.tuples(st.floats(-1, 1, width=32), st.sampled_from([0.0, 0.25, 1.0])), min_size=1, max_size=40))
def test_platt_always_rises_and_is_finite(pairs):
    cosines, labels = np.array(pairs, np.float32).T
    found = fit_platt(cosines, labels)
    assert found.scale >= 1 - 1e-6
    assert np.isfinite(found.logits(cosines)).all()


def test_platt_refuses_what_it_cannot_fit():
    with pytest.raises(TrainingFailed, match="no labelled training pair"):
        fit_platt(np.array([]), np.array([]))
    for cosines, labels in [
        ([0.5, np.nan], [0, 1]),
        ([0.5, 0.5], [0, np.nan]),
        ([0.5], [2]),
        ([0.5], [0, 1]),
    ]:
        with pytest.raises(ValueError, match=r"Received|must be"):
            fit_platt(np.array(cosines), np.array(labels))
