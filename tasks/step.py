"""What every step has: retries when the world failed, never when it said no; a timeout; no cache of its own.

What is already done is known from the stores (docs/decisions/0003-no-prefect-caching.md), so Prefect caches nothing.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from restill.errors import AccessDenied, StorageUnreachable
from tasks.recording import current

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_SECONDS: list[float] = [2, 10, 30]
MINUTES, HOURS = 60, 60 * 60


def step(name: str, *, timeout_seconds: float) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a Prefect task of a function, whose time is noted in the run's record.

    Args:
        name: of its runs; `{argument.attribute}` is filled in.
        timeout_seconds: after which a run is given up.
    """

    def made(work: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(work)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with current().step(work.__name__):
                return work(*args, **kwargs)

        return task(
            task_run_name=name,
            timeout_seconds=timeout_seconds,
            retries=len(RETRY_DELAYS_SECONDS),
            retry_delay_seconds=RETRY_DELAYS_SECONDS,
            retry_condition_fn=storage_failed,
            cache_policy=NO_CACHE,
        )(timed)

    return made


async def storage_failed(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Return whether the step failed because the object store could not be reached; a refusal is an answer."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, StorageUnreachable) and not isinstance(error, AccessDenied)
