"""What the Prefect server knows of workers and of runs that wait for them."""

from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

_PAGE = 200


def online(client: SyncPrefectClient, pool: str) -> list[str] | None:
    """Return the names of the workers of a pool that report; None if there is no such pool."""
    try:
        found = client.read_workers_for_work_pool(pool, limit=200, offset=0)
    except ObjectNotFound:
        return None
    return [worker.name for worker in found if worker.status == WorkerStatus.ONLINE]


def is_online(pool: str) -> bool:
    """Return whether some worker of a pool reports."""
    with get_client(sync_client=True) as client:
        return bool(online(client, pool))


def mark_crashed(runs: list[str], message: str) -> None:
    """Say of runs that their processes were ended; else they would stay `Running`, and in the way of others."""
    with get_client(sync_client=True) as client:
        for run in runs:
            try:
                state = client.read_flow_run(UUID(run)).state
                if state is None or not state.is_final():
                    client.set_flow_run_state(UUID(run), Crashed(message=message), force=True)
            except ObjectNotFound:  # somebody deleted it
                continue


def drop_backlog() -> int:
    """Forget runs that a schedule had planned while nobody could run them, but for the last of each deployment.

    After a week without workers a thousand looks for new files would do the work of one.

    Returns: how many were dropped.
    """
    overdue = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    seen: set[UUID | None] = set()
    dropped = offset = 0
    with get_client(sync_client=True) as client:
        while page := client.read_flow_runs(
            flow_run_filter=overdue, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=_PAGE, offset=offset
        ):
            before = dropped
            for run in page:
                if run.auto_scheduled and run.deployment_id in seen:
                    client.delete_flow_run(run.id)
                    dropped += 1
                elif run.auto_scheduled:
                    seen.add(run.deployment_id)
            offset += len(page) - (dropped - before)
    return dropped
