"""measure_models: accuracy on the frozen test split, and latency of the exported artifacts."""

from restill import artifacts, evaluation, logits, storage
from restill.evaluation import Candidate, Evaluation
from restill.registry import Registry
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks.progress import say
from tasks.step import HOURS, step
from tasks.timing import timer


@step("measure {challenger.manifest.short}", timeout_seconds=2 * HOURS)
def measure_models(
    challenger: Candidate, champion: Candidate | None, snapshot: Snapshot, settings: Settings
) -> Evaluation:
    """Measure challenger, champion and teacher on the same rows, and time the artifacts interleaved."""
    time = timer(settings)
    store = storage.connect(settings.storage, settings.state_dir)
    scores = logits.open_store(settings, store)
    teacher = artifacts.teacher_calibration(challenger.folder)
    registry = Registry.configured(store, settings.registry)
    used = registry.test_split_uses(snapshot.test_version, besides=challenger.manifest.version)
    measured = evaluation.evaluate(
        challenger, champion, snapshot, scores, teacher, settings, earlier_decisions=used, time=time
    )
    quality = measured.measurements.accuracy
    say("accuracy on the test split: " + ", ".join(f"{name} {found.accuracy:.3f}" for name, found in quality.items()))
    latency = measured.measurements.latency
    if latency is not None:
        arm = latency.challenger
        say(f"latency of one pair: p50 {arm.p50_ms.estimate:.2f} ms, p99 {arm.p99_ms.estimate:.2f} ms")
    return measured
