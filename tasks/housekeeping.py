"""verify_registry, collect_garbage, sweep_texts: the registry is whole, and nothing is kept that nobody needs."""

from prefect.artifacts import create_table_artifact

from restill import retention, storage, verification
from restill.logits import cleaning
from restill.registry import Registry
from restill.retention import Collected, Policy
from restill.settings import Settings
from restill.verification import Verification
from tasks.progress import say
from tasks.step import HOURS, step


def _registry(settings: Settings) -> Registry:
    return Registry.configured(storage.connect(settings.storage, settings.state_dir), settings.registry)


@step("verify the registry", timeout_seconds=12 * HOURS)
def verify_registry(settings: Settings) -> Verification:
    """Check every history, manifest, verdict and stored file against the digests that promise them."""
    found = verification.check(_registry(settings))
    said = [{"kind": "problem", "what": line} for line in found.problems]
    said += [{"kind": "note", "what": line} for line in found.notes]
    if said:
        create_table_artifact(key="registry-problems", table=said, description="restill registry verify")
    say(
        f"{len(found.problems)} problems in {found.entries} entries, {found.versions} versions, {found.objects} files, "
        f"{found.bytes:,} bytes"
    )
    return found


@step("remove what no version names", timeout_seconds=12 * HOURS)
def collect_garbage(policy: Policy, settings: Settings, *, dry_run: bool) -> Collected:
    """Remove what the policy allows and nobody needs, or only say what that would be."""
    done = retention.collect(_registry(settings), policy, dry_run=dry_run)
    rows = [{"what": item.key, "bytes": item.size} for item in done.removed]
    rows += [{"what": f"version {version[:12]} is retired", "bytes": 0} for version in done.retired]
    if rows:
        create_table_artifact(key="removed", table=rows, description="would be removed" if dry_run else "removed")
    say(f"{len(done.removed)} objects, {done.bytes:,} bytes; {len(done.retired)} versions retired")
    return done


@step("remove texts that wait for nobody", timeout_seconds=2 * HOURS)
def sweep_texts(settings: Settings) -> int:
    """Remove texts that were to be scored and are not needed any more; returns how many objects."""
    gone = cleaning.sweep_all(storage.connect(settings.storage, settings.state_dir))
    say(f"{gone} objects with texts that waited to be scored")
    return gone
