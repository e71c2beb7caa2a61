"""How often latency is measured again, and what a decision leaves beside its version."""

import numpy as np
import pytest
from measured import latency, measurements
from registered import artifact, register

from restill import decisions, reports
from restill.evaluation import Candidate, Evaluation
from restill.gates import Verdict
from restill.measurements import SplitUse
from restill.measurements.accuracy import Predictions
from restill.measurements.latency.records import Timings
from restill.measurements.rows import Rows
from restill.registry import Registry
from restill.replay import last_verdict, replay
from restill.reports import Report
from restill.settings import GateSettings, Settings

PAIRS = 400
SPLIT = "0123456789ab"


def evaluated(manifest, disturbance=0.0):
    """A good challenger without a champion: right on nine pairs of ten."""
    labels = np.arange(PAIRS) % 2 == 0
    probabilities = np.where(labels ^ np.isin(np.arange(PAIRS) % 20, [9, 18]), 0.9, 0.1)
    rows = Rows(
        [str(pair) for pair in range(PAIRS)],
        [""] * PAIRS,
        [""] * PAIRS,
        labels.astype(float),
        (np.arange(PAIRS) // 2).astype(str),
        {},
        {},
    )
    found = Predictions(probabilities, probabilities, 0.5)
    timed = latency(disturbance=disturbance).model_copy(update={"champion": None, "p50_ratio": None, "p99_ratio": None})
    facts = measurements(
        challenger=manifest.version,
        champion=None,
        difference=None,
        slices=(),
        latency=timed,
        test_split=SplitUse(version=SPLIT, decisions=0),
    )
    rounds = np.full((20, 50), 1.0) + np.linspace(0, 0.1, 1000).reshape(20, 50)
    timings = Timings(rounds, None, rounds, np.ones((20, 4)))
    return Evaluation(facts, rows, {"challenger": found, "teacher": found}, timings)


@pytest.fixture
def registry(store):
    return Registry(store, "default")


@pytest.fixture
def decide(monkeypatch, tmp_path, registry):
    """Decide on a good challenger; its latency runs see these disturbances, which no real machine shows on demand."""

    def run(first, *later, attempts=4):
        manifest = register(registry, artifact(tmp_path / "artifact"))
        measured = evaluated(manifest, first)
        factors, runs = [], iter(later)

        def time_artifacts(*_, factor):
            factors.append(factor)
            return evaluated(manifest, next(runs)).measurements.latency, measured.timings

        monkeypatch.setattr(reports, "write_report", lambda *_, **__: Report(tmp_path / "report.html", "page", "card"))
        monkeypatch.setattr(decisions, "training_report", lambda _: {})
        decision = decisions.decide(
            Candidate(manifest, tmp_path / "artifact"),
            None,
            measured,
            registry,
            Settings(root=tmp_path, gates=GateSettings(attempts=attempts)),
            time=time_artifacts,
        )
        return decision.verdict, factors

    return run


def test_a_quiet_machine_is_measured_once(decide):
    verdict, factors = decide(0.0)
    assert verdict.passed
    assert factors == []


def test_a_disturbed_run_is_repeated_until_it_is_quiet(decide):
    verdict, factors = decide(0.9, 0.9, 0.0)
    assert verdict.passed
    assert factors == [2, 4]


def test_tries_are_bounded_and_undecided_does_not_promote(decide):
    verdict, factors = decide(0.9, 0.9, 0.9, 0.9, 0.0)
    assert not verdict.passed
    assert factors == [2, 4, 4]
    assert "undecided" in verdict.reason


def test_who_finds_the_verdict_finds_what_it_follows_from(decide, registry):
    verdict, _ = decide(0.0)
    stored = Verdict.model_validate_json(registry.verdicts(verdict.measurements.challenger)[-1])
    assert stored == verdict
    assert registry.evidence(stored.measurements.challenger, "predictions", stored.measurements.predictions_sha256)
    assert registry.evidence(stored.measurements.challenger, "timings", stored.measurements.timings_sha256)
    assert registry.test_split_uses(SPLIT) == 1


def test_a_past_challenger_is_decided_again_under_other_limits(decide, registry):
    """Accuracy is 0.9 and p99 about 1.1 ms, by construction: limits around both change the verdict and nothing else."""
    verdict, _ = decide(0.0)
    before = last_verdict(registry, verdict.measurements.challenger[:12])
    assert before == verdict
    assert replay(before, registry, GateSettings(min_accuracy=0.9)).passed
    stricter = replay(before, registry, GateSettings(min_accuracy=0.91))
    assert {row.gate for row in stricter.rows if row.answer == "fail"} == {"accuracy_floor"}
    slower = replay(before, registry, GateSettings(max_p99_latency_ms=1.0))
    assert {row.gate for row in slower.rows if row.answer == "fail"} == {"p99_budget"}
    assert len(registry.verdicts(verdict.measurements.challenger)) == 1  # nothing was stored
