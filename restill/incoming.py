"""Files that wait to be taken in: in a folder on this machine, or under an `s3://` address.

An object is named by its address; where only its content matters, it is downloaded first, whole. Which content an
object had is remembered under `batches/objects/`, so that looking at what is new moves no file twice.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from restill import ledger, partitions, readers
from restill.errors import ConfigurationError, DataRejected
from restill.ledger import BatchOutcome
from restill.settings import Settings
from restill.storage.objects import ObjectInfo, ObjectNotFound, ObjectStore

S3 = "s3://"
_OBJECTS = "batches/objects"


@dataclass(frozen=True)
class IncomingFile:
    """One file that waits, and what is known of it without reading it again."""

    place: str  # path, or s3:// address
    name: str  # for a person
    outcome: BatchOutcome | None  # what was decided on exactly this content under these rules
    sha256: str | None = None  # of the content; None: not known yet
    problem: str | None = None  # why it cannot be taken in, in words
    modified: datetime | None = None  # last; None: it cannot be taken in


def waiting(settings: Settings, store: ObjectStore) -> Iterator[IncomingFile]:
    """Yield what is in the incoming place, by name; hidden files are passed over.

    Raises: StorageUnreachable; ConfigurationError if `data.incoming` is no address.
    """
    if settings.data.incoming.startswith(S3):
        yield from _objects(settings, store)
    else:
        yield from _files(settings, store)


def fetched(place: str, settings: Settings, store: ObjectStore) -> Path:
    """Return the file at `place` on this machine; an object is downloaded, unless that was done before.

    Raises: DataRejected if there is no such object, or it changed while it was read; StorageUnreachable.
    """
    if not place.startswith(S3):
        return Path(place)
    source, key = _located(place, store)
    if {".", ".."} & set(key.split("/")):  # a server may take it for a path
        raise DataRejected(f"{place} names no object: a part of its key is . or ..", hint="Check the address.")
    found = source.head(key)
    if found is None:
        raise DataRejected(f"There is no object {place}.", hint="Check the address.")
    path = _cached(found, place, settings)
    if not path.is_file():
        source.download(key, path)
        if source.head(key) != found:
            path.unlink()
            raise DataRejected(f"{place} changed while it was read.", hint="Run again when it is written whole.")
        digest = partitions.file_digest(path)
        store.create(f"{_OBJECTS}/{_identity(found, place)}", digest.encode(), content_type="text/plain")
    return path


def done_with(place: str, path: Path) -> None:
    """Delete the downloaded copy of an object; a file of the user's stays."""
    if place.startswith(S3):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _files(settings: Settings, store: ObjectStore) -> Iterator[IncomingFile]:
    folder = settings.root / settings.data.incoming
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = readers.shown_name(path)
        if name.startswith("."):
            continue
        if not path.is_file():
            yield IncomingFile(str(path), name, None, problem="it is not a file")
        elif not readers.is_known(path.name):
            yield IncomingFile(str(path), name, None, problem=f"its name ends in none of {', '.join(readers.FORMATS)}")
        else:
            try:
                digest = partitions.file_digest(path)
                outcome = ledger.outcome_of(ledger.key_of_digest(digest, settings.data), store)
                modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield IncomingFile(str(path), name, outcome, digest, modified=modified)
            except OSError as error:  # unreadable: it must not hold up the others
                problem = f"it cannot be read: {error.strerror or error}"
                yield IncomingFile(str(path), name, None, problem=problem)


def _objects(settings: Settings, store: ObjectStore) -> Iterator[IncomingFile]:
    source, prefix = _located(settings.data.incoming, store)
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    for found in source.list(prefix):
        name = found.key.removeprefix(prefix)
        place = source.uri(found.key)
        if name.startswith(".") or name.endswith("/"):
            continue
        if not readers.is_known(name):
            yield IncomingFile(place, name, None, problem=f"its name ends in none of {', '.join(readers.FORMATS)}")
            continue
        try:
            digest = store.get(f"{_OBJECTS}/{_identity(found, place)}").decode()
        except ObjectNotFound:
            yield IncomingFile(place, name, None, modified=found.modified)
        else:
            key = ledger.key_of_digest(digest, settings.data)
            yield IncomingFile(place, name, ledger.outcome_of(key, store), digest, modified=found.modified)


def _located(place: str, store: ObjectStore) -> tuple[ObjectStore, str]:
    """Return the bucket of an address, reached as our own store is, and the key in it."""
    parts = urlsplit(place, allow_fragments=False)
    if not parts.netloc:
        raise ConfigurationError(f"Not an S3 address: {place!r}.", hint="Write s3://bucket/folder/.")
    connection = dataclasses.replace(store.connection, bucket=parts.netloc, prefix="")
    key = place.removeprefix(f"{S3}{parts.netloc}").lstrip("/")
    return (store if connection == store.connection else ObjectStore(connection)), key


def _identity(found: ObjectInfo, place: str) -> str:
    """Return a name of an object's content, as far as the store tells it without sending it."""
    seen = f"{place}\0{found.etag}\0{found.size}\0{found.modified.isoformat()}"
    return hashlib.sha256(seen.encode()).hexdigest()


def _cached(found: ObjectInfo, place: str, settings: Settings) -> Path:
    name = place.rsplit("/", 1)[-1]
    if name in ("", ".", ".."):
        raise DataRejected(f"{place} names no file.", hint="Name an object, not a folder.")
    return settings.state_dir / "cache" / "incoming" / _identity(found, place)[:16] / name
