"""Digests of large files, kept so that a file is hashed once."""

import hashlib
import tempfile
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError


class _KnownDigest(BaseModel):
    size: int
    mtime_ns: int
    sha256: str


def sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path, cache: Path | None) -> str:
    """Return the sha256 (hex) of a file, from the cache if its size and modification time are known there.

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
    key, stat = str(path.resolve()), path.stat()
    entry = known.get(key)
    if entry is not None and (entry.size, entry.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        return entry.sha256
    digest = sha256(path)
    known[key] = _KnownDigest(size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=digest)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=cache.parent, prefix=cache.name, delete=False) as file:
        file.write(adapter.dump_json(known, indent=1))
    Path(file.name).replace(cache)  # the last of several writers wins; each wrote true digests
    return digest
