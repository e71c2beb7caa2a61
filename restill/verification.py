"""Is the registry whole? Every history, every manifest, and every stored byte against the digest that promises it.

Content is read as a stream, some files at once; what is held in memory is one short record an object.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from restill.errors import ConfigurationError, IntegrityError, VersionNotFound
from restill.layout import EVIDENCE
from restill.manifests import SHORT
from restill.storage.objects import ObjectNotFound

if TYPE_CHECKING:
    from restill.registry import Registry

PARALLEL = 4
_BY_CONTENT = ("verdicts", "predictions", "timings")  # folders whose files are named by their digest


@dataclass
class Verification:
    """What was checked and what is wrong."""

    entries: int = 0
    versions: int = 0
    objects: int = 0  # files of versions, verdicts and evidence
    bytes: int = 0
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # earlier entries that no trusted key signed: is that expected?

    @property
    def problems(self) -> tuple[str, ...]:
        """Return a line for each problem, each once."""
        return tuple(dict.fromkeys(self.found))


def check(registry: "Registry", alias: str | None = None) -> Verification:
    """Check the histories of one alias or all, and everything stored beside them.

    Raises: StorageUnreachable.
    """
    result = Verification()
    for name in [alias] if alias is not None else registry.aliases():
        try:
            _check_history(registry, name, result)
        except ConfigurationError as error:  # what is stored there is no alias's
            result.found.append(str(error))
    blobs: dict[str, tuple[str, int, str]] = {}
    for version in registry.version_ids():
        try:
            manifest = registry.manifest(version)
        except VersionNotFound:
            continue  # removed since it was listed
        except (IntegrityError, ConfigurationError) as error:
            result.found.append(str(error))
            continue
        result.versions += 1
        blobs.update({file.sha256: (file.path, file.bytes, version) for file in manifest.files})
    _check_beside(registry, result)
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        for problem, size in pool.map(lambda item: _check_blob(registry, *item), sorted(blobs.items())):
            result.objects += 1
            result.bytes += size
            result.found += problem
    return result


def _check_history(registry: "Registry", alias: str, result: Verification) -> None:
    keys = registry.entry_keys(alias)
    previous: bytes | None = None
    checked: set[tuple[str, str]] = set()
    for number, key in enumerate(keys, start=1):
        result.entries += 1
        try:
            entry, body = registry.read_entry(key)
            if key != registry.layout.entry(alias, number):
                result.found.append(f"{registry.store.uri(key)}: number {number} was expected; an entry is missing.")
            before = hashlib.sha256(previous).hexdigest() if previous is not None else None
            if entry.previous_entry_sha256 != before or entry.replaces_sequence != (entry.sequence - 1 or None):
                result.found.append(f"{registry.store.uri(key)} does not follow the stored entry before it.")
            previous = body
            if registry.trusted is not None and (why := registry.trusted.problem(entry, body)):
                is_wrong = key == keys[-1] or registry.trusted.knows(entry)
                (result.found if is_wrong else result.notes).append(f"{registry.store.uri(key)}: {why}.")
            named = (entry.version, entry.manifest_sha256)
            if named not in checked:
                checked.add(named)
                if key == keys[-1] or not _was_removed(registry, entry.version):
                    registry.get_checked(registry.layout.manifest(entry.version), entry.manifest_sha256)
            if entry.verdict_sha256 is not None:
                registry.get_checked(registry.layout.verdict(entry.version, entry.verdict_sha256), entry.verdict_sha256)
        except (IntegrityError, VersionNotFound, ConfigurationError) as error:
            result.found.append(str(error))


def _was_removed(registry: "Registry", version: str) -> bool:
    """Return whether a version was removed on purpose, which its mark says for ever."""
    return registry.is_retired(version) and registry.store.head(registry.layout.manifest(version)) is None


def _check_beside(registry: "Registry", result: Verification) -> None:
    """Check verdicts and evidence by their digests, and that the evidence which a verdict names is there.

    A report is no evidence: its name is its verdict's digest, and its own bytes are not promised by anything.
    """
    listed = [item for item in registry.store.list(registry.layout.versions) if registry.layout.version_of(item.key)]
    keys = {item.key for item in listed}
    named = [item for item in listed if PurePosixPath(item.key).parent.name in _BY_CONTENT]
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        for problem in pool.map(lambda item: _check_named(registry, item.key, keys), named):
            result.found += problem
    result.objects += len(named)
    result.bytes += sum(item.size for item in named)


def _check_named(registry: "Registry", key: str, keys: set[str]) -> list[str]:
    digest = PurePosixPath(key).stem
    version = registry.layout.version_of(key) or ""
    try:
        if PurePosixPath(key).parent.name != "verdicts":
            found = registry.store.digest(key)
            return [] if found == digest else [str(registry.wrong(key, digest, found))]
        verdict = json.loads(registry.get_checked(key, digest))
    except ObjectNotFound:
        return []  # removed since it was listed
    except IntegrityError as error:
        return [str(error)]
    except (ValueError, RecursionError):
        return [f"{registry.store.uri(key)} is no JSON."]
    measured = verdict.get("measurements", {}) if isinstance(verdict, dict) else None
    if not isinstance(measured, dict):
        return [f"{registry.store.uri(key)} is no verdict."]
    named = {name: measured.get(f"{name}_sha256") for name in EVIDENCE}
    missing = [
        evidence
        for name, sha256 in named.items()
        if sha256 and (evidence := registry.layout.evidence(version, name, sha256)) not in keys
    ]
    return [
        f"{registry.store.uri(evidence)} is missing; the verdict {digest[:SHORT]} names it." for evidence in missing
    ]


def _check_blob(registry: "Registry", digest: str, named_by: tuple[str, int, str]) -> tuple[list[str], int]:
    path, size, version = named_by
    key = registry.layout.blob(digest)
    try:
        found = registry.store.digest(key)
    except ObjectNotFound:
        if registry.store.head(registry.layout.manifest(version)) is None:
            return [], 0  # the version was removed since it was listed
        return [f"{registry.store.uri(key)} ({path} of {version[:SHORT]}) is missing."], 0
    return [] if found == digest else [str(registry.wrong(key, digest, found))], size
