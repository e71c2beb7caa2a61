"""From measurements to a stored verdict: judge, measure latency again while only that is open, keep the reasons."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from restill import evaluation, gates, reports
from restill.artifacts import training_report
from restill.evaluation import Candidate, Evaluation, Timer
from restill.gates import Verdict
from restill.measurements import predictions
from restill.registry import Registry
from restill.reports import Report
from restill.settings import Settings

MAX_FACTOR = 4  # more requests narrow the interval; a disturbed machine needs another moment, not a longer one


@dataclass(frozen=True)
class Decision:
    """A verdict and where its report is."""

    verdict: Verdict
    report: Report
    report_uri: str  # of the page


def decide(
    challenger: Candidate,
    champion: Candidate | None,
    measured: Evaluation,
    registry: Registry,
    settings: Settings,
    *,
    time: Timer = evaluation.time_artifacts,
    say: Callable[[str], None] = lambda text: None,
) -> Decision:
    """Judge a challenger and store verdict, report and what they were computed from beside its version.

    An undecided latency gate is measured again, with more requests, at most `gates.attempts` times in all. What is
    undecided after that is not promoted.

    Args:
        challenger: the version to be judged.
        champion: what it is compared with; None before the first promotion.
        measured: the first measurements.
        registry: where verdict and report are kept.
        settings: limits and attempts.
        time: who times the artifacts.
        say: called with a sentence before each further attempt.
    """
    verdict = gates.judge(measured.measurements, settings.gates)
    for attempt in range(1, settings.gates.attempts):
        if not verdict.retryable:
            break
        factor = min(2**attempt, MAX_FACTOR)
        say(f"latency is undecided, measuring again with {factor} times the requests")
        latency, timings = time(challenger, champion, measured.rows, settings, factor=factor)
        measurements = measured.measurements.model_copy(update={"latency": latency})
        measured = replace(measured, measurements=measurements, timings=timings)
        verdict = gates.judge(measurements, settings.gates)
    manifest = challenger.manifest
    version = manifest.version
    digests = {
        "predictions_sha256": registry.add_evidence(
            version, "predictions", predictions.to_parquet(measured.rows, measured.predictions)
        ),
        "timings_sha256": registry.add_evidence(version, "timings", measured.timings.document()),
    }
    # The verdict names what it follows from; the answers are the same.
    verdict = verdict.model_copy(update={"measurements": verdict.measurements.model_copy(update=digests)})
    folder = settings.state_dir / "reports" / manifest.model / manifest.short / verdict.sha256[:12]
    report = reports.write_report(
        folder,
        verdict,
        measured,
        manifest,
        training_report(challenger.folder),
        champion=champion.manifest if champion else None,
    )
    registry.add_report(version, verdict.sha256, report.markdown.encode(), "md")
    uri = registry.add_report(version, verdict.sha256, report.html.encode(), "html")
    # Before the verdict: a decision that nobody counts would wear the test split out unseen.
    if (split := verdict.measurements.test_split) is not None:
        registry.use_test_split(split.version, version)
    # The verdict last: who finds it finds its report too.
    registry.add_verdict(version, verdict.document())
    return Decision(verdict, report, uri)
