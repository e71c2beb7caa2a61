"""Versions on S3: immutable and whole.

A version is blobs first, each under its SHA-256, and its manifest last, so who sees the manifest sees every file it
names. No content is overwritten or deleted here, so a crash at any byte leaves no half version.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue, ValidationError

from restill import removals
from restill.errors import ConfigurationError, IntegrityError, VersionNotFound
from restill.layout import Layout
from restill.manifests import (
    SHORT,
    Calibration,
    FileEntry,
    Lineage,
    Manifest,
    canonical_json,
    make_manifest,
    require_name,
)
from restill.storage.objects import ObjectNotFound, ObjectStore

PARALLEL = 4  # files in flight at once
JSON = "application/json"
_EVIDENCE = {"predictions": "application/vnd.apache.parquet", "timings": JSON}
_REPORTS = {"html": "text/html; charset=utf-8", "md": "text/markdown; charset=utf-8"}
_FULL_VERSION = re.compile(r"[0-9a-f]{64}")
_VERSION_PREFIX = re.compile(r"[0-9a-f]{4,64}")


class Versions:
    """The versions of one model. Readers need no more than GetObject and ListBucket."""

    def __init__(self, store: ObjectStore, model: str) -> None:
        self.store = store
        self.model = require_name(model, "a model")
        self.layout = Layout(self.model)

    def register(
        self,
        folder: Path,
        *,
        files: Mapping[str, str],
        artifact_role: str,
        signature: dict[str, JsonValue],
        calibration: Calibration,
        lineage: Lineage,
        training: dict[str, float | int | str | None],
    ) -> Manifest:
        """Store a folder's files as a version, the manifest last; registering the same again changes nothing.

        Args:
            folder: where the files are.
            files: path in the folder → role.
            artifact_role: the role that is judged and served.
        Returns: the stored manifest, of the first registration if there was one.
        Raises: ConfigurationError for a missing file or a path that leaves the folder; StorageUnreachable.
        """
        entries = [_describe(folder, path, role) for path, role in sorted(files.items())]
        manifest = make_manifest(
            model=self.model,
            created_at=datetime.now(UTC),
            artifact_role=artifact_role,
            files=entries,
            signature=signature,
            calibration=calibration,
            lineage=lineage,
            training=training,
        )
        found = [self.layout.blob(entry.sha256) for entry in entries if self._store_blob(folder / entry.path, entry)]
        look_again = removals.keep(self.store, self.layout, found)
        if self.is_retired(manifest.version):  # on its way out, or gone: it is wanted again
            self.store.delete(self.layout.retired(manifest.version))
            removals.wait(self.store, self.layout)
            look_again = True
        if look_again:
            for entry in entries:
                self._store_blob(folder / entry.path, entry)
        self.store.create(self.layout.manifest(manifest.version), manifest.document(), content_type=JSON)
        for entry in entries:  # a registration that slept for a day finds here what was taken from it
            self._store_blob(folder / entry.path, entry)
        # Read back, also when we created it: what counts is what is stored, by us or by a twin before us.
        return self.manifest(manifest.version)

    def manifest(self, version: str, *, sha256: str | None = None) -> Manifest:
        """Return the manifest of a version, by its full id or by a beginning of at least 4 characters.

        Args:
            sha256: digest that the stored manifest must have, as a promotion names it.
        Raises: VersionNotFound if none or several fit; IntegrityError if it is not what was stored.
        """
        if _FULL_VERSION.fullmatch(version):
            with contextlib.suppress(ObjectNotFound):  # or else the error below, which says more
                return self._read_manifest(version, sha256)[0]
        return self._read_manifest(self._resolve(version), sha256)[0]

    def manifest_sha256(self, version: str) -> str:
        """Return the digest of a version's stored manifest, as promotions name it.

        Raises: VersionNotFound if none or several fit; IntegrityError if it is not what was stored.
        """
        return self._read_manifest(self._resolve(version))[1]

    def versions(self) -> list[Manifest]:
        """Return every version, oldest first."""
        manifests = []
        for version in self.version_ids():
            with contextlib.suppress(ObjectNotFound):  # removed since it was listed
                manifests.append(self._read_manifest(version)[0])
        return sorted(manifests, key=lambda manifest: (manifest.created_at, manifest.version))

    def find(self, training_key: str, artifact_role: str) -> Manifest | None:
        """Return the newest version of that training and served role whose files are all there, or None."""
        for manifest in reversed(self.versions()):
            wanted = (manifest.lineage.training_key, manifest.artifact_role) == (training_key, artifact_role)
            if wanted and not self._missing(manifest) and not self.is_retired(manifest.version):
                return manifest
        return None

    def is_retired(self, version: str) -> bool:
        """Return whether a version, by its full id, is going to be removed or was: it is not promoted any more."""
        return self.store.head(self.layout.retired(version)) is not None

    def add_verdict(self, version: str, body: bytes) -> str:
        """Store a verdict document beside a version and return the digest that a promotion names."""
        digest = hashlib.sha256(body).hexdigest()
        self.store.create(self.layout.verdict(self._resolve(version), digest), body, content_type=JSON)
        return digest

    def verdicts(self, version: str) -> list[bytes]:
        """Return the verdict documents of a version, oldest first.

        Raises: IntegrityError if one is not what was stored.
        """
        found = list(self.store.list(self.layout.verdict_folder(self._resolve(version))))
        found.sort(key=lambda item: (item.modified, item.key))
        return [self.get_checked(item.key, Path(item.key).stem) for item in found]

    def add_evidence(self, version: str, name: str, body: bytes) -> str:
        """Store what a verdict was computed from beside a version and return its digest, which the verdict names.

        Args:
            name: `predictions` (Parquet) or `timings` (JSON).
        """
        digest = hashlib.sha256(body).hexdigest()
        key = self.layout.evidence(self._resolve(version), name, digest)
        self.store.create(key, body, content_type=_EVIDENCE[name])
        return digest

    def evidence(self, version: str, name: str, digest: str) -> bytes:
        """Return what `add_evidence` stored.

        Raises: VersionNotFound if it is not there; IntegrityError if it is not what was stored.
        """
        key = self.layout.evidence(self._resolve(version), name, digest)
        try:
            return self.get_checked(key, digest)
        except ObjectNotFound as error:
            raise VersionNotFound(
                f"Version {version[:SHORT]} has no {name} {digest[:SHORT]}.",
                hint="Judge it again: restill retrain --force.",
            ) from error

    def use_test_split(self, test_version: str, version: str) -> None:
        """Write down that a test split decided on a version; doing it again changes nothing."""
        body = canonical_json({"version": version, "at": datetime.now(UTC).isoformat(timespec="seconds")})
        self.store.create(f"{self.layout.test_split(test_version)}{version}.json", body, content_type=JSON)

    def test_split_uses(self, test_version: str, *, besides: str = "") -> int:
        """Return on how many versions a test split has decided, without counting `besides`."""
        found = {Path(item.key).stem for item in self.store.list(self.layout.test_split(test_version))}
        return len(found - {besides})

    def add_report(self, version: str, verdict_sha256: str, body: bytes, suffix: str) -> str:
        """Store the report of a verdict for people and return its s3:// address; the first one stays.

        Args:
            suffix: `html` (the page) or `md` (the model card).
        """
        key = self.layout.report(self._resolve(version), verdict_sha256, suffix)
        self.store.create(key, body, content_type=_REPORTS[suffix])
        return self.store.uri(key)

    def fetch(
        self,
        manifest: Manifest,
        folder: Path,
        *,
        roles: Iterable[str] | None = None,
        manifest_sha256: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Path:
        """Download a version into a cache and return its folder; every file there has been hashed, also cached ones.

        Each file appears whole and verified or not at all, so processes can share the cache. A second call
        moves no bytes; a damaged cached file is fetched anew.

        Args:
            folder: the cache; the version gets a folder of its own in it.
            roles: only files of these roles; default: all.
            manifest_sha256: the digest a promotion names for the manifest.
            progress: called with the number of bytes of each chunk, from several threads.
        Raises: IntegrityError naming key, expected and found digest; StorageUnreachable.
        """
        if manifest_sha256 is not None:
            manifest = self.cached_manifest(manifest.version, folder, manifest_sha256)
        home = folder / manifest.version
        wanted = None if roles is None else set(roles)

        def bring(entry: FileEntry) -> None:
            path = home / entry.path
            if path.is_file() and path.stat().st_size == entry.bytes and _sha256(path) == entry.sha256:
                return
            self.store.download(
                self.layout.blob(entry.sha256), path, sha256=entry.sha256, size=entry.bytes, progress=progress
            )

        home.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            list(pool.map(bring, (file for file in manifest.files if wanted is None or file.role in wanted)))
        return home

    def version_ids(self, beginning: str = "") -> list[str]:
        """Return the full ids of the stored versions that begin so."""
        return [
            version
            for item in self.store.list(self.layout.version(beginning))
            if (version := self.layout.version_of(item.key)) and item.key == self.layout.manifest(version)
        ]

    def _resolve(self, version: str) -> str:
        """Return the full id that `version` begins, of a version that has its manifest."""
        wanted = version.strip().lower()
        found = self.version_ids(wanted) if _VERSION_PREFIX.fullmatch(wanted) else []
        if not found:
            raise VersionNotFound(
                f"{self.model} has no version {version!r}.",
                hint="Give at least the first 4 characters; `restill registry list` shows the versions.",
            )
        if len(found) > 1:
            raise VersionNotFound(
                f"{version!r} begins {len(found)} versions: {', '.join(found_id[:SHORT] for found_id in found)}.",
                hint="Give more characters.",
            )
        return found[0]

    def _read_manifest(self, version: str, sha256: str | None = None) -> tuple[Manifest, str]:
        """Return a manifest and the digest of its stored bytes; the id in it must be the one asked for."""
        key = self.layout.manifest(version)
        body = self.get_checked(key, sha256) if sha256 is not None else self.store.get(key)
        return self._parse_manifest(body, version), hashlib.sha256(body).hexdigest()

    def cached_manifest(self, version: str, folder: Path, sha256: str) -> Manifest:
        """Return the manifest of a version as a promotion names it, from a cache that `fetch` shares.

        Args:
            version: full id.
            folder: the cache.
            sha256: digest that the stored manifest must have.
        Raises: IntegrityError if it is not what was promoted; StorageUnreachable.
        """
        path = folder / f"{version}.manifest.json"
        if not path.is_file() or _sha256(path) != sha256:
            self.store.download(self.layout.manifest(version), path, sha256=sha256)
        return self._parse_manifest(path.read_bytes(), version)

    def _parse_manifest(self, body: bytes, version: str) -> Manifest:
        place = self.store.uri(self.layout.manifest(version))
        manifest = Manifest.parse(body, place)
        if manifest.version != version or manifest.model != self.model:
            raise IntegrityError(
                f"{place} is the manifest of another version: expected {self.model} {version}, "
                f"found {manifest.model} {manifest.version}.",
                hint="Restore the object from a backup.",
            )
        return manifest

    def get_checked(self, key: str, digest: str) -> bytes:
        """Return the bytes of an object that must have a digest. Raises: IntegrityError if they do not."""
        body = self.store.get(key)
        if (found := hashlib.sha256(body).hexdigest()) != digest:
            raise self.wrong(key, digest, found)
        return body

    def wrong(self, key: str, expected: str, found: str) -> IntegrityError:
        """Return the error of an object that holds other bytes than were promised."""
        return IntegrityError(
            f"{self.store.uri(key)} does not hold the promised bytes: expected SHA-256 {expected}, found {found}.",
            hint="The stored object was damaged or replaced. Restore it, or promote another version.",
        )

    def _missing(self, manifest: Manifest) -> list[str]:
        """Return a line for each file of a version that is not stored with its size."""
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            found = list(pool.map(lambda file: self.store.head(self.layout.blob(file.sha256)), manifest.files))
        return [
            f"{file.path} is not stored with its {file.bytes:,} bytes ({self.layout.blob(file.sha256)})"
            for file, info in zip(manifest.files, found, strict=True)
            if info is None or info.size != file.bytes
        ]

    def _store_blob(self, path: Path, entry: FileEntry) -> bool:
        """Store a file unless it is stored; returns whether it was."""
        key = self.layout.blob(entry.sha256)
        stored = self.store.head(key)  # a refused upload would still cost its bytes
        was_there = stored is not None
        if stored is None and not self.store.create_blob(key, path, sha256=entry.sha256):
            stored = self.store.head(key)
        if stored is not None and stored.size != entry.bytes:
            raise IntegrityError(
                f"{self.store.uri(key)} has {stored.size:,} bytes where {entry.path} has {entry.bytes:,}.",
                hint="The stored object was damaged. Remove it, then register again.",
            )
        return was_there


def _describe(folder: Path, path: str, role: str) -> FileEntry:
    """Hash one file of an artifact folder."""
    try:
        place = folder / FileEntry(path=path, sha256="0" * 64, bytes=0, role=role).path
        if not place.resolve().is_relative_to(folder.resolve()):
            raise ConfigurationError(f"{path!r} leads out of {folder}.", hint="Register plain files, no links.")
        return FileEntry(path=path, sha256=_sha256(place), bytes=place.stat().st_size, role=role)
    except ValidationError as error:
        raise ConfigurationError(
            f"{path!r} cannot be a file of a version: {error.errors()[0]['msg']}.",
            hint="Use relative paths with forward slashes, inside the folder.",
        ) from error
    except OSError as error:
        raise ConfigurationError(f"Cannot read {folder / path}: {error.strerror}.") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
