import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from restill import students
from restill.errors import MeasurementFailed
from restill.measurements import latency
from restill.measurements.latency import Artifact, Timings, disturbance
from restill.serving import CARD_FORMAT
from restill.settings import StudentSettings

PAIRS = [("a b c d", "b c d e")] * 10
ORDER = {"requests": 700, "warmup": 20, "threads": 1, "confidence": 0.95}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """A small and a large student with one vocabulary, exported for real."""
    made = {}
    for name, size in (("small", 8), ("large", 256)):
        folder = tmp_path_factory.mktemp(name)
        encoder = students.build(20, StudentSettings(embedding_size=size, hidden_size=size, max_tokens=8))
        files = students.export(encoder, np.arange(2, 18, dtype=np.int32).reshape(2, 8), folder, max_tokens=8)
        vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *"abcdefgh"])}
        Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
        calibration = {"scale": 8.0, "bias": 0.5, "threshold": 0.5}
        card = {"format": CARD_FORMAT, "max_tokens": 8, "calibrations": dict.fromkeys(files.values(), calibration)}
        (folder / "student.json").write_text(json.dumps(card))
        made[name] = Artifact(folder, "student.tflite")
    return made


def test_a_slower_challenger_shows_in_the_ratio(artifacts):
    found, timings = latency.measure(artifacts["large"], artifacts["small"], PAIRS, **ORDER)
    assert found.p50_ratio.lower > 1.1
    assert found.challenger.requests >= 700
    assert timings.challenger_ms.shape == timings.champion_ms.shape
    assert found.challenger.p50_ms.estimate <= found.challenger.p99_ms.estimate


def test_alone_there_is_no_ratio(artifacts):
    found, timings = latency.measure(artifacts["small"], None, PAIRS, **ORDER)
    assert found.champion is None
    assert found.p99_ratio is None
    assert timings.champion_ms is None


def test_an_artifact_that_cannot_be_loaded_fails_the_measurement(tmp_path):
    with pytest.raises(MeasurementFailed, match=r"student\.json"):
        latency.measure(Artifact(tmp_path, "student.tflite"), None, PAIRS, **ORDER)


def _timings(challenger, champion=None, reference=1.0):
    rounds = np.ones((20, 50))
    return Timings(rounds * challenger, None if champion is None else rounds * champion, np.ones(20) * reference)


def test_a_steady_machine_is_not_disturbed():
    assert disturbance(_timings(1.0, 1.0)) == 0.0


def test_a_reference_that_slows_down_is_a_disturbance():
    reference = np.concatenate([np.ones(15), np.full(5, 1.5)])
    assert disturbance(_timings(1.0, 1.0, reference)) == pytest.approx(0.5)


def test_drift_that_hits_both_arms_alike_is_none_and_one_arm_is_one():
    drift = np.linspace(1.0, 2.0, 20)[:, np.newaxis]
    assert disturbance(_timings(drift, drift)) == pytest.approx(0.0)
    assert disturbance(_timings(drift, 1.0)) > 0.2
