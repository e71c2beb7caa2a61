"""Search for better settings on the validation split; nothing is registered or promoted."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.score import score_missing
from restill import tuning
from restill.settings import load_settings
from tasks.progress import run_name
from tasks.snapshot import pull_snapshot
from tasks.tuning import tune_student


@flow(name="tune", description=__doc__, flow_run_name=run_name("tune"))
def tune(
    trials: int = 10, study: str = "default", space: dict[str, str] | None = None, data_version: str | None = None
) -> Any:
    """Run more trials of a study; the same study goes on where it stopped.

    Args:
        trials: students to train now.
        study: a name; trials of one study are of one data version and teacher.
        space: setting → `low:high`, `low:high:log` or values with commas; default: sizes, losses, temperature, alpha.
        data_version: version of the data set; default: the one that data.dvc names.
    """
    settings = load_settings()
    snapshot = pull_snapshot(settings, data_version)
    score_missing(snapshot, settings)
    found = tune_student(snapshot, settings, study=study, space=space or tuning.DEFAULT_SPACE, trials=trials)
    best = tuning.best(found)
    sentence = "No trial ended with a score." if best is None else f"Best is trial {best.number}: {best.score:.4f}."
    return Completed(message=f"{len(found)} trials of study {study}. {sentence}", data=found)
