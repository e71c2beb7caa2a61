"""Search for better settings on the validation split; nothing is registered or promoted."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.parameters import DataVersion, checked
from flows.recorded import recorded
from flows.score import score_missing
from restill import tuning
from restill.settings import Settings
from restill.tuning import TrialRecord
from tasks.progress import run_name
from tasks.snapshot import pull_snapshot
from tasks.tuning import tune_student


@flow(name="tune", description=__doc__, flow_run_name=run_name("tune"), validate_parameters=False)
@checked
def tune(
    trials: Annotated[int, Field(ge=1, le=10_000)] = 10,
    study: Annotated[str, Field(pattern=tuning.STUDY_NAME)] = "default",
    space: dict[str, str] | SkipJsonSchema[None] = None,
    data_version: DataVersion | SkipJsonSchema[None] = None,
) -> Any:
    """Run more trials of a study; the same study goes on where it stopped.

    Args:
        trials: students to train now.
        study: a name; trials of one study are of one data version and teacher, and stay on the worker's machine.
        space: what to draw, as in {"distillation.alpha": "0:0.9", "student.hidden_size": "64,96,128"}: a setting, then
            low:high, low:high:log, or values with commas. Default: sizes, losses, temperature, alpha.
        data_version: this version of the data set, or the one that begins so; default: the one that data.dvc names.
    """
    drawn = tuning.DEFAULT_SPACE if space is None else space

    def work(settings: Settings) -> tuple[str, list[TrialRecord]]:
        tuning.distributions(drawn, settings)  # a wrong one is refused now, not after hours of scoring
        snapshot = pull_snapshot(settings, data_version)
        score_missing(snapshot, settings)
        found = tune_student(snapshot, settings, study=study, space=drawn, trials=trials)
        best = tuning.best(found)
        sentence = "No trial ended with a score." if best is None else f"Best is trial {best.number}: {best.score:.4f}."
        return f"{len(found)} trials of study {study}. {sentence}", found

    return recorded("tune", work)
