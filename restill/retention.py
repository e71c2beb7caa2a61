"""Removing what nobody needs: `restill registry gc`. The rules are in docs/registry.md.

Files that no manifest names, and leftovers, go when they are old enough. A version goes in two runs: the first marks it
as retired, after which it is not promoted any more; a later one, at least the grace period after, removes its manifest,
so that it is gone at once for every reader, and then what lay beside it. How a removal keeps out of the way of
registrations is in `removals`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from restill import removals, views
from restill.errors import ConfigurationError
from restill.manifests import PromotionEntry, Retirement
from restill.registry import Registry, previous
from restill.storage.objects import ObjectInfo

BATCH = 25  # deletions decided at once: each must arrive before its signature ends


@dataclass(frozen=True)
class Policy:
    """What may be removed."""

    grace: timedelta = timedelta(days=7)  # nothing younger is removed
    keep: int | None = None  # champions of each alias; None: all that ever were
    candidates: timedelta | None = None  # age from which versions that were never promoted go; None: never

    def __post_init__(self) -> None:
        """Refuse what would not be safe."""
        if self.grace < removals.MIN_GRACE:
            raise ConfigurationError(
                f"A grace period of {self.grace} is too short: a registration under way could lose its files.",
                hint=f"Give at least {removals.MIN_GRACE.days} day.",
            )
        if self.keep is not None and self.keep < 1:
            raise ConfigurationError("At least one champion must be kept.", hint="Give --keep 1 or more.")


@dataclass
class Collected:
    """What a run did, or would do."""

    removed: list[ObjectInfo] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)  # versions marked now, removed by a later run
    recalled: list[str] = field(default_factory=list)  # versions whose mark was taken back
    left: list[str] = field(default_factory=list)  # keys whose deletion the server refused as too late

    @property
    def bytes(self) -> int:
        """Return how much was removed."""
        return sum(item.size for item in self.removed)


def collect(registry: Registry, policy: Policy, *, dry_run: bool = False) -> Collected:
    """Remove what the policy allows and nobody needs; a run that dies at any point is finished by the next.

    Args:
        dry_run: change nothing, only say what would be done.
    Raises: IntegrityError, ConfigurationError if a manifest or an entry cannot be read, before anything is removed:
        what it names could not be known; StorageUnreachable.
    """
    store, layout = registry.store, registry.layout
    with nullcontext("") if dry_run else removals.announced(store, layout) as announcement:
        run = _Run(registry, policy, removals.server_time(store), dry_run, announcement)
        run.names()  # fails here if it fails
        run.retire()
        run.remove_versions()
        run.remove_leftovers()
        run.remove_blobs()
        run.remove_views()
        return run.result


class _Run:
    """One run: the policy, the server's time at its start, and what was read of manifests, which never change."""

    def __init__(self, registry: Registry, policy: Policy, now: datetime, dry_run: bool, announcement: str) -> None:
        self.registry, self.policy, self.now, self.dry_run = registry, policy, now, dry_run
        self.announcement = announcement
        self.result = Collected()
        self._named: dict[str, frozenset[str]] = {}  # version → digests
        self._supposed: set[str] = set()  # keys that a dry run takes for removed

    def names(self) -> set[str]:
        """Return the digests that a manifest names now."""
        versions = self.versions()
        for version in versions:
            if version not in self._named:
                self._named[version] = frozenset(file.sha256 for file in self.registry.manifest(version).files)
        return set().union(*(self._named[version] for version in versions))

    def versions(self) -> list[str]:
        """Return the versions that have their manifest now."""
        manifest = self.registry.layout.manifest
        return [version for version in self.registry.version_ids() if manifest(version) not in self._supposed]

    def protected(self) -> tuple[set[str], set[str]]:
        """Return the versions that the histories protect now, and all that they name."""
        keep: set[str] = set()
        named: set[str] = set()
        for alias in self.registry.aliases():
            history = self.registry.history(alias)
            named |= {entry.version for entry in history}
            keep |= _kept(history, self.policy.keep)
        return keep, named

    def old(self, item: ObjectInfo, age: timedelta | None = None) -> bool:
        """Return whether an object is older than an age, by default the grace period, by the server's clock."""
        return self.now - item.modified >= (age or self.policy.grace)

    def retire(self) -> None:
        """Mark versions that may go, and take the mark from those that may stay."""
        keep, named = self.protected()
        for version, items in self.folders():
            manifest = next((item for item in items if item.key == self.registry.layout.manifest(version)), None)
            mark = next((item for item in items if item.key == self.registry.layout.retired(version)), None)
            if manifest is None:
                continue
            age = max(self.policy.grace, self.policy.candidates or self.policy.grace)
            may_go = (
                version not in keep and self.old(manifest)
                if version in named
                else self.policy.candidates is not None and all(self.old(item, age) for item in items if item != mark)
            )
            if may_go and mark is None:
                self.result.retired.append(version)
                if not self.dry_run:
                    self._mark(version, "was champion" if version in named else "was never promoted")
            elif mark is not None and not may_go:
                self.result.recalled.append(version)
                if not self.dry_run:
                    self.registry.store.delete(mark.key)

    def remove_versions(self) -> None:
        """Remove the manifests of versions that were marked long enough ago."""
        marked = {
            version: item
            for version, items in self.folders()
            for item in items
            if item.key == self.registry.layout.retired(version) and version not in self.result.recalled
        }
        # What was marked now goes in a later run: who looked before the mark was there may still promote it.
        going = {version for version, mark in marked.items() if self.old(mark)} - set(self.result.retired)

        def needed() -> set[str]:
            keep, _ = self.protected()
            layout, store = self.registry.layout, self.registry.store
            # A registration that wants the version again has taken the mark away.
            return {layout.manifest(v) for v in going if v in keep or store.head(layout.retired(v)) is None}

        manifests = {self.registry.layout.manifest(version) for version in going}
        self.remove((item for _, items in self.folders() for item in items if item.key in manifests), needed)

    def remove_leftovers(self) -> None:
        """Remove what lies beside no manifest; a champion's verdicts and its mark stay: a promotion names them."""
        layout = self.registry.layout
        _, named = self.protected()

        def lying(marks: bool) -> Iterator[ObjectInfo]:
            for version, items in self.folders():
                keys = {item.key for item in items}
                if layout.manifest(version) in keys or (marks and keys != {layout.retired(version)}):
                    continue
                for item in items:
                    is_mark = item.key == layout.retired(version)
                    stays = version in named and (is_mark or item.key.startswith(layout.verdict_folder(version)))
                    if is_mark == marks and not stays and self.old(item):
                        yield item

        def needed() -> set[str]:
            there = set(self.versions())
            return {item.key for item in self.listed(layout.versions) if layout.version_of(item.key) in there}

        self.remove(lying(marks=False), needed)
        # The mark last, when nothing else is left and no other removal can still act on it: as long as it is there,
        # whoever registers the version again keeps out of our way.
        if gone := list(lying(marks=True)):
            removals.wait(self.registry.store, layout, besides=self.announcement)
            self.remove(gone, needed)

    def remove_blobs(self) -> None:
        """Remove files that no manifest names."""
        layout = self.registry.layout
        self.remove(
            (item for item in self.registry.store.list(layout.blobs) if self.old(item)),
            lambda: {layout.blob(digest) for digest in self.names()},
        )

    def remove_views(self) -> None:
        """Remove numbered directories that no server needs any more."""
        for alias in self.registry.aliases():
            for key in views.outdated(self.registry, alias):
                found = self.registry.store.head(key)
                if found is not None and self.old(found):
                    self.result.removed.append(found)
                    if not self.dry_run:
                        self.registry.store.delete(key)

    def remove(self, items: Iterable[ObjectInfo], needed: Callable[[], set[str]]) -> None:
        """Delete those of the items that nobody needs, some at a time: sign, look, then send."""
        store = self.registry.store
        rest = iter(items)
        while batch := list(itertools.islice(rest, BATCH)):
            signed = {item.key: store.expiring_delete(item.key, seconds=removals.SIGNED_SECONDS) for item in batch}
            spared = needed()
            for item in batch:
                if item.key in spared:
                    continue
                found = store.head(item.key)  # touched since it was listed?
                if found is None or not self.old(found):
                    continue
                if self.dry_run:
                    self._supposed.add(item.key)
                if self.dry_run or signed[item.key].send():
                    self.result.removed.append(item)
                else:
                    self.result.left.append(item.key)

    def listed(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what is stored under a prefix."""
        return (item for item in self.registry.store.list(prefix) if item.key not in self._supposed)

    def folders(self) -> Iterator[tuple[str, list[ObjectInfo]]]:
        """Yield each version with what lies in its folder."""
        layout = self.registry.layout
        listed = ((layout.version_of(item.key), item) for item in self.listed(layout.versions))
        for version, items in itertools.groupby(listed, key=lambda pair: pair[0]):
            if version is not None:
                yield version, [item for _, item in items]

    def _mark(self, version: str, why: str) -> None:
        mark = Retirement(
            model=self.registry.model,
            version=version,
            manifest_sha256=self.registry.manifest_sha256(version),
            at=datetime.now(UTC),
            why=why,
        )
        self.registry.store.create(
            self.registry.layout.retired(version), mark.document(), content_type="application/json"
        )


def _kept(history: list[PromotionEntry], keep: int | None) -> set[str]:
    """Return the last `keep` different champions of a history, and the version a rollback would go to."""
    versions = list(dict.fromkeys(entry.version for entry in reversed(history)))
    back = previous(history)
    return set(versions[:keep]) | ({back} if back else set())
