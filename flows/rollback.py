"""Point the champion alias at an earlier version."""

from typing import Any

from prefect import flow

from flows.recorded import recorded
from restill.settings import Settings
from tasks.progress import run_name
from tasks.registry import roll_back


@flow(name="rollback", description=__doc__, flow_run_name=run_name("rollback"))
def rollback(reason: str, by: str, to: str | None = None) -> Any:
    """Append an entry to the history that names an earlier version.

    Args:
        reason: why; kept for ever.
        by: who decides.
        to: version or its first characters; default: the one that was live before.
    """

    def work(settings: Settings) -> tuple[str, object]:
        entry = roll_back(settings, to=to, reason=reason, by=by)
        return f"Champion is {entry.version[:12]} (number {entry.sequence}): {reason}", entry

    return recorded("rollback", work)
