"""Whether versions still are what they were published as: the remote's objects, and the working copy's files."""

import secrets
from pathlib import Path

from restill.errors import IntegrityError
from restill.snapshots import contents, records, working_copy
from restill.snapshots.contents import FileRecord
from restill.snapshots.records import VersionRecord
from restill.snapshots.working_copy import DATA, POINTER
from restill.storage.objects import ObjectNotFound, ObjectStore


def verify(root: Path, store: ObjectStore, version: str | None = None, *, deep: bool = False) -> list[str]:
    """Return what is wrong with a version, in sentences; empty if it is whole.

    The working copy is looked at only for the version that data.dvc names; every byte of it is read.

    Args:
        version: its id, or the beginning of it; default: the one that data.dvc names.
        deep: download every object of the remote and hash it too.
    Raises: VersionNotFound for a version that is asked for by name; StorageUnreachable.
    """
    problems: list[str] = []
    try:
        named = working_copy.named_version(root)
    except IntegrityError as error:
        named = None
        problems.append(str(error))
    if version is not None:
        record: VersionRecord | None = records.find_version(store, version)
    elif named is None:
        return problems or [f"There is no data set: {root / POINTER} does not exist."]
    else:
        record = _record(store, named, problems)
    if record is None:
        return problems
    problems += _remote(root, store, record, deep=deep)
    if record.version == named:
        with working_copy.locked(root):  # an ingestion under way is no damage
            if working_copy.named_version(root) == named:
                problems += _differences(record.files, contents.scan(root / DATA), "the working copy")
    return problems


def _record(store: ObjectStore, version: str, problems: list[str]) -> VersionRecord | None:
    try:
        record = records.read(store, version)
    except IntegrityError as error:
        problems.append(str(error))
        return None
    if record is None:
        problems.append(
            f"Data version {version} has no record in {store.uri(records.key(version))}, so its files cannot be "
            "checked: an older Restill published it. restill retrain, or any ingestion, writes one."
        )
    return record


def _remote(root: Path, store: ObjectStore, record: VersionRecord, *, deep: bool) -> list[str]:
    """Hold the remote to a record: each object there, of the right size, and if `deep` of the right bytes."""
    problems = []
    sizes = working_copy.sizes_in_remote(store)
    listing = contents.listing(record.files)
    expected = {file.md5: (file.bytes, file.sha256, file.path) for file in record.files}
    wanted = [(digest, size, sha256, path) for digest, (size, sha256, path) in sorted(expected.items())]
    wanted.append((f"{record.version}.dir", len(listing), "", "the list of its files"))
    for digest, size, sha256, path in wanted:
        key = working_copy.key(digest)
        found = sizes.get(key)
        if found is None:
            problems.append(f"The remote lacks {store.uri(key)} ({path}).")
        elif found != size:
            problems.append(f"{store.uri(key)} ({path}) has {found:,} bytes instead of {size:,}.")
        elif deep:
            problems += _bytes(root, store, digest, sha256, path)
    return problems


def _bytes(root: Path, store: ObjectStore, digest: str, sha256: str, path: str) -> list[str]:
    """Download an object and hash it."""
    key = working_copy.key(digest)
    scratch = root / ".restill" / "cache" / f"verify-{secrets.token_hex(6)}"
    try:
        store.download(key, scratch)
        found_md5, found_sha256 = contents.digests(scratch)
    except ObjectNotFound:
        return [f"The remote lacks {store.uri(key)} ({path})."]
    finally:
        scratch.unlink(missing_ok=True)
    if found_md5 != digest.removesuffix(".dir") or (sha256 and found_sha256 != sha256):
        return [f"{store.uri(key)} ({path}) is damaged: its SHA-256 is {found_sha256}, its MD5 {found_md5}."]
    return []


def _differences(expected: tuple[FileRecord, ...], found: tuple[FileRecord, ...], where: str) -> list[str]:
    """Compare files with the record's, path by path."""
    before = {file.path: file for file in expected}
    now = {file.path: file for file in found}
    problems = [f"{path} is not in {where}." for path in before if path not in now]
    problems += [f"{path} in {where} is not of this version." for path in now if path not in before]
    problems += [
        f"{path} in {where} has SHA-256 {now[path].sha256} instead of {file.sha256}."
        for path, file in before.items()
        if path in now and now[path] != file
    ]
    return problems
