"""Aliases and their promotion history on S3, on top of the versions.

An alias is a log: promoting is one conditional write of the number after the entry that the challenger was judged
against. The highest number is the champion and nothing else is the truth. No entry is ever overwritten or deleted.
"""

import hashlib
import logging
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from restill import verification, views
from restill.errors import ConfigurationError, IntegrityError, RegistryConflict, RestillError, VersionNotFound
from restill.manifests import SHORT, PromotionEntry, require_text
from restill.settings import RegistrySettings
from restill.signing import Signer, Trusted
from restill.storage.objects import ObjectNotFound, ObjectStore
from restill.versions import JSON, Versions

logger = logging.getLogger(__name__)


class Registry(Versions):
    """The versions of one model, and which of them each alias names now and named before."""

    def __init__(
        self, store: ObjectStore, model: str, *, signing_key: Path | None = None, trusted: Trusted | None = None
    ) -> None:
        """Take what is known of keys: promotions are signed with one, and the live entry must be with a trusted one."""
        super().__init__(store, model)
        self.trusted = trusted
        self._signing_key = signing_key

    @classmethod
    def configured(cls, store: ObjectStore, settings: RegistrySettings) -> Self:
        """Return the configured model's registry.

        Raises: ConfigurationError if a trusted key cannot be read; the signing key is read when it is needed.
        """
        trusted = Trusted.read(settings.trusted_keys) if settings.trusted_keys else None
        return cls(store, settings.model, signing_key=settings.signing_key, trusted=trusted)

    def signer(self) -> Signer | None:
        """Return what promotions are signed with; None if nothing is signed here.

        Raises: ConfigurationError if the key cannot be read, or readers who trust the same keys would refuse its
        promotions.
        """
        signer = Signer.read(self._signing_key) if self._signing_key else None
        if self.trusted is not None and (signer is None or signer.key_id not in self.trusted.keys):
            which = "registry.signing_key is not set" if signer is None else f"{self._signing_key} is none of them"
            raise ConfigurationError(
                f"Promotions must be signed with a key of registry.trusted_keys, and {which}.",
                hint="Set registry.signing_key to the private key of one, or add its public key to trusted_keys.",
            )
        return signer

    def champion(self, alias: str) -> PromotionEntry | None:
        """Return the live entry of an alias, the one with the highest number; None before the first promotion.

        Raises: StorageUnreachable; IntegrityError if the entry is not what was stored, or no trusted key signed it.
        """
        keys = self.entry_keys(alias)
        return self._believed(keys[-1]) if keys else None

    def newer(self, than: PromotionEntry) -> PromotionEntry | None:
        """Return the live entry of an alias if it is a later one than this; None costs one small request.

        Raises: StorageUnreachable; IntegrityError if the entry is not what was stored, or no trusted key signed it.
        """
        keys = self.entry_keys(than.alias, after=self.layout.entry(than.alias, than.sequence))
        return self._believed(keys[-1]) if keys else None

    def history(self, alias: str) -> list[PromotionEntry]:
        """Return every promotion and rollback of an alias, oldest first, whoever signed them."""
        return [self.read_entry(key)[0] for key in self.entry_keys(alias)]

    def promote(
        self,
        version: str,
        *,
        alias: str,
        expected: PromotionEntry | None,
        reason: str,
        promoted_by: str,
        verdict_sha256: str | None,
        action: Literal["promote", "rollback"] = "promote",
        promotion_id: str | None = None,
        forced: bool = False,
    ) -> PromotionEntry:
        """Make a version live, directly after the entry it was judged against; one conditional write decides.

        Args:
            version: full id or unique beginning.
            expected: the live entry that the version was judged against; None if there was none.
            verdict_sha256: digest of a stored verdict; None only where a person decides.
            forced: whether a person decides against the gates; the history shows it for ever.
            promotion_id: give one to be able to repeat a call whose end was not seen; default: a fresh one.
        Returns: the stored entry.
        Raises: RegistryConflict naming who came first; VersionNotFound; IntegrityError if files are missing;
            ConfigurationError if it cannot be signed as configured.
        """
        signer = self.signer()
        nonce = promotion_id or secrets.token_hex(16)
        version = self._resolve(version)
        latest = self._latest(alias)
        if _place(latest[0] if latest else None) != _place(expected):
            entry = self._own_or_conflict(alias, expected, version, nonce)
            self._publish(alias)  # a first attempt may have died before it
            return entry
        manifest, manifest_sha256 = self._read_manifest(version)
        if missing := self._missing(manifest):
            raise IntegrityError(
                f"Version {manifest.short} cannot be promoted: {'; '.join(missing)}.",
                hint="Register it again from its artifact folder; that stores what is missing.",
            )
        if self.is_retired(version):
            raise VersionNotFound(
                f"Version {manifest.short} is being removed (`registry gc`), so it cannot be promoted.",
                hint="Register it again from its artifact folder, or retrain; that takes it back.",
            )
        if verdict_sha256 is not None and self.store.head(self.layout.verdict(version, verdict_sha256)) is None:
            raise VersionNotFound(
                f"Version {manifest.short} has no stored verdict {verdict_sha256[:SHORT]}.",
                hint="Store the verdict first: a promotion names its reasons.",
            )
        entry = PromotionEntry(
            model=self.model,
            alias=alias,
            sequence=expected.sequence + 1 if expected else 1,
            version=version,
            manifest_sha256=manifest_sha256,
            promotion_id=nonce,
            action=action,
            reason=require_text(reason, "The reason"),
            promoted_by=require_text(promoted_by, "The name of who promotes"),
            at=datetime.now(UTC),
            replaces_sequence=expected.sequence if expected else None,
            previous_entry_sha256=hashlib.sha256(latest[1]).hexdigest() if latest else None,
            verdict_sha256=verdict_sha256,
            forced=forced,
        )
        if signer is not None:
            entry = signer.sign(entry)
        key = self.layout.entry(alias, entry.sequence)
        if not self.store.create(key, entry.document(), content_type=JSON):
            # Taken: by somebody else, or by ourselves if the answer to our write was lost and boto3 tried again.
            entry = self._own_or_conflict(alias, expected, version, nonce)
        self._publish(alias)
        return entry

    def rollback(self, alias: str, *, to: str | None = None, reason: str, by: str) -> PromotionEntry:
        """Make an earlier champion live again, as a new entry; nothing in the history changes.

        Args:
            to: a version that was live before, by id or unique beginning; default: the one before the current one,
                never one that was itself rolled back from, and never one that no trusted key signed.
            reason: why; kept for ever.
            by: who decides.
        Raises: VersionNotFound if there is nothing to go back to; RegistryConflict if somebody promoted meanwhile.
        """
        read = [self.read_entry(key) for key in self.entry_keys(alias)]
        history = [entry for entry, _ in read]
        if not history:
            raise VersionNotFound(
                f"{self.model} has no {alias} yet, so there is nothing to roll back.", hint="Promote a version first."
            )
        current = history[-1]
        believed = [entry for entry, body in read if self.trusted is None or self.trusted.problem(entry, body) is None]
        if to is None:
            target = previous(believed) if current in believed else believed[-1].version if believed else None
            if target is None:
                raise VersionNotFound(
                    f"No {'' if self.trusted is None else 'signed '}version was live before "
                    f"{current.version[:SHORT]}, so there is nothing to go back to.",
                    hint="Name a version with --to.",
                )
        else:
            target = self._resolve(to)
            if target not in {entry.version for entry in history}:
                raise VersionNotFound(
                    f"Version {target[:SHORT]} was never {alias}: it cannot be gone back to.",
                    hint="`restill registry history` lists those that were; a new version has to pass its gates.",
                )
        # To stay and have it signed is what signing begins with, and how an entry that is not believed is undone.
        if target == current.version and current in believed and not self._signs_anew(current):
            raise VersionNotFound(
                f"Version {target[:SHORT]} is already the {alias}.",
                hint="Name an earlier version with --to. A rollback that was cut off: `restill registry repair`.",
            )
        return self.promote(
            target,
            alias=alias,
            expected=current,
            reason=reason,
            promoted_by=by,
            verdict_sha256=None,
            action="rollback",
        )

    def verify(self, alias: str | None = None) -> list[str]:
        """Check everything that is stored, as `verification.check` does, for all aliases or for one.

        Returns: one line for each problem; empty if the registry is whole.
        Raises: StorageUnreachable.
        """
        return list(verification.check(self, alias).problems)

    def aliases(self) -> list[str]:
        """Return the aliases that have a history."""
        keys = [item.key for item in self.store.list(self.layout.aliases) if self.layout.is_entry(item.key)]
        return sorted({key.removeprefix(self.layout.aliases).split("/")[0] for key in keys})

    def entry_keys(self, alias: str, *, after: str = "") -> list[str]:
        """Return the keys of a history, oldest first; only later ones than the key `after`."""
        listed = self.store.list(self.layout.alias(alias), after=after)
        return [item.key for item in listed if self.layout.is_entry(item.key)]

    def read_entry(self, key: str) -> tuple[PromotionEntry, bytes]:
        """Return one line of a history, and its stored bytes.

        Raises: IntegrityError if it is not what belongs there; ObjectNotFound.
        """
        body = self.store.get(key)
        entry = PromotionEntry.parse(body, self.store.uri(key))
        if key != self.layout.entry(entry.alias, entry.sequence) or entry.model != self.model:
            raise IntegrityError(
                f"{self.store.uri(key)} holds another place's entry: "
                f"{entry.model}, {entry.alias}, number {entry.sequence}.",
                hint="Restore the object from a backup.",
            )
        return entry, body

    def _publish(self, alias: str) -> None:
        """Write what is derived from the history. The promotion is done by then: a failure is only reported."""
        try:
            views.rebuild(self, alias)
        except RestillError as error:
            logger.warning("Promoted; but a derived view is behind: %s Put it right: restill registry repair.", error)

    def _believed(self, key: str) -> PromotionEntry:
        entry, body = self.read_entry(key)
        if self.trusted is not None:
            self.trusted.check(entry, body, self.store.uri(key))
        return entry

    def _signs_anew(self, entry: PromotionEntry) -> bool:
        """Return whether our own signature would be another one than an entry has."""
        signer = self.signer()
        return signer is not None and (entry.signature is None or entry.signature.key_id != signer.key_id)

    def _latest(self, alias: str) -> tuple[PromotionEntry, bytes] | None:
        keys = self.entry_keys(alias)
        return self.read_entry(keys[-1]) if keys else None

    def _own_or_conflict(self, alias: str, expected: PromotionEntry | None, version: str, nonce: str) -> PromotionEntry:
        """Return the entry directly after `expected` if it is our own; else say who came first."""
        judged = f"number {expected.sequence} ({expected.version[:SHORT]})" if expected else "no champion at all"
        try:
            stored, _ = self.read_entry(self.layout.entry(alias, expected.sequence + 1 if expected else 1))
        except ObjectNotFound as error:
            raise RegistryConflict(
                f"Not promoted: this was judged against {judged}, which is not the last entry of its history.",
                hint="Judge it again against the present champion.",
            ) from error
        if stored.promotion_id == nonce and stored.version == version:
            return stored
        raise RegistryConflict(
            f"Not promoted: this was judged against {judged}, but version {stored.version[:SHORT]} came first: "
            f"number {stored.sequence}, by {stored.promoted_by} at {stored.at:%Y-%m-%d %H:%M:%S} UTC.",
            hint="Judge it again against the present champion.",
        )


def _place(entry: PromotionEntry | None) -> tuple[int, str] | None:
    return (entry.sequence, entry.promotion_id) if entry else None


def previous(history: list[PromotionEntry]) -> str | None:
    """Return the version to fall back to: a rollback undoes what came after its target, as if it had not been."""
    live: list[str] = []
    for entry in history:
        if entry.action == "rollback" and entry.version in live:
            del live[live.index(entry.version) + 1 :]
        elif not live or live[-1] != entry.version:
            live.append(entry.version)
    return live[-2] if len(live) > 1 else None
