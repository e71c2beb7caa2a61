"""Latency measured on the hardware that serves: `retrain` asks, a worker of a pool of its own answers."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from tasks.latency import time_order


@flow(name="time-artifacts", description="One latency run of a `retrain`, on a worker of the pool.")
def time_artifacts(order: str) -> Any:
    """Time a challenger, the champion and its twin. Needs the object store, and neither data set nor teacher.

    Args:
        order: key of the order in the object store.
    """
    return Completed(message=time_order(order))
