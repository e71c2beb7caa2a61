import numpy as np
import pytest

from restill import power
from restill.gates import Answer
from restill.settings import GateSettings

LIMITS = GateSettings(resamples=2000)


@pytest.fixture(scope="module")
def population():
    """2,000 pairs in groups of one to four."""
    sizes = np.random.default_rng(0).integers(1, 5, 800)
    return power.assume(np.repeat(np.arange(800), sizes).astype(str), disagreement=0.06, accuracy=0.85)


def test_an_assumed_population_is_what_was_asked_for(population):
    assert population.disagreement == pytest.approx(0.06, abs=0.02)
    assert population.first.mean() == pytest.approx(0.85, abs=0.03)
    assert population.second.mean() == pytest.approx(0.85, abs=0.03)


def test_a_challenger_at_the_margin_is_rarely_promoted(population):
    """True loss 0.5 points, the margin: a right gate passes 5 % of them, and 200 decisions show at most 10 %."""
    found = power.simulate(population, LIMITS, true_difference=-0.005, pairs=4000, decisions=200)
    assert sum(found.answers.values()) == 200
    assert found.share(Answer.PASS)[0] <= 0.10


def test_a_large_loss_is_never_promoted(population):
    found = power.simulate(population, LIMITS, true_difference=-0.03, pairs=4000, decisions=50)
    assert found.answers.get(Answer.PASS, 0) == 0
    assert found.answers[Answer.FAIL] > 40


def test_the_approximation_agrees_with_the_simulation(population):
    said = power.resolution(population, LIMITS, pairs=8000)
    found = power.simulate(population, LIMITS, true_difference=0.0, pairs=8000, decisions=300)
    assert found.share(Answer.PASS)[0] == pytest.approx(said.equal_promoted, abs=0.08)


def test_the_pairs_needed_are_enough(population):
    needed = power.resolution(population, LIMITS, pairs=2000).pairs_needed
    assert power.resolution(population, LIMITS, pairs=needed).equal_promoted == pytest.approx(0.8, abs=0.01)


def test_a_gain_cannot_be_simulated(population):
    with pytest.raises(ValueError, match="true_difference"):
        power.simulate(population, LIMITS, true_difference=0.01, pairs=100, decisions=1)


def test_the_same_seed_decides_the_same(population):
    first, second = (power.simulate(population, LIMITS, true_difference=-0.01, pairs=1000, decisions=20) for _ in "12")
    assert first == second
