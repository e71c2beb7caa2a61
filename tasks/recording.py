"""The record of the run that a step belongs to: what steps note there, and how it is written. No step of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from restill import runs, storage
from restill.errors import RestillError
from restill.runs import Result, Run, Started
from restill.settings import Settings

_current: ContextVar[Run] = ContextVar("run")


def current() -> Run:
    """Return the record of this run; of a run that keeps none, one that nobody reads."""
    return _current.get(None) or Run()


@contextmanager
def recording(run: Run) -> Iterator[Run]:
    """Have steps note what they did in a record."""
    token = _current.set(run)
    try:
        yield run
    finally:
        _current.reset(token)


def begin(flow: str, settings: Settings) -> Started | None:
    """Write that this run has begun; None, with a warning in the log, if that cannot be written."""
    try:
        store = storage.connect(settings.storage, settings.state_dir)
        return runs.begin(
            store,
            flow=flow,
            model=settings.registry.model,
            run_id=str(flow_run.get_id()),
            name=str(flow_run.get_name()),
        )
    except RestillError as error:
        get_run_logger().warning("%s This run is not in restill history. %s", error, error.hint)
        return None


def end(started: Started | None, settings: Settings, *, sentence: str, result: Result | None = None) -> None:
    """Write how this run ended; without a result, as its steps tell. A warning in the log if it cannot be written."""
    if started is None:
        return
    run = current()
    try:
        store = storage.connect(settings.storage, settings.state_dir)
        runs.end(store, started, run, sentence=sentence, result=result or run.result)
    except RestillError as error:
        get_run_logger().warning("%s The end of this run is not in restill history. %s", error, error.hint)
