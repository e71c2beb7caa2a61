"""Evaluations and manifests for tests of reports: arrays with a seed, measured as real ones are."""

from datetime import UTC, datetime

import numpy as np

from restill import evaluation, gates
from restill.evaluation import Evaluation
from restill.manifests import Calibration, FileEntry, Lineage, make_manifest
from restill.measurements import Interval, Invariance, Latency, LatencyArm, Measurements, SplitUse
from restill.measurements.accuracy import Predictions
from restill.measurements.latency.records import Timings
from restill.measurements.rows import Rows
from restill.settings import GateSettings

LIMITS = GateSettings(min_slice_pairs=100, resamples=1000)
CALIBRATION = Calibration(scale=10.0, bias=0.5, threshold=0.5)


def rows(texts_a, texts_b, grades, slices=None, clusters=None, unlabelled=None):
    """Return pairs, each in a group of its own unless said otherwise."""
    return Rows(
        pair_ids=[f"{place:032x}" for place in range(len(grades))],
        text_a=list(texts_a),
        text_b=list(texts_b),
        grades=np.asarray(grades, np.float64),
        clusters=np.array([str(place) for place in range(len(grades))] if clusters is None else clusters),
        slices=slices or {},
        unlabelled=unlabelled or {},
    )


def predictions(probabilities, threshold=0.5):
    """Return the answers that state these probabilities."""
    probabilities = np.asarray(probabilities, np.float64)
    return Predictions(CALIBRATION.bias + (probabilities - 0.5) / 2, probabilities, threshold)


def random_answers(labels, *, skill, seed):
    """Return answers to pairs: the larger the skill, the more are right."""
    noise = np.random.default_rng(seed).normal(size=len(labels))
    return predictions(1 / (1 + np.exp(-(skill * (2 * labels - 1) + 1.3 * noise))))


def timings(rounds=30, champion=True, seed=0):
    """Return a run without disturbance."""
    generator = np.random.default_rng(seed)

    def arm(scale):
        return scale * (1 + generator.gamma(1.5, 0.2, size=(rounds, 50)))

    reference = 0.4 * (1 + 0.02 * generator.random((rounds, 6)))
    return Timings(arm(0.9), arm(1.0) if champion else None, arm(1.0), reference)


def _latency(run):
    def ends(value):
        return Interval(estimate=value, lower=0.98 * value, upper=1.03 * value)

    def arm(values):
        return LatencyArm(
            requests=values.size,
            p50_ms=ends(float(np.quantile(values, 0.5))),
            p90_ms=ends(float(np.quantile(values, 0.9))),
            p99_ms=ends(float(np.quantile(values, 0.99))),
            cold_start_ms=412.0,
            peak_memory_mb=93.0,
            pairs_per_second=8123.0,
        )

    compared = run.champion_ms is not None
    return Latency(
        challenger=arm(run.challenger_ms),
        champion=arm(run.champion_ms) if compared else None,
        p50_ratio=ends(0.9) if compared else None,
        p99_ratio=ends(0.95) if compared else None,
        control_p50_ratio=ends(1.001),
        control_p99_ratio=ends(0.99),
        disturbance=0.05,
        disturbed_by="fixed workload",
        threads=1,
        hardware="test",
    )


def evaluate(found, answers, run=None, **changes):
    """Return the evaluation of these answers to these rows."""
    compared = "champion" in answers
    run = run or timings(champion=compared)
    measured = {
        "challenger": "c" * 64,
        "champion": "d" * 64 if compared else None,
        "data_version": "e" * 32,
        **evaluation.quality(found, answers, LIMITS),
        "golden_failures": None,
        "latency": _latency(run),
        "artifact_mb": 3.2,
        "swap_difference": 0.0,
        "invariances": (Invariance(name="casing", pairs=900, largest_change=0.1, changed_decisions=0.01),),
        "test_split": SplitUse(version="f" * 12, decisions=3),
    }
    return Evaluation(Measurements(**(measured | changes)), found, answers, run)


def judge(found):
    """Return the verdict on an evaluation."""
    return gates.judge(found.measurements, LIMITS)


def manifest(batches=("first", "second"), **changes):
    """Return a version of two files, with changes to its lineage."""
    lineage = {
        "git_commit": "1" * 40,
        "git_dirty": False,
        "data_version": "2" * 32,
        "batches": batches,
        "teacher_fingerprint": "3" * 64,
        "training_key": "4" * 64,
        "config_digest": "5" * 64,
        "seed": 7,
        "dependency_lock_sha256": "6" * 64,
        "restill_version": "0.1.0",
        "hardware": "x86_64 Linux",
        "flow_run_id": None,
        "parent": "d" * 64,
    }
    return make_manifest(
        model="default",
        created_at=datetime(2026, 2, 3, 4, 5, tzinfo=UTC),
        artifact_role="litert",
        files=[
            FileEntry(path="student.tflite", sha256="8" * 64, bytes=3_000_000, role="litert"),
            FileEntry(path="tokenizer.json", sha256="9" * 64, bytes=200_000, role="tokenizer"),
        ],
        signature={"input": "int32 [1, 32]"},
        calibration=CALIBRATION,
        lineage=Lineage(**(lineage | changes)),
        training={"loss": 0.5},
    )


def training_report(epochs=6, **changes):
    """Return a training report whose next to last epoch was chosen."""
    return {
        "epochs": [
            {
                "number": number,
                "train_loss": 1 / number,
                "validation_loss": 1.2 / number,
                "validation_score": 0.9 - 0.3 / number,
                "seconds": 12.5,
                "phase": "joint",
            }
            for number in range(1, epochs + 1)
        ],
        "best_epoch": max(epochs - 1, 1),
        "train_pairs": 12_345,
        "mined_pairs": 0,
        "validation_pairs": 2_000,
        "vocabulary": 8_000,
        "parameters": 1_234_567,
        "calibration": {
            "litert": {
                "method": "isotonic",
                "platt": {"log_loss": 0.31, "calibration_error": 0.04},
                "isotonic": {"log_loss": 0.29, "calibration_error": 0.02},
            }
        },
    } | changes
