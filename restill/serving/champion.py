"""The version an alias names, as a model that answers."""

import os
from pathlib import Path
from typing import Self

from restill.errors import ConfigurationError, VersionNotFound
from restill.manifests import PromotionEntry
from restill.registry import Registry
from restill.serving.pair_model import PairModel
from restill.storage import connect_uri
from restill.storage.objects import ObjectStore


class Champion(PairModel):
    """The version an alias names: downloaded, every byte verified, cached by digest."""

    def __init__(self, folder: Path, entry: PromotionEntry, *, file: str, threads: int) -> None:
        """Load a fetched version; use `load` or `from_store`."""
        super().__init__(folder, file=file, threads=threads)
        self.entry = entry
        self.version = entry.version

    @classmethod
    def load(
        cls,
        uri: str,
        *,
        alias: str = "champion",
        cache_dir: Path | None = None,
        endpoint_url: str | None = None,
        threads: int = 1,
    ) -> Self:
        """Load the champion of the registry at `s3://bucket/[prefix/]registry/model`; needs only read access.

        Args:
            uri: the model's folder in the registry.
            alias: which alias to follow.
            cache_dir: where versions are kept; default: the user's cache folder.
            endpoint_url: S3 address, for other stores than Amazon's; keys come from boto3's own chain.
            threads: interpreter threads.
        Raises: ConfigurationError, StorageUnreachable, VersionNotFound (nothing was promoted yet), IntegrityError.
        """
        root, separator, model = uri.rstrip("/").rpartition("/registry/")
        if not separator:
            raise ConfigurationError(
                f"{uri!r} does not name a model of a registry.", hint="Write s3://bucket/prefix/registry/model."
            )
        cache = cache_dir or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "restill"
        store = connect_uri(root, endpoint_url=endpoint_url)
        return cls.from_store(store, model=model, alias=alias, cache_dir=cache, threads=threads)

    @classmethod
    def from_store(cls, store: ObjectStore, *, model: str, alias: str, cache_dir: Path, threads: int = 1) -> Self:
        """Load the champion from a store that is already connected.

        Raises: StorageUnreachable, VersionNotFound (nothing was promoted yet), IntegrityError.
        """
        registry = Registry(store, model)
        entry = registry.champion(alias)
        if entry is None:
            raise VersionNotFound(
                f"Nothing was promoted to {alias!r} of model {model!r} yet.", hint="Run restill retrain first."
            )
        manifest = registry.manifest(entry.version)
        folder = registry.fetch(
            manifest,
            cache_dir,
            roles=(manifest.artifact_role, "tokenizer", "calibration"),
            manifest_sha256=entry.manifest_sha256,
        )
        return cls(folder, entry, file=manifest.served_path, threads=threads)
