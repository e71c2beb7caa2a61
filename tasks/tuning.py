"""tune_student: more trials of a study, and their table on the run page."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from restill import logits, storage, tuning
from restill.settings import Settings
from restill.snapshots import Snapshot
from restill.tuning import TrialRecord
from tasks.progress import say
from tasks.recording import current
from tasks.step import HOURS, step
from tasks.working import working


@step("tune on {snapshot.short}", timeout_seconds=7 * 24 * HOURS)
def tune_student(
    snapshot: Snapshot, settings: Settings, *, study: str, space: dict[str, str], trials: int
) -> list[TrialRecord]:
    """Run more trials of a study and return all of them, the best first."""
    scores = logits.open_store(settings, storage.connect(settings.storage, settings.state_dir))
    opened = tuning.open_study(settings, study)

    def tell(trial: TrialRecord) -> None:
        score = f"validation score {trial.score:.4f}" if trial.score is not None and not trial.why else trial.why
        drawn = ", ".join(f"{name} {value}" for name, value in trial.values.items()) or "as configured"
        current().trials += 1
        say(f"trial {trial.number} {trial.state}: {score} ({drawn})")

    try:
        with working("tuning", "training a trial", devices=1) as report:
            tuning.tune(
                snapshot, scores, settings, opened, space=space, new_trials=trials, progress=report, after_trial=tell
            )
    finally:  # also where the run stops at its ceiling: what was tried can be seen
        found = tuning.trials(opened)
        _show(study, found)
    return found


def _show(study: str, found: list[TrialRecord]) -> None:
    create_table_artifact(
        key="trials",
        table=_table(found),
        description=f"study {study}: every trial, the best first, by its score on the validation split",
    )
    best = tuning.best(found)
    if best is not None and best.values:
        lines = "\n".join(tuning.toml_lines(best))
        create_markdown_artifact(
            key="best-settings",
            markdown=f"For `restill.toml`, trial {best.number} of study `{study}`:\n\n```toml\n{lines}\n```\n",
            description=f"study {study}: what the best trial had, score {best.score:.4f}",
        )


def _table(found: list[TrialRecord]) -> list[dict[str, object]]:
    """Return a row for each trial, all of them with the same columns: Prefect's page shows those of the first row."""
    drawn = list(dict.fromkeys(name for trial in found for name in trial.values))
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            "score": None if trial.score is None else f"{trial.score:.4f}",
            "epochs": trial.epochs,
            "seconds": None if trial.seconds is None else round(trial.seconds),
            **{name: trial.values.get(name, "as configured") for name in drawn},
            **({"why": trial.why} if any(trial.why for trial in found) else {}),
        }
        for trial in found
    ]
