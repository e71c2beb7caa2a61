import pytest
from measured import accuracy, changed, interval, latency, measurements

from restill import gates
from restill.errors import ConfigurationError
from restill.gates import Answer
from restill.measurements import SliceComparison, SplitUse
from restill.settings import GateSettings


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
        (
            "test_split",
            {"test_split": SplitUse(version="f", decisions=100), "difference": interval(0.0061, 0.001)},
            {"test_split": SplitUse(version="f", decisions=100), "difference": interval(0.006, 0.001)},
        ),
        ("symmetry", {"swap_difference": 0.0}, {"swap_difference": 1e-7}),
        ("invariances", {"invariances": (changed(0.05),)}, {"invariances": (changed(0.051), changed(0.01))}),
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
        ("symmetry", {"swap_difference": None}),
        ("invariances", {"invariances": ()}),
        ("test_split", {"test_split": None}),
        ("test_split", {"test_split": SplitUse(version="f", decisions=100), "difference_error": None}),
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


def test_a_worn_test_split_can_be_refused_altogether():
    limits = GateSettings(max_test_uses=5, after_max_test_uses="refuse")
    better = {"difference": interval(0.05, 0.01)}
    assert (
        answer("test_split", measurements(**better, test_split=SplitUse(version="f", decisions=4)), limits)
        is Answer.PASS
    )
    assert (
        answer("test_split", measurements(**better, test_split=SplitUse(version="f", decisions=5)), limits)
        is Answer.FAIL
    )


def test_a_change_that_applies_to_few_pairs_is_not_judged():
    assert answer("invariances", measurements(invariances=(changed(0.9, pairs=99),))) is Answer.NOT_APPLICABLE


def test_a_measure_that_cannot_be_taken_says_why():
    quality = accuracy().model_copy(
        update={"roc_auc": None, "not_measurable": {"roc_auc": "there is not a pair with label 0"}}
    )
    verdict = gates.judge(measurements(accuracy={"challenger": quality, "teacher": accuracy()}), GateSettings())
    row = next(row for row in verdict.rows if row.gate == "roc_auc_floor")
    assert row.answer is Answer.INCONCLUSIVE
    assert "there is not a pair with label 0" in row.sentence
