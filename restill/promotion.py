"""Promotion by hand: of what the gates passed, or, forced, of what they did not."""

from restill.errors import GateRefused
from restill.manifests import PromotionEntry
from restill.registry import Registry
from restill.verdicts import stored_verdicts


def promote_by_hand(
    registry: Registry, version: str, *, alias: str, reason: str, by: str, force: bool = False
) -> PromotionEntry:
    """Make a version champion because a person says so.

    Args:
        registry: where it is.
        version: full id or unique beginning.
        alias: which pointer moves.
        reason: why; kept for ever.
        by: who decides.
        force: also when no verdict passed it against the present champion; the entry then says so.
    Raises: GateRefused without `force`, if no verdict against the present champion passed it, or it is the champion;
        VersionNotFound; RegistryConflict if somebody promoted meanwhile.
    """
    manifest = registry.manifest(version)
    live = registry.champion(alias)
    if live is not None and live.version == manifest.version and not force:
        raise GateRefused(
            f"Version {manifest.short} is already the {alias}: number {live.sequence}, by {live.promoted_by}.",
            hint="If a promotion was cut off after that: `restill registry repair` writes what is derived from it.",
        )
    found = stored_verdicts(registry, manifest.version)
    champion = live.version if live else None
    passed = [verdict for verdict in found if verdict.passed and verdict.measurements.champion == champion]
    if not passed and not force:
        why = found[-1].reason if found else "It was never judged."
        raise GateRefused(
            f"Version {manifest.short} has no verdict that passes it against the present champion. {why}",
            hint="To promote it all the same: --force with --by and --reason; the history will show it.",
        )
    verdict = passed[-1] if passed else (found[-1] if found else None)
    return registry.promote(
        manifest.version,
        alias=alias,
        expected=live,
        reason=reason,
        promoted_by=by,
        verdict_sha256=verdict.sha256 if verdict is not None else None,
        forced=not passed,
    )
