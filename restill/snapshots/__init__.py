"""The data set and its versions: `data.dvc` names one; the only caller of DVC.

`data/pairs/batch=<id>/` holds one immutable Parquet file and its `batch.json`. A version is published in this order:
objects pushed to the S3 remote, each one found there and the new ones read back, then the version's record, then
`data.dvc`. So `data.dvc` never names data that the remote does not hold, and what a killed run left in `data/` is told
from the data set by not being named: `changing` and `pull` put the working copy back. Files that DVC holds nowhere are
not deleted but moved to `.restill/set-aside/`.

What a publication costs does not grow with the batches that are stored: the version that it was made from was found in
the remote when it was published itself, so only what is new is asked for. Objects that somebody deleted since then are
found by `pull`, which lists the remote (a retrain pulls after it has ingested), and by `verify`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from restill.errors import DataMissing, IntegrityError, PointerMoved, PointerNotShared
from restill.files import write_whole
from restill.settings import GitSettings
from restill.snapshots import contents, records, snapshot, working_copy
from restill.snapshots import git as pointers
from restill.snapshots.checks import verify
from restill.snapshots.git import Pushed
from restill.snapshots.records import BatchRecord, LogEntry, VersionDiff, VersionRecord, diff, find_version, versions
from restill.snapshots.snapshot import BATCH_FILE, PARQUET_FILE, Snapshot
from restill.snapshots.working_copy import (
    DATA,
    PAIRS,
    POINTER,
    configure_remote,
    locked,
    named_version,
    pointed_version,
)
from restill.storage.objects import ObjectStore

if TYPE_CHECKING:
    from dvc.repo import Repo

__all__ = [
    "BATCH_FILE",
    "DATA",
    "PAIRS",
    "PARQUET_FILE",
    "POINTER",
    "BatchRecord",
    "LogEntry",
    "Pushed",
    "Shared",
    "Snapshot",
    "VersionDiff",
    "VersionRecord",
    "adopt",
    "changing",
    "checkout",
    "configure_remote",
    "current",
    "diff",
    "find_version",
    "go_on_top",
    "locked",
    "log",
    "named_version",
    "open_version",
    "opened_version",
    "publish",
    "pull",
    "share",
    "verify",
    "versions",
]


@dataclass(frozen=True)
class Shared:
    """What git has of a version."""

    version: str
    commit: str | None  # made here; None: the branch named this version already
    pushed: Pushed | None  # None: pushing is not configured

    @property
    def sentence(self) -> str:
        """Return what was done, for a person."""
        done = f"committed as {self.commit[:12]}" if self.commit else "committed before"
        if self.pushed is None:
            return f"{POINTER} is {done}."
        return f"{POINTER} is {done} and pushed to {self.pushed.branch}. {self.pushed.note}".rstrip()


def current(root: Path) -> Snapshot | None:
    """Return the version that data.dvc names if the working copy is exactly that; None otherwise. Changes nothing."""
    version = named_version(root)
    if version is None or not (root / PAIRS).is_dir() or contents.version_of(working_copy.scan(root)) != version:
        return None
    return snapshot.describe(root / PAIRS, version)


def pull(root: Path, store: ObjectStore) -> Snapshot:
    """Bring the version that data.dvc names to the working copy, and make sure that the remote holds all of it.

    A version that has no record yet, because an older Restill or `dvc add` made it, gets one.

    Raises: DataMissing if there is no data.dvc, or neither this machine nor the remote holds what it names;
        StorageUnreachable; IntegrityError if the remote holds something else under an object's name.
    """
    return _pull(root, store, trusting=False)


@contextmanager
def changing(root: Path, store: ObjectStore) -> Iterator[Snapshot | None]:
    """Hold the data set for a change; `publish` ends the change.

    Yields the version that data.dvc names, which then is exactly what the working copy is; None if there is none yet.
    New partitions go to `root / PAIRS`, which is there.

    Raises: as `pull`; RestillError if another process holds the data set for an hour.
    """
    with locked(root):
        if named_version(root) is None:
            working_copy.set_aside(root, None, {})  # left by a first ingestion that died
            before = None
        else:
            before = _pull(root, store, trusting=True)
        (root / PAIRS).mkdir(parents=True, exist_ok=True)
        yield before


def publish(root: Path, store: ObjectStore, *, reason: str = "", at: datetime | None = None) -> Snapshot:
    """Make a version of the working copy: push it, find every object in the remote, record it, name it in data.dvc.

    If that fails, the working copy is put back to what data.dvc names. A killed run leaves data.dvc as it was; a
    record that it wrote is of a version that is whole, and does no harm.

    Args:
        reason: why there is a new version, for the log; the record keeps it.
        at: when, UTC; default: now.
    Raises: StorageUnreachable, IntegrityError.
    """
    with locked(root):
        configure_remote(root, store)
        before = named_version(root)
        with working_copy.opened(root, store) as repo:
            try:
                files = working_copy.scan(root)
                if not files:
                    raise DataMissing(f"There is nothing to publish: {root / DATA} is empty.")
                stage = working_copy.stage_of(repo)
                (out,) = stage.outs
                with working_copy.translated("the new batch"):
                    working_copy.take_in(repo, out, files)
                version = contents.version_of(files)
                known = records.read(store, before) if before is not None else None
                working_copy.push(repo, out, store, trusted=known.objects if known else frozenset())
                parent = before if before != version else None
                records.write(store, snapshot.record(root, files, parent=parent, reason=reason, at=at))
                working_copy.write_pointer(root, stage)
            except BaseException:  # Ctrl-C too
                _put_back_named(root, repo)
                raise
        return snapshot.describe(root / PAIRS, version)


def checkout(root: Path, store: ObjectStore, version: str) -> Snapshot:
    """Make data.dvc name a version again, and the working copy be it.

    Everything must be in DVC's cache or in the remote before anything changes, and is in the remote afterwards.

    Args:
        version: its id, or the beginning of it.
    Raises: VersionNotFound; DataMissing, StorageUnreachable, IntegrityError, and then nothing was changed.
    """
    record = find_version(store, version)
    return _become(root, store, record.version, size=record.size, nfiles=record.nfiles)


def adopt(root: Path, store: ObjectStore, pointer: bytes) -> Snapshot:
    """Make data.dvc exactly these bytes and the working copy what they name: another machine's version.

    Raises: as `checkout`; IntegrityError if the bytes are not a data.dvc.
    """
    where = f"The {POINTER} to adopt"
    version = pointed_version(pointer, where)
    size, nfiles = (working_copy.pointed_number(pointer, name, where) for name in ("size", "nfiles"))
    made = _become(root, store, version, size=size, nfiles=nfiles, pointer=pointer)
    pointers.adopted(root, pointer)
    return made


def go_on_top(root: Path, store: ObjectStore, moved: PointerMoved, git: GitSettings, *, base: str | None) -> Snapshot:
    """Adopt upstream's version, so that one change can be made again on top of it, and nothing else is lost by that.

    Args:
        moved: what `share` raised.
        base: the version that the change was made on; None: there was none.
    Raises: PointerNotShared if the base was never shared: versions made before, while pushing failed, would be dropped;
        what `adopt` raises.
    """
    if base is not None and not pointers.was_shared(root, git, base):
        theirs = pointed_version(moved.pointer, f"upstream's {POINTER}")
        raise PointerNotShared(
            f"Others pushed data version {theirs[:12]}, and this machine has versions that were never pushed, up to "
            f"{base[:12]} and the one just published. Going on with theirs would drop them, so nothing was adopted.",
            hint=f"See what differs: restill data diff {theirs[:12]} {base[:12]}. Then bring {POINTER} to theirs with "
            "git, and ingest the files of the batches that it lacks.",
        )
    return adopt(root, store, moved.pointer)


def open_version(root: Path, store: ObjectStore, version: str) -> Snapshot:
    """Bring a version to a folder of its own; data.dvc and the working copy stay as they are.

    The folder is whole or not there, and its files are checked against the record whenever it is opened.

    Args:
        version: its id, or the beginning of it.
    Raises: VersionNotFound; DataMissing, StorageUnreachable; IntegrityError if bytes are not what was recorded.
    """
    record = find_version(store, version)
    with locked(root):
        folder = _opened_folder(root, record.version)
        if _is_opened(root, record.version):
            return snapshot.describe(folder / PAIRS.relative_to(DATA), record.version)
        configure_remote(root, store)
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        with working_copy.opened(root, store) as repo:
            (out,) = working_copy.stage_of(repo).outs
            working_copy.point(out, record.version, size=record.size, nfiles=record.nfiles)
            working_copy.fetch(repo, out, store)
            for file in record.files:
                _link(working_copy.cached(repo, file.md5), partial / file.path)
        for expected, found in zip(record.files, contents.scan(partial), strict=True):
            if expected != found:
                raise IntegrityError(
                    f"{expected.path} of data version {record.short} is not what was recorded: expected SHA-256 "
                    f"{expected.sha256}, found {found.sha256}.",
                    hint=f"See what else is: restill data verify {record.short} --deep",
                )
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
        return snapshot.describe(folder / PAIRS.relative_to(DATA), record.version)


def opened_version(root: Path, version: str) -> Snapshot | None:
    """Return a version if it is whole on this machine, opened before or in the working copy. Changes nothing.

    Args:
        version: all 32 digits.
    """
    if _is_opened(root, version):
        return snapshot.describe(_opened_folder(root, version) / PAIRS.relative_to(DATA), version)
    return current(root) if named_version(root) == version else None


def share(root: Path, store: ObjectStore, message: str, git: GitSettings) -> Shared | None:
    """Commit data.dvc, and push it, as configured; the data set must be published.

    Returns: what was done; None if git is to be left alone.
    Raises: PointerMoved if the batch has to be applied again on top of upstream's version: `adopt` its pointer first;
        ConfigurationError, PointerNotShared; DataMissing, StorageUnreachable if the remote lacks what data.dvc names.
    """
    if not (git.commit or git.push):
        return None
    with locked(root):
        version = named_version(root)
        if version is None or store.head(records.key(version)) is None:
            version = pull(root, store).version  # no commit ever names data that the remote does not hold
        commit = pointers.commit_pointer(root, message, git)
        return Shared(version, commit, pointers.push_pointer(root, git) if git.push else None)


def log(root: Path, store: ObjectStore) -> list[LogEntry]:
    """Return the version that data.dvc names and what it was made from, newest first; then all others, newest first.

    Raises: IntegrityError, StorageUnreachable.
    """
    return records.log(store, named_version(root))


def _pull(root: Path, store: ObjectStore, *, trusting: bool) -> Snapshot:
    """Do what `pull` does.

    Args:
        trusting: believe that the remote holds a version if its record and its folder's object are there.
    """
    with locked(root):
        version = named_version(root)
        if version is None:
            raise DataMissing(
                f"There is no data set yet: {root / POINTER} does not exist.",
                hint="Bring in pairs: restill ingest FILE, or restill sample && restill retrain.",
            )
        configure_remote(root, store)
        recorded = store.head(records.key(version)) is not None
        with working_copy.opened(root, store) as repo:
            out = working_copy.named_output(repo)
            files = working_copy.scan(root)
            if contents.version_of(files) == version:
                with working_copy.translated(f"data version {version}"):
                    # The working copy may be there without DVC's own copy of it.
                    working_copy.take_in(repo, out, files)
            else:
                working_copy.fetch(repo, out, store)
                working_copy.put_back(repo, out)
                files = working_copy.scan(root)
            if not (trusting and recorded and store.head(working_copy.key(f"{version}.dir")) is not None):
                working_copy.push(repo, out, store)
        if not recorded:
            records.write(store, snapshot.record(root, files, parent=None, reason="found without a record", at=None))
        return snapshot.describe(root / PAIRS, version)


def _become(
    root: Path, store: ObjectStore, version: str, *, size: int, nfiles: int, pointer: bytes | None = None
) -> Snapshot:
    """Make the working copy a version and data.dvc name it, in DVC's form or as exactly these bytes."""
    with locked(root):
        configure_remote(root, store)
        before = named_version(root)
        with working_copy.opened(root, store) as repo:
            files = working_copy.scan(root)
            if before is not None and contents.version_of(files) == before:
                with working_copy.translated(f"data version {before}"):
                    working_copy.take_in(repo, working_copy.named_output(repo), files)  # so that it can be put back
            stage = working_copy.stage_of(repo)
            (out,) = stage.outs
            working_copy.point(out, version, size=size, nfiles=nfiles)
            working_copy.fetch(repo, out, store)
            working_copy.push(repo, out, store)
            try:
                working_copy.put_back(repo, out)
                if pointer is None:
                    working_copy.write_pointer(root, stage)
                else:
                    write_whole(root / POINTER, pointer)
            except BaseException:  # Ctrl-C too
                _put_back_named(root, repo)
                raise
        return snapshot.describe(root / PAIRS, version)


def _put_back_named(root: Path, repo: "Repo") -> None:
    """Make the working copy what data.dvc names again; nothing if it names nothing."""
    if named_version(root) is None:
        working_copy.set_aside(root, repo, {})
    else:
        working_copy.put_back(repo, working_copy.named_output(repo))


def _opened_folder(root: Path, version: str) -> Path:
    return root / ".restill" / "cache" / "data" / version


def _is_opened(root: Path, version: str) -> bool:
    folder = _opened_folder(root, version)
    # Its files' MD5 make the version, as in a record; `scan` reads only what changed since the last time.
    return folder.is_dir() and contents.version_of(contents.scan(folder, memory=folder.with_suffix(".json"))) == version


def _link(source: Path, target: Path) -> None:
    """Give a file of DVC's cache, which is read-only, a second name; a copy where that cannot be."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
