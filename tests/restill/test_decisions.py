"""How often latency is measured again, and in what order the reasons are kept."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from restill import decisions, evaluation, reports
from restill.measurements import Accuracy, Interval, Latency, LatencyArm, Measurements
from restill.reports import Report
from restill.settings import GateSettings, Settings


@dataclass(frozen=True)
class Measured:
    """What `decide` takes from an evaluation."""

    measurements: Measurements
    timings: object
    rows: object = None


def latency(disturbance):
    point = Interval(estimate=1.0, lower=1.0, upper=1.0)
    arm = LatencyArm(requests=700, p50_ms=point, p99_ms=point)
    return Latency(
        challenger=arm,
        champion=None,
        p50_ratio=None,
        p99_ratio=None,
        disturbance=disturbance,
        threads=1,
        hardware="test",
    )


@pytest.fixture
def decide(monkeypatch, tmp_path):
    """Decide on a good challenger; its latency runs see these disturbances, which no real machine shows on demand."""

    def run(first, *later, attempts=4):
        quality = Accuracy(
            pairs=100,
            accuracy=0.9,
            precision=0.9,
            recall=0.9,
            f1=0.9,
            roc_auc=0.9,
            average_precision=0.9,
            calibration_error=0.01,
        )
        measurements = Measurements(
            challenger="c" * 64,
            champion=None,
            data_version="d",
            accuracy={"challenger": quality, "teacher": quality},
            difference=None,
            slices=(),
            golden_failures=None,
            latency=latency(first),
            artifact_mb=1.0,
        )
        factors, kept, runs = [], [], iter(later)

        def time_artifacts(*_, factor):
            factors.append(factor)
            return latency(next(runs)), None

        monkeypatch.setattr(evaluation, "time_artifacts", time_artifacts)
        monkeypatch.setattr(reports, "write_report", lambda *_, **__: Report(tmp_path / "report.html", "page", "card"))
        monkeypatch.setattr(decisions, "training_report", lambda _: {})
        registry = SimpleNamespace(
            add_report=lambda *sent: kept.append(sent[2:]) or f"s3://report.{sent[3]}",
            add_verdict=lambda *_: kept.append("verdict"),
        )
        challenger = SimpleNamespace(manifest=SimpleNamespace(model="m", short="c", version="c" * 64), folder=tmp_path)
        settings = Settings(root=tmp_path, gates=GateSettings(attempts=attempts))
        decision = decisions.decide(challenger, None, Measured(measurements, None), registry, settings)
        # Who finds the verdict finds its report too.
        assert kept == [(b"card", "md"), (b"page", "html"), "verdict"]
        assert decision.report_uri == "s3://report.html"
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
