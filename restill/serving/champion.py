"""The version an alias names, as a model that answers."""

import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from restill.errors import ConfigurationError, VersionNotFound
from restill.manifests import SHORT, WITH_SERVED, Manifest, PromotionEntry
from restill.registry import Registry
from restill.serving.pair_model import PairModel
from restill.serving.progress import Download, Progress, silent
from restill.signing import Trusted
from restill.storage import connect_uri
from restill.storage.objects import ObjectStore

POLL_SECONDS = 30.0


class Champion(PairModel):
    """The version an alias names: downloaded, every byte verified, cached by digest, and tried out.

    It stays that version: `LiveChampion` is the one that follows its alias. Threads may share it, and it answers in a
    forked process too. It cannot be pickled: a process started anew loads its own, from the same cache.
    """

    def __init__(
        self,
        registry: Registry,
        entry: PromotionEntry,
        *,
        cache_dir: Path,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        """Load what an entry of the registry names; `load` finds the entry."""
        try:
            manifest = registry.cached_manifest(entry.version, cache_dir, entry.manifest_sha256)
            folder = _fetch(registry, manifest, entry, cache_dir, progress)
        except OSError as error:
            raise ConfigurationError(
                f"The cache {cache_dir} cannot hold version {entry.version[:SHORT]}: {error.strerror or error}.",
                hint="Make room or give write access there, or use another folder (cache_dir, RESTILL_ROOT).",
            ) from error
        super().__init__(folder, file=manifest.served_path, threads=threads)
        self.try_out()
        self.entry = entry
        self.version = entry.version
        self.loaded_at = datetime.now(UTC)
        self._connected, self._process = registry, os.getpid()
        self._cache_dir, self._threads = cache_dir, threads

    @classmethod
    def load(
        cls,
        uri: str,
        *,
        alias: str = "champion",
        cache_dir: Path | None = None,
        endpoint_url: str | None = None,
        threads: int = 1,
        progress: Progress | None = None,
        trusted_keys: Sequence[Path] | None = None,
    ) -> Self:
        """Load the champion of the registry at `s3://bucket/[prefix/]registry/model`; needs only read access.

        Args:
            uri: the model's folder in the registry.
            alias: which alias to follow.
            cache_dir: where versions are kept, shared by any number of processes; default: the user's cache folder.
            endpoint_url: S3 address, for other stores than Amazon's; keys come from boto3's own chain.
            threads: interpreter threads.
            progress: called with the bytes that have come and those to come in all; default: a bar, on a terminal.
            trusted_keys: PEM files with public keys; what none of them signed is refused, now and when the alias
                moves. Default: signatures are not looked at.
        Raises: ConfigurationError (also if the cache cannot be written), StorageUnreachable, VersionNotFound (nothing
            was promoted yet), IntegrityError.
        """
        root, separator, model = uri.rstrip("/").rpartition("/registry/")
        if not separator:
            raise ConfigurationError(
                f"{uri!r} does not name a model of a registry.", hint="Write s3://bucket/prefix/registry/model."
            )
        cache = cache_dir or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "restill"
        store = connect_uri(root, endpoint_url=endpoint_url)
        return cls.from_store(
            store,
            model=model,
            alias=alias,
            cache_dir=cache,
            threads=threads,
            progress=progress,
            trusted_keys=trusted_keys,
        )

    @classmethod
    def from_store(
        cls,
        store: ObjectStore,
        *,
        model: str,
        alias: str,
        cache_dir: Path,
        threads: int = 1,
        progress: Progress | None = None,
        trusted_keys: Sequence[Path] | None = None,
    ) -> Self:
        """Load the champion from a store that is already connected.

        Raises: StorageUnreachable, VersionNotFound (nothing was promoted yet), IntegrityError; ConfigurationError for
        a trusted key that cannot be read.
        """
        trusted = None if trusted_keys is None else Trusted.read(trusted_keys)
        registry = Registry(store, model, trusted=trusted)
        entry = registry.champion(alias)
        if entry is None:
            raise VersionNotFound(
                f"Nothing was promoted to {alias!r} of model {model!r} yet.", hint="Run restill retrain first."
            )
        return cls(registry, entry, cache_dir=cache_dir, threads=threads, progress=progress)

    def newer(self) -> PromotionEntry | None:
        """Return the entry that its alias names by now, if it is a later one; None costs one small request.

        Raises: StorageUnreachable; IntegrityError if the entry is not what was stored, or no trusted key signed it.
        """
        return self._registry.newer(self.entry)

    def successor(self, entry: PromotionEntry) -> Self:
        """Load another entry of the same registry, ready for the input shapes that this champion has answered.

        Raises: StorageUnreachable, IntegrityError.
        """
        loaded = type(self)(self._registry, entry, cache_dir=self._cache_dir, threads=self._threads, progress=silent)
        loaded.prepare_as(self)
        return loaded

    def watch(
        self, *, poll_seconds: float = POLL_SECONDS, stop: threading.Event | None = None
    ) -> Iterator[PromotionEntry]:
        """Yield the live entry each time its alias has moved, from this champion's on; loads nothing.

        A poll is one small request. Of several promotions between two polls only the last is seen.

        Args:
            poll_seconds: time between two polls.
            stop: ends the watch when it is set.
        Raises: StorageUnreachable, IntegrityError; another call begins at this champion's entry again.
        """
        ended = stop or threading.Event()
        seen = self.entry
        while not ended.wait(poll_seconds):
            entry = self._registry.newer(seen)
            if entry is not None:
                seen = entry
                yield entry

    @property
    def _registry(self) -> Registry:
        """Return the registry; in a forked process over connections of its own, as those of the parent are in use."""
        if self._process != os.getpid():
            before = self._connected
            self._connected = Registry(ObjectStore(before.store.connection), before.model, trusted=before.trusted)
            self._process = os.getpid()
        return self._connected


def _fetch(
    registry: Registry, manifest: Manifest, entry: PromotionEntry, cache_dir: Path, progress: Progress | None
) -> Path:
    """Download what is served of a version, as far as the cache lacks it, and return its folder."""
    roles = (manifest.artifact_role, *WITH_SERVED)
    home = cache_dir / manifest.version
    lacking = sum(file.bytes for file in manifest.files if file.role in roles and not (home / file.path).is_file())
    download = Download(lacking, progress or (None if lacking else silent))
    try:
        return registry.fetch(
            manifest, cache_dir, roles=roles, manifest_sha256=entry.manifest_sha256, progress=download
        )
    finally:
        download.close()
