"""The files of a data folder by their digests: the MD5 that DVC names them by, and our own SHA-256.

A version is DVC's digest of that list, so it can be told without asking DVC, which takes time for every stored batch.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, field_validator

from restill.files import write_whole

CHUNK_BYTES = 1024**2
PARTIAL = re.compile(r"\..*\.partial")  # partitions that are being written; .dvcignore hides them from DVC too
# A file this young when it is hashed could change again without its times showing it: it is not remembered.
YOUNG_NS = 2_000_000_000


class FileRecord(BaseModel):
    """One file of a version."""

    model_config = ConfigDict(frozen=True)

    path: str  # in the data folder, with slashes
    md5: str  # its object in the DVC remote
    sha256: str
    bytes: int

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"a path inside the data folder is needed, not {path!r}")
        return path


def scan(folder: Path, *, memory: Path | None = None) -> tuple[FileRecord, ...]:
    """Return the files of a folder, by path; one that goes away meanwhile is left out.

    Args:
        folder: none there is as an empty one.
        memory: file that remembers digests by size, times and inode; None: read every byte.
    """
    known = _remembered(memory) if memory is not None else {}
    kept: dict[str, list[int | str]] = {}
    files = []
    for path in _walk(folder):
        relative = path.relative_to(folder).as_posix()
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()  # of what a link points at: DVC may be told to link the working copy
            marks: list[int | str] = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
            before = known.get(relative, [])
            if before[:4] == marks:
                md5, sha256 = map(str, before[4:])
                kept[relative] = before
            else:
                began = time.time_ns()
                md5, sha256 = digests(path)
                if max(found.st_mtime_ns, found.st_ctime_ns) < began - YOUNG_NS:
                    kept[relative] = [*marks, md5, sha256]
            files.append(FileRecord(path=relative, md5=md5, sha256=sha256, bytes=found.st_size))
    if memory is not None and kept != known:
        with contextlib.suppress(OSError):  # a full or read-only disk only costs the next scan its time
            write_whole(memory, json.dumps(kept).encode())
    return tuple(sorted(files, key=lambda file: file.path))


def listing(files: Iterable[FileRecord]) -> bytes:
    """Return the bytes of DVC's object for a folder of these files."""
    entries = [{"md5": file.md5, "relpath": file.path} for file in sorted(files, key=lambda file: file.path)]
    return json.dumps(entries, sort_keys=True).encode()


def version_of(files: Iterable[FileRecord]) -> str:
    """Return the version that these files are: 32 hex digits."""
    return hashlib.md5(listing(files), usedforsecurity=False).hexdigest()


def digests(path: Path) -> tuple[str, str]:
    """Return MD5 and SHA-256 (hex) of a file, read once."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
    return md5.hexdigest(), sha256.hexdigest()


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not PARTIAL.fullmatch(name)]
        yield from (Path(place) / name for name in names if not PARTIAL.fullmatch(name))


def _remembered(memory: Path) -> dict[str, list[int | str]]:
    try:
        found = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: everything is read anew
        return {}
    return found if isinstance(found, dict) else {}
