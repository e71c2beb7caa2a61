"""When a step is tried again: only when the world failed, never when it said no."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from restill.errors import StorageUnreachable

RETRIES = 3
RETRY_DELAYS_SECONDS: list[float] = [2, 10, 30]


async def storage_failed(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Return whether the step failed because the object store could not be reached."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, StorageUnreachable)
