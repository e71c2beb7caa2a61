"""time_order: one latency run on a worker of the pool."""

from restill import storage
from restill.measurements.latency import orders
from restill.settings import load_settings
from tasks.progress import say
from tasks.step import HOURS, step


@step("time the artifacts", timeout_seconds=1 * HOURS)
def time_order(order: str) -> str:
    """Time what an order names, with the object store that is configured on this machine; say what it was timed on."""
    settings = load_settings()
    store = storage.connect(settings.storage, settings.state_dir)
    run = orders.fulfil(order, store, settings.state_dir / "cache" / "versions")
    sentence = f"Timed {run.timings.challenger_ms.size:,} requests an arm on {run.hardware}."
    say(sentence)
    return sentence
