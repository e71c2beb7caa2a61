"""Flow runs on workers elsewhere, asked for by a step: started, waited for, cancelled. No step of its own."""

import time
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Cancelling

from restill.errors import ConfigurationError, MeasurementFailed

_LOOK_SECONDS = 0.5
_CANCEL_SECONDS = 15.0  # that a cancelled run gets to end by itself; a dead worker's never does


def require_server(setting: str) -> None:
    """Refuse workers elsewhere without a server that they can reach: each would start one of its own.

    Raises: ConfigurationError naming the setting that asks for them.
    """
    if get_current_settings().api.url is None:
        raise ConfigurationError(
            f"{setting} needs a Prefect server that the workers can reach; none is set up.",
            hint="Start one (`prefect server start`) and set PREFECT_API_URL here and for the workers.",
        )


def start(deployment: str, parameters: dict[str, Any], name: str, *, setting: str, page: str) -> UUID:
    """Ask for one run of a deployment and return its id.

    Args:
        deployment: as flow/name.
        parameters: of the flow; references, as there is a limit on their size.
        name: of the run.
        setting: where the deployment is configured.
        page: which page of the documentation tells how to register it.
    Raises: ConfigurationError if there is no such deployment.
    """
    try:
        run = run_deployment(deployment, parameters=parameters, flow_run_name=name, timeout=0)
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"There is no deployment {deployment} on the Prefect server.",
            hint=f"Register it: see {page}; or set {setting}.",
        ) from error
    return run.id  # type: ignore[union-attr]


def wait(run: UUID, *, seconds: float) -> None:
    """Return when a run has completed; one that does not is cancelled.

    Raises: MeasurementFailed saying how else it ended, or that it did not end in time.
    """
    deadline = time.monotonic() + seconds
    with get_client(sync_client=True) as client:
        state: State[Any] | None = None
        try:
            while True:
                found = _read(client, run)
                state = found.state if found is not None else state  # a server that does not answer may do so again
                if state is not None and state.is_final():
                    break
                if time.monotonic() > deadline:
                    raise MeasurementFailed(
                        f"The flow run {run} is {state.name if state else 'not known'} after {seconds:,.0f} s.",
                        hint="See that a worker of its pool runs, is not busy, and reaches the Prefect server.",
                    )
                time.sleep(_LOOK_SECONDS)
        finally:
            if state is None or not state.is_final():
                _cancel(client, run)
    if not state.is_completed():
        raise MeasurementFailed(
            f"The flow run {run} is {state.name}: {state.message or 'no reason'}",
            hint="Its log says more; so does the log of the worker that ran it.",
        )


def _read(client: SyncPrefectClient, run: UUID) -> FlowRun | None:
    try:
        return client.read_flow_run(run)
    except ObjectNotFound as error:
        raise MeasurementFailed(f"The flow run {run} was deleted.", hint="Run again.") from error
    except httpx.HTTPError:
        return None


def _cancel(client: SyncPrefectClient, run: UUID) -> None:
    """Cancel a run that is not needed any more; nobody else would: it does not end with the run that asked for it."""
    gone: State[Any] = Cancelled(message="no longer needed, and its worker did not answer")
    try:
        client.set_flow_run_state(run, Cancelling(message="no longer needed"))
        deadline = time.monotonic() + _CANCEL_SECONDS
        while time.monotonic() < deadline:
            state = client.read_flow_run(run).state
            if state is not None and state.is_final():
                return
            time.sleep(_LOOK_SECONDS)
        client.set_flow_run_state(run, gone, force=True)
    except (ObjectNotFound, httpx.HTTPError):
        return
