"""make_plan: what is left to be done."""

from restill import plans, storage
from restill.plans import Plan
from restill.settings import Settings
from tasks.step import MINUTES, step


@step("plan", timeout_seconds=10 * MINUTES)
def make_plan(settings: Settings, data_version: str | None = None) -> Plan:
    """Look at incoming files, data version, teacher scores and registry; change nothing."""
    store = storage.connect(settings.storage, settings.state_dir)
    return plans.make_plan(settings, store, data_version=data_version)
