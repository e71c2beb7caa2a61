"""From raw timings to a latency, and what shows that the machine did not hold still."""

import json

import numpy as np
import pytest

from restill.measurements.latency.disturbance import find_disturbance
from restill.measurements.latency.records import Process, Run, Timings
from restill.measurements.latency.summary import summarise

PROCESS = Process(cold_start_ms=1500.0, peak_memory_mb=90.0, pairs_per_second=4000.0)


def timings(challenger=1.0, champion=None, control=1.0, reference=1.0):
    rounds = np.ones((20, 50))
    return Timings(
        challenger_ms=rounds * challenger,
        champion_ms=None if champion is None else rounds * champion,
        control_ms=rounds * control,
        reference_ms=np.ones((20, 6)) * reference,
    )


def run(found):
    return Run(found, PROCESS, None if found.champion_ms is None else PROCESS, 1, "test")


def test_a_steady_machine_is_not_disturbed():
    assert find_disturbance(timings(2.0, 1.0))[0] == 0.0


def test_a_reference_that_slows_down_is_a_disturbance():
    reference = np.concatenate([np.ones(15), np.full(5, 1.5)])[:, np.newaxis]
    share, words = find_disturbance(timings(1.0, 1.0, reference=reference))
    assert share == pytest.approx(0.5)
    assert "reference workload" in words


def test_drift_that_hits_all_arms_alike_is_none_and_one_arm_is_one():
    drift = np.linspace(1.0, 2.0, 20)[:, np.newaxis]
    assert find_disturbance(timings(drift, drift, drift))[0] == pytest.approx(0.0)
    share, words = find_disturbance(timings(drift, 1.0))
    assert share > 0.2
    assert words == "the challenger against the champion between the halves of the run"


@pytest.mark.parametrize("champion", [None, 1.0])
@pytest.mark.parametrize("control", [1.25, 0.8])
def test_twins_that_differ_are_a_disturbance(champion, control):
    share, words = find_disturbance(timings(1.0, champion, control))
    assert share == pytest.approx(0.25)
    assert "same artifact" in words


def test_ratios_are_of_the_challenger_and_of_the_twin_to_the_champion():
    noise = np.random.default_rng(0).gamma(9.0, 0.1, size=(20, 50))
    found = summarise(run(timings(3.0 * noise, 2.0 * noise, 2.2 * noise)), confidence=0.95)
    # The same rounds are drawn of all arms, so what they have in common cancels.
    for interval, ratio in [(found.p50_ratio, 1.5), (found.control_p50_ratio, 1.1), (found.control_p99_ratio, 1.1)]:
        assert (interval.lower, interval.estimate, interval.upper) == pytest.approx((ratio, ratio, ratio))
    assert found.disturbance == pytest.approx(0.1)
    assert found.challenger.p90_ms.estimate == pytest.approx(np.quantile(3.0 * noise, 0.9))
    assert found.champion.cold_start_ms == 1500.0


def test_without_champion_the_twin_is_the_challengers():
    found = summarise(run(timings(2.0, None, 2.2)), confidence=0.95)
    assert found.p50_ratio is None
    assert found.control_p50_ratio.estimate == pytest.approx(1.1)


@pytest.mark.parametrize("champion", [None, 1.5])
def test_a_run_survives_the_way_between_machines(champion):
    sent = run(timings(1.25, champion, np.random.default_rng(0).random((20, 50))))
    got = Run.parse(sent.document())
    assert summarise(got, confidence=0.95) == summarise(sent, confidence=0.95)
    again = Timings.parse(sent.timings.document())
    for name, array in vars(sent.timings).items():
        assert np.array_equal(array, getattr(again, name)) if array is not None else getattr(again, name) is None


@pytest.mark.parametrize(
    "change",
    [
        {"control_ms": [[1.0]]},
        {"control_ms": None},
        {"champion_ms": [["fast"] * 50] * 20},
        {"challenger_ms": [[float("nan")] * 50] * 20},
        {"reference_ms": [[1.0]]},
    ],
)
def test_what_is_no_timings_is_refused(change):
    plain = json.loads(timings(1.0, 1.0).document())
    with pytest.raises(ValueError, match=r"timings|could not convert"):
        Timings.parse(json.dumps(plain | change).encode())
    with pytest.raises(ValueError, match="JSON object"):
        Run.parse(b"[]")
