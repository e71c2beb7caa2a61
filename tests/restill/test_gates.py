import pytest

from restill import gates
from restill.errors import ConfigurationError
from restill.gates import Answer
from restill.measurements import Accuracy, Interval, Latency, LatencyArm, Measurements, SliceComparison
from restill.settings import GateSettings


def interval(estimate, half=0.0):
    return Interval(estimate=estimate, lower=estimate - half, upper=estimate + half)


def accuracy(value=0.9, error=0.02):
    return Accuracy(
        pairs=2000,
        accuracy=value,
        precision=value,
        recall=value,
        f1=value,
        roc_auc=value,
        average_precision=value,
        calibration_error=error,
    )


def latency(
    p50=1.0,
    p99=2.0,
    p50_ratio=1.0,
    p99_ratio=1.0,
    half=0.01,
    disturbance=0.05,
    control=1.0,
    control_half=0.01,
    champion_p99=2.0,
    cold_start=2000.0,
    memory=100.0,
):
    arm = LatencyArm(
        requests=1500,
        p50_ms=interval(p50, half),
        p99_ms=interval(p99, half),
        cold_start_ms=cold_start,
        peak_memory_mb=memory,
    )
    return Latency(
        challenger=arm,
        champion=arm.model_copy(update={"p99_ms": interval(champion_p99, half)}),
        p50_ratio=interval(p50_ratio, half),
        p99_ratio=interval(p99_ratio, half),
        disturbance=disturbance,
        threads=1,
        hardware="test",
        control_p50_ratio=interval(control, control_half),
        control_p99_ratio=interval(control, control_half),
        disturbed_by="two processes with the same artifact",
    )


def measurements(**changes):
    """A challenger that passes everything, with the changes a test makes."""
    values = {
        "challenger": "c" * 64,
        "champion": "d" * 64,
        "data_version": "e" * 32,
        "accuracy": {"challenger": accuracy(), "champion": accuracy(0.89), "teacher": accuracy(0.92)},
        "difference": interval(0.01, 0.01),
        "slices": (
            SliceComparison(name="language=en", pairs=900, clusters=90, difference=interval(0.01, 0.01), p_value=0.001),
        ),
        "golden_failures": None,
        "latency": latency(),
        "artifact_mb": 3.0,
    }
    return Measurements(**(values | changes))


def answer(gate, found, limits=None):
    verdict = gates.judge(found, limits or GateSettings())
    return next(row.answer for row in verdict.rows if row.gate == gate)


def test_a_challenger_that_keeps_every_limit_passes():
    verdict = gates.judge(measurements(), GateSettings())
    assert verdict.passed
    assert {row.gate for row in verdict.rows} == set(gates.GATES)


@pytest.mark.parametrize(
    ("gate", "at_limit", "beyond"),
    [
        ("accuracy_floor", {"accuracy": {"challenger": accuracy(0.7)}}, {"accuracy": {"challenger": accuracy(0.699)}}),
        ("f1_floor", {"accuracy": {"challenger": accuracy(0.65)}}, {"accuracy": {"challenger": accuracy(0.649)}}),
        ("roc_auc_floor", {"accuracy": {"challenger": accuracy(0.75)}}, {"accuracy": {"challenger": accuracy(0.749)}}),
        (
            "teacher_retention",
            {"accuracy": {"challenger": accuracy(0.95), "teacher": accuracy(1.0)}},
            {"accuracy": {"challenger": accuracy(0.94), "teacher": accuracy(1.0)}},
        ),
        (
            "calibration",
            {"accuracy": {"challenger": accuracy(error=0.05)}},
            {"accuracy": {"challenger": accuracy(error=0.051)}},
        ),
        ("champion_non_inferiority", {"difference": interval(0.0, 0.0049)}, {"difference": interval(-0.02, 0.01)}),
        ("p99_budget", {"latency": latency(p99=9.9)}, {"latency": latency(p99=10.2)}),
        ("p50_ratio", {"latency": latency(p50_ratio=1.09)}, {"latency": latency(p50_ratio=1.13)}),
        ("p99_ratio", {"latency": latency(p99_ratio=1.09)}, {"latency": latency(p99_ratio=1.13)}),
        ("cold_start", {"latency": latency(cold_start=30_000.0)}, {"latency": latency(cold_start=30_000.1)}),
        ("memory", {"latency": latency(memory=1000.0)}, {"latency": latency(memory=1000.1)}),
        ("artifact_size", {"artifact_mb": 50.0}, {"artifact_mb": 50.1}),
    ],
)
def test_a_gate_passes_at_its_limit_and_fails_beyond(gate, at_limit, beyond):
    assert answer(gate, measurements(**at_limit)) is Answer.PASS
    assert answer(gate, measurements(**beyond)) is Answer.FAIL
    assert not gates.judge(measurements(**beyond), GateSettings()).passed


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        ("champion_non_inferiority", {"difference": interval(0.0, 0.01)}),
        ("champion_non_inferiority", {"difference": None}),
        ("p99_budget", {"latency": latency(p99=10.0, half=0.5)}),
        ("p50_ratio", {"latency": latency(p50_ratio=1.08, half=0.05)}),
        ("p99_budget", {"latency": latency(disturbance=0.21)}),
        ("p99_budget", {"latency": latency(p99=30.0, champion_p99=10.0)}),
        ("p99_budget", {"latency": None}),
        ("p50_ratio", {"latency": None}),
        ("cold_start", {"latency": None}),
        ("cold_start", {"latency": latency(cold_start=None)}),
        ("cold_start", {"latency": latency(cold_start=30_001.0, disturbance=0.21)}),
        ("memory", {"latency": None}),
        ("memory", {"latency": latency(memory=None)}),
        ("teacher_retention", {"accuracy": {"challenger": accuracy()}}),
        (
            "roc_auc_floor",
            {"accuracy": {"challenger": accuracy().model_copy(update={"roc_auc": None}), "teacher": accuracy()}},
        ),
    ],
)
def test_what_is_not_decided_does_not_pass(gate, changes):
    verdict = gates.judge(measurements(**changes), GateSettings())
    assert answer(gate, measurements(**changes)) is Answer.INCONCLUSIVE
    assert not verdict.passed


@pytest.mark.parametrize("gate", ["p50_ratio", "p99_ratio"])
def test_a_ratio_is_not_decided_where_two_processes_with_one_artifact_differ_by_more(gate):
    """Whichever of the twins is slower: a slow champion makes every challenger look fast."""
    ratio = {gate: 2.0}
    assert answer(gate, measurements(latency=latency(**ratio, control=1.10))) is Answer.FAIL
    assert answer(gate, measurements(latency=latency(**ratio, control=1.12))) is Answer.INCONCLUSIVE
    assert answer(gate, measurements(latency=latency(control=0.91))) is Answer.PASS
    assert answer(gate, measurements(latency=latency(control=0.89))) is Answer.INCONCLUSIVE


def test_a_challenger_may_have_to_be_faster():
    limits = GateSettings(max_latency_ratio=0.9)
    assert answer("p50_ratio", measurements(latency=latency(p50_ratio=0.88)), limits) is Answer.PASS
    assert answer("p50_ratio", measurements(latency=latency(p50_ratio=0.95)), limits) is Answer.FAIL


def test_a_ratio_fails_only_if_it_exceeds_what_two_processes_with_one_artifact_may_show():
    """The limit is 1.1; twins that may differ by 1.2 times leave a ratio of at least 1.3 undecided, 1.4 is too much."""
    noisy = {"control": 1.0, "control_half": 0.2}
    assert answer("p99_ratio", measurements(latency=latency(p99_ratio=1.31, **noisy))) is Answer.INCONCLUSIVE
    assert answer("p99_ratio", measurements(latency=latency(p99_ratio=1.41, **noisy))) is Answer.FAIL


def test_what_disturbed_the_machine_is_said():
    verdict = gates.judge(measurements(latency=latency(disturbance=0.3)), GateSettings())
    assert "changed by 30% meanwhile (two processes with the same artifact)" in verdict.reason


def test_only_open_latency_is_worth_measuring_again():
    assert gates.judge(measurements(latency=latency(disturbance=0.5)), GateSettings()).retryable
    both_open = measurements(latency=latency(disturbance=0.5), difference=interval(0.0, 0.01))
    assert not gates.judge(both_open, GateSettings()).retryable
    assert not gates.judge(measurements(), GateSettings()).retryable


def test_the_first_champion_is_held_to_absolute_gates():
    alone = measurements(champion=None, difference=None, slices=())
    verdict = gates.judge(alone, GateSettings())
    assert verdict.passed
    assert verdict.bootstrap
    assert answer("champion_non_inferiority", alone) is Answer.NOT_APPLICABLE
    assert not gates.judge(alone, GateSettings(min_accuracy=0.95)).passed


def test_superiority_is_demanded_only_when_asked_for():
    equal = measurements(difference=interval(0.0, 0.004))
    assert gates.judge(equal, GateSettings()).passed
    assert not gates.judge(equal, GateSettings(require_superiority=True)).passed


def test_a_slice_must_hold_at_holms_level():
    """Two slices at p = 0.03: the smaller is held to 0.025, so neither is decided."""
    parts = tuple(
        SliceComparison(name=f"language={tag}", pairs=900, clusters=90, difference=interval(0.0, 0.015), p_value=0.03)
        for tag in ("en", "zh")
    )
    assert answer("slices", measurements(slices=parts)) is Answer.INCONCLUSIVE
    assert answer("slices", measurements(slices=parts[:1])) is Answer.PASS
    worse = SliceComparison(name="language=en", pairs=900, clusters=90, difference=interval(-0.05, 0.01), p_value=1.0)
    assert answer("slices", measurements(slices=(worse,))) is Answer.FAIL


def test_a_slice_that_should_have_been_measured_and_was_not_does_not_pass():
    lost = SliceComparison(name="language=en", pairs=9000, clusters=900, difference=None, p_value=None)
    small = SliceComparison(name="language=zh", pairs=90, clusters=9, difference=None, p_value=None)
    assert answer("slices", measurements(slices=(lost,))) is Answer.INCONCLUSIVE
    assert answer("slices", measurements(slices=(small,))) is Answer.NOT_APPLICABLE


def test_one_wrong_golden_pair_refuses():
    limits = GateSettings(golden_pairs="golden.csv")
    assert answer("golden_pairs", measurements(golden_failures=()), limits) is Answer.PASS
    assert answer("golden_pairs", measurements(golden_failures=("a / b",)), limits) is Answer.FAIL
    assert answer("golden_pairs", measurements(), limits) is Answer.INCONCLUSIVE


def test_a_disabled_gate_is_shown_as_off_and_an_unknown_name_is_an_error():
    slow = measurements(latency=latency(p99=30.0))
    limits = GateSettings(disabled=("p99_budget",))
    assert gates.judge(slow, limits).passed
    assert answer("p99_budget", slow, limits) is Answer.OFF
    with pytest.raises(ConfigurationError, match="no gate of ours: p99"):
        gates.judge(slow, GateSettings(disabled=("p99",)))


def test_nothing_is_promoted_when_every_gate_is_off():
    assert not gates.judge(measurements(), GateSettings(disabled=tuple(gates.GATES))).passed


def test_a_verdict_survives_storage():
    verdict = gates.judge(measurements(), GateSettings())
    again = gates.Verdict.model_validate_json(verdict.document())
    assert again == verdict
    assert again.sha256 == verdict.sha256
