"""distill_student: train, calibrate and export one student."""

from restill import logits, storage
from restill.artifacts import Artifact
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks.progress import say
from tasks.step import HOURS, step
from tasks.working import working


@step("distill a student from {snapshot.short}", timeout_seconds=24 * HOURS)
def distill_student(snapshot: Snapshot, settings: Settings, *, force: bool = False) -> Artifact:
    """Train one student on a snapshot and return its exported artifact."""
    from restill import distillation  # late: TensorFlow takes many seconds to import, and most runs do without it

    store = storage.connect(settings.storage, settings.state_dir)
    scores = logits.open_store(settings, store)
    with working("distillation", "distilling the student", devices=1) as report:
        artifact = distillation.distill(snapshot, scores, settings, force=force, progress=report)
    best = artifact.report["epochs"][artifact.report["best_epoch"] - 1]
    say(
        f"distilled on {artifact.report['train_pairs']:,} pairs: epoch {best['number']} of "
        f"{len(artifact.report['epochs'])}, validation score {best['validation_score']:.4f}, exports hold parity"
    )
    return artifact
