"""Digests of large files, kept so that a file is hashed once."""

import hashlib
import tempfile
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError


class _KnownDigest(BaseModel):
    """What a file was known by when it was hashed. Modification times are set back by restores and archives; the time
    of the last change to the inode is not, and a file that took another's place is another inode.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str


def signature(path: Path) -> dict[str, int]:
    """Return what changes when a file is written to or replaced, as far as that can be told without reading it."""
    stat = path.stat()
    return {
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }


def sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path, cache: Path | None) -> str:
    """Return the sha256 (hex) of a file, from the cache if its size, times and inode are known there.

    Args:
        path: the file.
        cache: a JSON file with digests by path, made if needed; None: always hashed.
    """
    if cache is None:
        return sha256(path)
    adapter = TypeAdapter(dict[str, _KnownDigest])
    try:
        known = adapter.validate_json(cache.read_bytes())
    except (FileNotFoundError, ValidationError):  # a damaged cache costs one hashing, no more
        known = {}
    key, now = str(path.resolve()), signature(path)
    entry = known.get(key)
    if entry is not None and entry.model_dump(exclude={"sha256"}) == now:
        return entry.sha256
    digest = sha256(path)
    known[key] = _KnownDigest(**now, sha256=digest)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache.parent, prefix=cache.name, delete=False) as file:
        file.write(adapter.dump_json(known, indent=1))
    Path(file.name).replace(cache)  # the last of several writers wins; each wrote true digests
    return digest
