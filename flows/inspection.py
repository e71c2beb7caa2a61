"""What `restill doctor` asks the Prefect server."""

from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows import registration, workers
from restill.doctor import Check
from restill.settings import Settings

_DEPLOY = "restill deploy, or restill up"


def inspect(settings: Settings) -> list[Check]:
    """Return whether deployments are there and as they should be, pools have workers, and schedules plan runs.

    Raises: ConfigurationError if the file with the deployments is wrong; httpx's errors.
    """
    file = settings.stack.deployments
    entries = registration.read(file).deployments
    with get_client(sync_client=True) as client:
        names = [registration.name_of(entry) for entry in entries]
        found = [_find(client, name) for name in names]
        checks = [_deployments(names, found, registration.is_current(file))]
        pools = sorted({entry.work_pool.name for entry in entries})
        checks += [_pool(client, pool, settings) for pool in pools]
        for name, deployment in zip(names, found, strict=True):
            if deployment is not None and any(schedule.active for schedule in deployment.schedules):
                checks.append(_schedule(client, name.partition("/")[0], deployment))
    return checks


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _deployments(names: list[str], found: list[DeploymentResponse | None], current: bool) -> Check:
    absent = [name for name, deployment in zip(names, found, strict=True) if deployment is None]
    if absent:
        return Check("deployments", "missing", f"not registered: {', '.join(absent)}", _DEPLOY)
    if not current:
        return Check("deployments", "note", "registered by another version of Restill, or from another file", _DEPLOY)
    paused = [
        name for name, deployment in zip(names, found, strict=True) if deployment is not None and deployment.paused
    ]
    if paused:
        return Check(
            "deployments", "note", f"paused: {', '.join(paused)}", "Resume it in the UI, when it is to run again."
        )
    return Check("deployments", "ok", f"{len(names)} registered")


def _pool(client: SyncPrefectClient, pool: str, settings: Settings) -> Check:
    online = workers.online(client, pool)
    if online:
        return Check(f"pool {pool}", "ok", ", ".join(online))
    used = {
        settings.scoring.deployment.partition("/")[2] if settings.scoring.on == "pool" else "",
        settings.latency.deployment.partition("/")[2] if settings.latency.on == "pool" else "",
        "cpu",
        *settings.stack.workers,
    }
    mend = f"restill up starts one here; elsewhere: prefect worker start --pool {pool} --type process"
    return Check(f"pool {pool}", "missing" if pool in used else "note", "no worker reports", mend)


def _schedule(client: SyncPrefectClient, flow: str, deployment: DeploymentResponse) -> Check:
    """Look for a planned run: a server whose scheduler fails registers schedules all the same."""
    planned = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC)),
        ),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,  # the API refuses to be asked without one
        limit=1,
    )
    name = f"schedule of {flow}"
    if deployment.paused:
        return Check(name, "note", "paused", "Resume it in the UI, when it is to run again.")
    if not planned:
        return Check(
            name,
            "missing",
            "active, but the server has planned no run (it takes a minute after registering)",
            "Look for errors of the scheduler in the server's log (.restill/logs/prefect.log).",
        )
    start = planned[0].expected_start_time
    return Check(name, "ok", f"next run {start:%Y-%m-%d %H:%M} UTC" if start else "a run is planned")
