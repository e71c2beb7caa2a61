"""make_plan: what is left to be done."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from restill import plans, storage
from restill.plans import Plan
from restill.settings import Settings
from tasks.retries import RETRIES, RETRY_DELAYS_SECONDS, storage_failed


@task(
    task_run_name="plan",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_SECONDS,
    retry_condition_fn=storage_failed,
    timeout_seconds=10 * 60,
    cache_policy=NO_CACHE,
)
def make_plan(settings: Settings) -> Plan:
    """Look at incoming files, data version, teacher scores and registry; change nothing."""
    return plans.make_plan(settings, storage.connect(settings.storage, settings.state_dir))
