"""Who times artifacts for a step that measures: this machine, or a worker of a Prefect pool. No step of its own."""

from restill import evaluation, storage
from restill.errors import MeasurementFailed
from restill.evaluation import Candidate, Timer
from restill.measurements import Latency
from restill.measurements.latency import orders
from restill.measurements.latency.records import Timings
from restill.measurements.latency.summary import summarise
from restill.measurements.rows import Rows
from restill.registry import Registry
from restill.settings import Settings
from tasks import deployments


def timer(settings: Settings) -> Timer:
    """Return who times artifacts, as configured.

    Raises: ConfigurationError if that needs a Prefect server, and none is set up.
    """
    if settings.latency.on == "here":
        return evaluation.time_artifacts
    deployments.require_server(f"latency.on = {settings.latency.on}")
    return time_on_pool


def time_on_pool(
    challenger: Candidate, champion: Candidate | None, rows: Rows, settings: Settings, *, factor: int = 1
) -> tuple[Latency, Timings]:
    """Have both artifacts timed by a flow run of the configured deployment; its texts are in the store meanwhile."""
    store = storage.connect(settings.storage, settings.state_dir)
    order = orders.place(
        Registry.configured(store, settings.registry),
        challenger.manifest,
        champion.manifest if champion else None,
        evaluation.timed_pairs(rows),
        requests=settings.latency.requests * factor,
        warmup=settings.latency.warmup,
        threads=settings.latency.threads,
    )
    try:
        started = deployments.start(
            settings.latency.deployment,
            {"order": order.key},
            f"time-{challenger.manifest.short}",
            setting="latency.deployment",
            page="docs/latency.md",
        )
        try:
            deployments.wait(started, seconds=settings.latency.timeout_seconds)
        except MeasurementFailed as error:
            raise MeasurementFailed(f"Latency was not measured on the pool. {error}", hint=error.hint) from error
        run = orders.collect(store, order)
    finally:
        orders.remove(store, order)
    return summarise(run, confidence=settings.gates.confidence), run.timings
