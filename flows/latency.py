"""Latency measured on the hardware that serves: `retrain` asks, a worker of a pool of its own answers."""

from typing import Any

from prefect import flow
from prefect.states import Completed
from prefect.types.entrypoint import EntrypointType

from tasks.latency import time_order


@flow(name="time-artifacts", description="One latency run of a `retrain`, on a worker of the pool.")
def time_artifacts(order: str) -> Any:
    """Time a challenger, the champion and its twin. Needs the object store, and neither data set nor teacher.

    Args:
        order: key of the order in the object store.
    """
    return Completed(message=time_order(order))


def register(work_pool: str = "latency") -> None:
    """Register the deployment `time-artifacts/<work_pool>`, which a worker runs from the installed package.

    In code, as `prefect deploy` of Prefect 3.8 registers it too, but then ends with an error (422 of its own server).
    """
    time_artifacts.to_deployment(
        name=work_pool, work_pool_name=work_pool, entrypoint_type=EntrypointType.MODULE_PATH
    ).apply()  # type: ignore[union-attr]
