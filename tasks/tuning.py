"""tune_student: more trials of a study, and their table on the run page."""

from prefect.artifacts import create_table_artifact

from restill import logits, storage, tuning
from restill.settings import Settings
from restill.snapshots import Snapshot
from restill.tuning import TrialRecord
from tasks.progress import reporting, say
from tasks.step import HOURS, step


@step("tune on {snapshot.short}", timeout_seconds=7 * 24 * HOURS)
def tune_student(
    snapshot: Snapshot, settings: Settings, *, study: str, space: dict[str, str], trials: int
) -> list[TrialRecord]:
    """Run more trials of a study and return all of them, the best first."""
    scores = logits.open_store(settings, storage.connect(settings.storage, settings.state_dir))
    opened = tuning.open_study(settings, study)

    def tell(trial: TrialRecord) -> None:
        score = f"validation score {trial.score:.4f}" if trial.score is not None else trial.why
        drawn = ", ".join(f"{name} {value}" for name, value in trial.values.items()) or "as configured"
        say(f"trial {trial.number} {trial.state}: {score} ({drawn})")

    with reporting("tuning", "training a trial") as report:
        tuning.tune(
            snapshot, scores, settings, opened, space=space, new_trials=trials, progress=report, after_trial=tell
        )
    found = tuning.trials(opened)
    create_table_artifact(
        key="trials",
        table=[
            {"trial": trial.number, "state": trial.state, "score": trial.score, "epochs": trial.epochs, **trial.values}
            for trial in found
        ],
        description=f"study {study}: every trial, the best first, by its score on the validation split",
    )
    return found
