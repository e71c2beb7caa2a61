"""A whole stack, as `restill up` starts it, seen through Prefect's API."""

import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterExpectedStartTime, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.states import Cancelling
from project_folder import Project

from restill.registry import Registry
from restill.settings import RegistrySettings
from restill.storage import ObjectStore
from restill.storage.embedded import EmbeddedServer

_LOOK_SECONDS = 0.5


def until(found: Callable[[], object], *, seconds: float, what: str) -> object:
    """Wait until something is found, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := found():
            return answer
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(_LOOK_SECONDS)


class Stack:
    """The stack of one project, on a port of its own."""

    def __init__(self, project: Project) -> None:
        self.project = project
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        project.environment["RESTILL_STACK__PORT"] = str(self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = SyncPrefectClient(api=f"{self.url}/api", httpx_settings={"timeout": 60})

    def up(self) -> None:
        """Start it; nothing looks for new files, as when that would start runs a test could not foresee."""
        done = self.project.restill("up", own_server=True, seconds=600)
        assert done.returncode == 0, done.stdout + done.stderr
        self.client.pause_deployment(self.client.read_deployment_by_name("watch-incoming/cpu").id)

    def down(self) -> None:
        done = self.project.restill("down", own_server=True, seconds=600)
        assert done.returncode == 0, done.stdout + done.stderr

    def part(self, name: str) -> dict[str, object]:
        """Return what `restill status` says of a part."""
        done = self.project.restill("status", "--json", own_server=True)
        return next(part for part in json.loads(done.stdout) if part["part"] == name)

    def kill(self, name: str) -> None:
        """SIGKILL a part."""
        pid = self.part(name)["pid"]
        assert isinstance(pid, int)
        psutil.Process(pid).kill()

    def registry(self) -> Registry:
        """Return the registry, through the S3 server that the stack runs."""
        store = ObjectStore(EmbeddedServer(self.project.root / ".restill").start())
        return Registry.configured(store, RegistrySettings())

    def start(self, deployment: str, **parameters: object) -> UUID:
        """Ask for a run, as a schedule or a person in the UI does."""
        found = self.client.read_deployment_by_name(deployment)
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def asked(self) -> list[FlowRun]:
        """Return the runs that somebody asked for, the newest first; those that a schedule has planned are not."""
        soon = datetime.now(UTC) + timedelta(minutes=1)  # schedules plan hundreds, and one answer has 200 at most
        found = self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(before_=soon)),
            limit=200,
            offset=0,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
        return [run for run in found if not run.auto_scheduled]

    def run(self, run: UUID) -> FlowRun:
        return self.client.read_flow_run(run)

    def state(self, run: UUID) -> str:
        return str(self.run(run).state.name)

    def until_final(self, run: UUID, *, seconds: float = 400) -> FlowRun:
        """Wait until a run has ended."""

        def ended() -> FlowRun | None:
            found = self.run(run)
            return found if found.state is not None and found.state.is_final() else None

        found = until(ended, seconds=seconds, what=f"the end of {run}")
        assert isinstance(found, FlowRun)
        return found

    def until_step(self, run: UUID, name: str, *, seconds: float = 300) -> TaskRun:
        """Wait until a run is inside the step whose name begins so."""

        def inside() -> TaskRun | None:
            for step in self.steps(run):
                if step.name.startswith(name) and step.state is not None and step.state.is_running():
                    return step
            state = self.run(run).state
            assert state is None or not state.is_final(), f"it ended before {name}: {state}"
            return None

        found = until(inside, seconds=seconds, what=f"step {name} of {run}")
        assert isinstance(found, TaskRun)
        return found

    def cancel(self, run: UUID) -> None:
        """Ask for the end of a run, as the button in the UI does."""
        self.client.set_flow_run_state(run, Cancelling(message="by a person"))

    def steps(self, run: UUID) -> list[TaskRun]:
        return self.client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])),
            sort=TaskRunSort.EXPECTED_START_TIME_ASC,
            limit=200,
            offset=0,
        )

    def process(self, run: UUID) -> psutil.Process:
        """Return the process that runs a flow."""
        pid = str(self.run(run).infrastructure_pid).rpartition(":")[2]
        return psutil.Process(int(pid))
