"""A light flow for the test of the topology: the project's own take half a minute to import TensorFlow."""

import time
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.events import emit_event


@flow
def note(folder: str, what: str, announce: bool = False, after: str | None = None) -> None:
    """Leave a file, once: doing the same thing twice is an error.

    Args:
        folder: where the files are left.
        what: name of the file.
        announce: emit an event, before anything else.
        after: name of a file there that must come first.
    """
    if announce:
        emit_event("restill.files.arrived", resource={"prefect.resource.id": f"restill.incoming.{what}"})
    deadline = time.monotonic() + 180
    while after is not None and not (Path(folder) / after).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(after)
        time.sleep(0.1)
    get_run_logger().info("noting %s", what)
    with (Path(folder) / what).open("x") as file:
        file.write(what)
