"""The data set and its versions: `data.dvc` names one; the only caller of DVC.

`data/pairs/batch=<id>/` holds one immutable Parquet file and its `batch.json`. A version is published in this order:
objects pushed to the S3 remote, each one found there and the new ones read back, then `data.dvc`. So `data.dvc` never
names data that the remote does not hold, and what a killed run left in `data/` is told from the data set by not being
named: `changing` and `pull` put the working copy back. Files that DVC holds nowhere are not deleted but moved to
`.restill/set-aside/`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from restill.errors import DataMissing, IntegrityError, RestillError
from restill.snapshots import working_copy
from restill.snapshots.working_copy import DATA, PAIRS, POINTER, configure_remote
from restill.storage.objects import ObjectStore

__all__ = [
    "BATCH_FILE",
    "DATA",
    "PAIRS",
    "PARQUET_FILE",
    "POINTER",
    "Snapshot",
    "changing",
    "configure_remote",
    "current",
    "locked",
    "named_version",
    "publish",
    "pull",
]

PARQUET_FILE = "part-0.parquet"
BATCH_FILE = "batch.json"
LOCK_SECONDS = 60 * 60  # a second ingestion queues behind the first
READ_ROWS = 65_536


@dataclass(frozen=True)
class Snapshot:
    """One version of the data set, present on this machine."""

    version: str  # DVC's digest of the data folder, 32 hex digits
    root: Path  # data/pairs
    batches: tuple[str, ...]  # ids, sorted
    rows: dict[str, int]  # pairs per split

    @property
    def short(self) -> str:
        """Return the version as people are shown it."""
        return self.version[:12]

    def files(self) -> tuple[Path, ...]:
        """Return the Parquet file of each batch, in the order of `batches`."""
        return tuple(self._file(batch) for batch in self.batches)

    def read(
        self, columns: Sequence[str], *, split: str | None = None, batch: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows batch by batch in a fixed order; memory is bounded by one of them.

        Args:
            columns: stored columns to read, in this order.
            split: only this split.
            batch: only this batch's rows.
        """
        needed = list(columns) if split is None or "split" in columns else [*columns, "split"]
        for identity in self.batches if batch is None else (batch,):
            with pq.ParquetFile(self._file(identity)) as file:
                for rows in file.iter_batches(READ_ROWS, columns=needed, use_threads=False):
                    kept = rows if split is None else rows.filter(pc.equal(rows["split"], split))
                    if kept.num_rows:
                        yield kept.select(list(columns))

    def sentences(self) -> Iterator[str]:
        """Yield both sentences of every pair, repeats included."""
        for rows in self.read(("text_a", "text_b")):
            for column in rows.columns:
                yield from column.to_pylist()

    def _file(self, batch: str) -> Path:
        return self.root / f"batch={batch}" / PARQUET_FILE


def named_version(root: Path) -> str | None:
    """Return the version that data.dvc names; None if there is no data.dvc.

    Raises: IntegrityError if data.dvc is not a pointer to one folder, for example in a merge conflict.
    """
    path = root / POINTER
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    found = re.findall(r"^[\s-]*md5:\s*['\"]?([0-9a-f]{32})\.dir['\"]?\s*$", text, re.MULTILINE)
    if len(found) != 1:
        raise IntegrityError(
            f"{path} names {len(found)} data versions instead of one.",
            hint=f"Resolve the merge conflict, or bring it back: git checkout {POINTER}",
        )
    return str(found[0])


def current(root: Path) -> Snapshot | None:
    """Return the version that data.dvc names if the working copy is exactly that; None otherwise. Changes nothing."""
    version = named_version(root)
    if version is None or not (root / PAIRS).is_dir() or not (root / ".dvc" / "config").is_file():
        return None
    with working_copy.opened(root) as repo:
        return None if working_copy.named_output(repo).workspace_status() else _describe(root, version)


def pull(root: Path, store: ObjectStore) -> Snapshot:
    """Bring the version that data.dvc names to the working copy, and make sure that the remote holds all of it.

    Raises: DataMissing if there is no data.dvc, or neither this machine nor the remote holds what it names;
        StorageUnreachable; IntegrityError if the remote holds something else under an object's name.
    """
    with locked(root):
        version = named_version(root)
        if version is None:
            raise DataMissing(
                f"There is no data set yet: {root / POINTER} does not exist.",
                hint="Bring in pairs: restill ingest FILE, or restill sample && restill retrain.",
            )
        configure_remote(root, store)
        with working_copy.opened(root, store) as repo:
            out = working_copy.named_output(repo)
            if out.workspace_status():
                working_copy.fetch(repo, out, store)
                working_copy.put_back(repo, out)
            else:
                out.add(relink=False)  # the working copy may be there without DVC's own copy of it
            working_copy.push(repo, out, store)
        return _describe(root, version)


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
            before = pull(root, store)
        (root / PAIRS).mkdir(parents=True, exist_ok=True)
        yield before


def publish(root: Path, store: ObjectStore) -> Snapshot:
    """Make a version of the working copy: push it, find every object in the remote, then name it in data.dvc.

    If that fails, the working copy is put back to what data.dvc names. A killed run leaves data.dvc as it was.

    Raises: StorageUnreachable, IntegrityError.
    """
    with locked(root):
        configure_remote(root, store)
        with working_copy.opened(root, store) as repo:
            try:
                stage = working_copy.stage_of(repo)
                (out,) = stage.outs
                with working_copy.translated("the new batch"):
                    out.add(relink=False)
                working_copy.push(repo, out, store)
                working_copy.write_pointer(root, stage)
            except BaseException:  # Ctrl-C too
                if named_version(root) is None:
                    working_copy.set_aside(root, repo, {})
                else:
                    working_copy.put_back(repo, working_copy.named_output(repo))
                raise
        version = named_version(root)
        if version is None:
            raise AssertionError(f"{root / POINTER} was just written and is not there")
        return _describe(root, version)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Let one process at a time change the data set; others queue. A thread may nest it.

    Raises: RestillError after an hour.
    """
    path = root / ".restill" / "data.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, is_singleton=True)
    try:
        with lock.acquire(timeout=LOCK_SECONDS):
            yield
    except filelock.Timeout as error:
        raise RestillError(
            f"Another process has been changing the data set for {LOCK_SECONDS // 60} minutes (it holds {path}).",
            hint="Look for another restill process; end it if it hangs. Nothing was changed.",
        ) from error


def _describe(root: Path, version: str) -> Snapshot:
    rows = {"train": 0, "validation": 0, "test": 0}
    batches = sorted(path.name.removeprefix("batch=") for path in (root / PAIRS).glob("batch=*"))
    for batch in batches:
        facts = root / PAIRS / f"batch={batch}" / BATCH_FILE
        try:
            for split, count in json.loads(facts.read_text("utf-8"))["splits"].items():
                rows[split] += count
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(
                f"{facts} does not describe its batch: {error!r}.",
                hint=f"This version was not made by Restill. Name another one: git checkout … -- {POINTER}",
            ) from error
    return Snapshot(version, root / PAIRS, tuple(batches), rows)
