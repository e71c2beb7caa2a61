import numpy as np
import pytest
from pydantic import ValidationError

from restill import calibration
from restill.manifests import Calibration
from restill.measurements.statistics import expected_calibration_error

RANDOM = np.random.default_rng(0)


def _apart(pairs):
    """Sentences of pairs that have none in common."""
    return np.arange(2 * pairs).reshape(pairs, 2)


def _data(probability, pairs=4000):
    cosines = RANDOM.random(pairs)
    return cosines, (RANDOM.random(pairs) < probability(cosines)).astype(float)


def test_platt_is_kept_where_the_truth_is_a_sigmoid():
    cosines, labels = _data(lambda c: 1 / (1 + np.exp(-12 * (c - 0.6))))
    found = calibration.fit(cosines, labels, _apart(len(cosines)))
    assert found.method == "platt"
    assert found.calibration.scale == pytest.approx(12, rel=0.1)
    assert found.calibration.knots == ()
    assert set(found.compared) == {"platt", "isotonic"}


def test_isotonic_regression_is_taken_where_no_sigmoid_fits():
    """Two steps: 5 % up to 0.3, 60 % up to 0.8, then 95 %."""
    cosines, labels = _data(lambda c: np.select([c < 0.3, c < 0.8], [0.05, 0.6], 0.95))
    found = calibration.fit(cosines, labels, _apart(len(cosines)))
    assert found.method == "isotonic"
    fresh, truth = _data(lambda c: np.select([c < 0.3, c < 0.8], [0.05, 0.6], 0.95))
    assert expected_calibration_error(found.calibration.probabilities(fresh), truth > 0.5) < 0.03
    assert found.compared["isotonic"]["log_loss"] < found.compared["platt"]["log_loss"]
    assert found.calibration.threshold == pytest.approx(0.3, abs=0.25)


def test_a_few_pairs_are_calibrated_by_platt_without_a_comparison():
    cosines, labels = _data(lambda c: c, pairs=100)
    found = calibration.fit(cosines, labels, _apart(100))
    assert (found.method, found.compared) == ("platt", {})


def test_one_class_is_calibrated_too():
    cosines = RANDOM.random(1000)
    found = calibration.fit(cosines, np.ones(1000), _apart(1000))
    assert found.method == "platt"
    assert found.calibration.threshold == 0.5


def test_pairs_that_share_a_sentence_are_in_one_group():
    groups = calibration._groups(np.array([[0, 1], [1, 2], [3, 4], [2, 5], [6, 4]]))
    assert groups[0] == groups[1] == groups[3]
    assert groups[2] == groups[4] != groups[0]


def test_knots_are_interpolated_and_flat_beyond_their_ends():
    found = Calibration(scale=1, bias=0, threshold=0.5, knots=((0.2, 0.1), (0.6, 0.9)))
    assert found.probabilities([0.0, 0.2, 0.4, 0.6, 1.0]) == pytest.approx([0.1, 0.1, 0.5, 0.9, 0.9])
    assert Calibration.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("knots", [((0.2, 0.5), (0.2, 0.6)), ((0.2, 0.5), (0.3, 0.4)), ((0.1, 0.5), (0.2, 1.1))])
def test_knots_that_do_not_rise_are_refused(knots):
    with pytest.raises(ValidationError, match="rise"):
        Calibration(scale=1, bias=0, threshold=0.5, knots=knots)
