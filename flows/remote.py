"""A run of a deployment, started from here and watched from here; it runs on a worker."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId, LogFilterTimestamp
from prefect.client.schemas.objects import FlowRun, Log, State
from prefect.client.schemas.sorting import LogSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_UI_URL

from flows.workers import online
from restill.errors import ConfigurationError, PrefectUnreachable

_LOOK_SECONDS = 1.0
_LATE = timedelta(seconds=30)  # a line may reach the server after lines that are younger
_SILENT_SECONDS = 300.0  # that the server may not answer before watching is given up
_TAIL_SECONDS = 10.0  # lines still on their way when the run has ended


def start(deployment: str, parameters: dict[str, Any]) -> FlowRun:
    """Ask for one run. Raises: ConfigurationError if there is no such deployment, or it refuses the parameters."""
    try:
        return run_deployment(deployment, parameters=parameters, timeout=0, as_subflow=False)  # type: ignore[return-value]
    except ObjectNotFound as error:
        raise ConfigurationError(
            f"There is no deployment {deployment} on the Prefect server.", hint="Register it with `restill deploy`."
        ) from error
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY):
            raise
        raise ConfigurationError(
            f"{deployment} refuses the parameters: {_detail(error)}", hint="Start it again with other values."
        ) from error


def address(run: UUID) -> str:
    """Return where a run's page is."""
    return f"{(PREFECT_UI_URL.value() or '').rstrip('/')}/runs/flow-run/{run}"


def missing_worker(run: FlowRun) -> str | None:
    """Return the name of the pool that a run waits for, if nobody works there."""
    with get_client(sync_client=True) as client:
        return None if run.work_pool_name is None or online(client, run.work_pool_name) else run.work_pool_name


def watch(run: UUID, *, on_state: Callable[[State[Any], FlowRun], None], on_line: Callable[[Log], None]) -> FlowRun:
    """Tell of each new state and log line until a run has ended; return it as it ended.

    A server that does not answer for some minutes (it is restarted) is waited for.

    Raises: PrefectUnreachable; ConfigurationError if somebody deletes the run.
    """
    lines = _Lines(run)
    last: UUID | None = None
    answered = time.monotonic()
    with get_client(sync_client=True) as client:
        while True:
            try:
                found = client.read_flow_run(run)
                new = list(lines.new(client))
                answered = time.monotonic()
            except ObjectNotFound as error:
                raise ConfigurationError(f"The flow run {run} was deleted.", hint="Start it again.") from error
            except httpx.HTTPError as error:
                if time.monotonic() - answered > _SILENT_SECONDS:
                    raise PrefectUnreachable(
                        f"The Prefect server has not answered for {_SILENT_SECONDS:.0f} s; the run goes on without us.",
                        hint=f"restill status says what is down. Its page: {address(run)}",
                    ) from error
                time.sleep(_LOOK_SECONDS)
                continue
            for line in new:
                on_line(line)
            state = found.state
            if state is not None and state.id != last:
                last = state.id
                if state.is_final():
                    for line in lines.rest(client):
                        on_line(line)
                on_state(state, found)
            if state is not None and state.is_final():
                return found
            time.sleep(_LOOK_SECONDS)


class _Lines:
    """The log of a run, each line once."""

    def __init__(self, run: UUID) -> None:
        self._run = run
        self._seen: set[UUID] = set()
        self._latest: datetime | None = None

    def new(self, client: SyncPrefectClient) -> Iterator[Log]:
        after = LogFilterTimestamp(after_=self._latest - _LATE) if self._latest else None
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[self._run]), timestamp=after)
        offset = 0
        while page := client.read_logs(wanted, limit=200, offset=offset, sort=LogSort.TIMESTAMP_ASC):
            offset += len(page)
            for line in page:
                if line.id not in self._seen:
                    self._seen.add(line.id)
                    self._latest = max(line.timestamp, self._latest or line.timestamp)
                    yield line

    def rest(self, client: SyncPrefectClient) -> Iterator[Log]:
        """Give what is still on its way when the run has ended: until nothing came for two looks."""
        deadline, quiet = time.monotonic() + _TAIL_SECONDS, 0
        while quiet < 2 and time.monotonic() < deadline:
            came = list(self.new(client))
            yield from came
            quiet = 0 if came else quiet + 1
            time.sleep(_LOOK_SECONDS)


def _detail(error: PrefectHTTPStatusError) -> str:
    try:
        return str(error.response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return error.response.text[:500]
