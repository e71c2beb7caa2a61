"""Fill the store of teacher scores: only what a data version lacks is computed, here or by workers elsewhere."""

import time
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.states import Completed
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows.parameters import DataVersion, checked
from flows.recorded import recorded
from restill.logits import ScoreReport
from restill.settings import Settings
from restill.snapshots import Snapshot
from tasks.progress import run_name
from tasks.snapshot import pull_snapshot
from tasks.teacher import collect_scores, compute_share, plan_scoring, score_here, score_in_pool, score_on_dask

Workers = Annotated[int, Field(ge=1, le=1000)]


@flow(name="score", description=__doc__, flow_run_name=run_name("score"), validate_parameters=False)
@checked
def score(
    data_version: DataVersion | SkipJsonSchema[None] = None,
    on: Literal["here", "pool", "dask"] | SkipJsonSchema[None] = None,
    workers: Workers | SkipJsonSchema[None] = None,
) -> Any:
    """Score every sentence (or pair) of a data version that has no score of the configured teacher yet.

    A run that was killed is continued by the next one; what is stored is kept.

    Args:
        data_version: this version of the data set, or the one that begins so; default: the one that data.dvc names.
        on: who computes. here: this machine; pool: workers of a Prefect work pool; dask: workers of a Dask cluster.
            Default: as configured.
        workers: worker processes; default: as configured.
    """
    chosen = {name: value for name, value in {"on": on, "workers": workers}.items() if value is not None}

    def work(settings: Settings) -> tuple[str, object]:
        settings = settings.model_copy(update={"scoring": settings.scoring.model_copy(update=chosen)})
        report = score_missing(pull_snapshot(settings, data_version), settings)
        return report.sentence, report

    return recorded("score", work)


def score_missing(snapshot: Snapshot, settings: Settings) -> ScoreReport:
    """Plan what is missing, have it computed, and tidy up: the part that `retrain` has in common with `score`."""
    started = time.monotonic()
    need, plan = plan_scoring(snapshot, settings)
    if plan is not None:
        compute = {"here": score_here, "pool": score_in_pool, "dask": score_on_dask}[settings.scoring.on]
        compute(plan, settings)
    return collect_scores(plan, need, settings, seconds=time.monotonic() - started)


@flow(
    name="score-share",
    description="One worker's share of a `score` run, on a worker of the pool.",
    validate_parameters=False,
)
@checked
def score_share(plan: str, share: Annotated[int, Field(ge=0)] = 0, shares: Workers = 1) -> Any:
    """Work on a plan until all of it is stored. Needs the object store and the teacher, and no data set.

    Args:
        plan: key of the plan in the object store.
        share: this worker's number, from 0.
        shares: how many workers there are.
    """
    report = compute_share(plan, share, shares, on_gpu=True)
    return Completed(message=report.sentence, data=report)
