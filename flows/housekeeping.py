"""Check that the registry is whole, and remove what nobody needs any more."""

from datetime import timedelta
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.recorded import recorded
from restill.errors import IntegrityError
from restill.retention import Collected, Policy
from restill.settings import Settings
from tasks.housekeeping import collect_garbage, sweep_texts, verify_registry
from tasks.progress import run_name

# What each means stands in the docstring below: Prefect takes the form's words from there.
Days = Annotated[float, Field(ge=1, le=3650)]


@flow(name="housekeeping", description=__doc__, flow_run_name=run_name("housekeeping"))
def housekeeping(
    dry_run: bool = False,
    grace_days: Days = 7.0,
    keep: Annotated[int, Field(ge=1)] | None = None,
    expire_candidates_days: Days | None = None,
) -> Any:
    """Verify first: nothing is removed from a registry that is not whole, and the run fails.

    Args:
        dry_run: only say what would be removed.
        grace_days: nothing younger than so many days is removed.
        keep: keep so many champions of each alias; unset: every one that ever was.
        expire_candidates_days: versions that were never promoted go when they are so old; unset: never.
    """
    candidates = timedelta(days=expire_candidates_days) if expire_candidates_days is not None else None
    policy = Policy(grace=timedelta(days=grace_days), keep=keep, candidates=candidates)

    def work(settings: Settings) -> tuple[str, Collected]:
        found = verify_registry(settings)
        if found.problems:
            count = f"{len(found.problems)} problems" if len(found.problems) > 1 else "a problem"
            raise IntegrityError(
                f"The registry has {count}, so nothing was removed. {found.problems[0]}",
                hint="All of them: restill registry verify. What to do: docs/registry.md.",
            )
        done = collect_garbage(policy, settings, dry_run=dry_run)
        texts = 0 if dry_run else sweep_texts(settings)
        whole = f"The registry is whole: {found.entries} promotions, {found.versions} versions, {found.objects} files."
        return f"{whole} {_removed(done, texts, dry_run=dry_run)}", done

    return recorded("housekeeping", work)


def _removed(done: Collected, texts: int, *, dry_run: bool) -> str:
    said = f"{'Would remove' if dry_run else 'Removed'} {len(done.removed)} objects, {done.bytes:,} bytes"
    said += f", and {texts} objects with texts" if texts else ""
    retired = len(done.retired)
    return f"{said}; {'would retire' if dry_run else 'retired'} {retired} versions." if retired else f"{said}."
