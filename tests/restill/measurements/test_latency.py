"""Latency of real exported students, in real processes."""

import pytest
from factories import write_student

from restill.errors import MeasurementFailed
from restill.measurements.latency import measuring
from restill.measurements.latency.records import Artifact
from restill.serving import PairModel

# Of two input widths: 8 and 16 tokens.
PAIRS = [("a b c d", "b c d e"), ("a b c d e f g h a b c d", "h g f"), ("a", "b")] * 10
ORDER = {"requests": 700, "warmup": 20, "threads": 1, "confidence": 0.95}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """A small and a large student with one vocabulary, exported for real."""
    made = {}
    for name, size in (("small", 8), ("large", 256)):
        folder = tmp_path_factory.mktemp(name)
        write_student(folder, size=size, max_tokens=16)
        made[name] = Artifact(folder, "student.tflite")
    return made


@pytest.fixture(scope="module")
def slower(artifacts):
    """The large student against the small one."""
    return measuring.measure(artifacts["large"], artifacts["small"], PAIRS, **ORDER)


def test_a_slower_challenger_shows_in_the_ratio(slower):
    found, timings = slower
    assert found.p50_ratio.lower > 1.1
    assert found.challenger.requests >= 700
    assert timings.challenger_ms.shape == timings.champion_ms.shape == timings.control_ms.shape == (14, 50)
    assert timings.reference_ms.shape == (14, 6)


def test_a_second_process_with_the_champion_is_the_control(slower):
    found, _ = slower
    assert found.control_p50_ratio.upper < found.p50_ratio.lower
    assert found.control_p99_ratio is not None
    assert found.disturbed_by


def test_an_arm_says_all_that_gates_look_at(slower):
    found, _ = slower
    for arm in (found.challenger, found.champion):
        assert arm.p50_ms.estimate <= arm.p90_ms.estimate <= arm.p99_ms.estimate
        assert arm.cold_start_ms > arm.p99_ms.estimate
        assert 20 < arm.peak_memory_mb < 1000  # whatever this process holds: it has TensorFlow loaded
        assert arm.pairs_per_second > 0


def test_alone_there_is_no_ratio_but_a_control(artifacts):
    found, timings = measuring.measure(artifacts["small"], None, PAIRS, **ORDER)
    assert found.champion is None
    assert found.p99_ratio is None
    assert found.control_p50_ratio is not None
    assert timings.champion_ms is None
    assert timings.reference_ms.shape == (14, 4)


def test_pairs_of_one_width_are_of_one_input_shape(artifacts):
    model = PairModel(artifacts["small"].folder)
    assert [model.width(pair) for pair in PAIRS[:3]] == [8, 16, 8]


def test_an_artifact_that_cannot_be_loaded_fails_the_measurement(tmp_path):
    with pytest.raises(MeasurementFailed, match=r"control ended with code 1: .*student\.json") as failure:
        measuring.measure(Artifact(tmp_path, "student.tflite"), None, PAIRS, **ORDER)
    assert "artifact is whole" in failure.value.hint
