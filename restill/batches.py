"""One incoming file: judged, and if it is fit, added to the data set as one immutable partition.

`judging` decides and writes the partition aside, this module publishes it, and `ledger` keeps what was decided.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePath

import duckdb

from restill import forgotten, history, incoming, ingest_reports, ledger, readers, snapshots
from restill.errors import DataRejected, PointerMoved, RestillError
from restill.history import Entry, History
from restill.judging import REPORTS, Progress, judge, silent
from restill.ledger import BatchOutcome
from restill.settings import Settings
from restill.storage.objects import ObjectStore


def ingest_file(
    path: Path,
    settings: Settings,
    store: ObjectStore,
    *,
    released_from: str | None = None,
    progress: Progress = silent,
) -> BatchOutcome:
    """Judge a file and add it to the data set, or refuse it and leave the data set as it was.

    A refusal is an outcome, not an error: its report is in the object store, and the file stays where it is. Doing the
    same again, also with the same pairs under another name, changes nothing and says so.

    Args:
        path: the file.
        settings: rules and limits.
        store: where reports, decisions and the data set go.
        released_from: the report whose quarantine the rows come from. A person has looked at them: rules that hold a
            batch against the data set then warn only, and one row is enough.
        progress: called as rows are read and written.
    Raises: DataRejected if there is no such file; StorageUnreachable, DataMissing, IntegrityError if the data set
        cannot be had or published; what `snapshots.share` raises if data.dvc cannot be committed or pushed.
    """
    key = ledger.ledger_key(path, settings.data)
    with snapshots.locked(settings.root):
        for _ in range(settings.data.git.attempts):
            base = snapshots.named_version(settings.root)
            try:
                outcome = _ingest(path, key, settings, store, released_from, progress)
                break
            except PointerMoved as moved:  # somebody else's batch came first: this one goes on top of it
                snapshots.go_on_top(settings.root, store, moved, settings.data.git, base=base)
        else:
            raise RestillError(
                f"Others changed {snapshots.POINTER} {settings.data.git.attempts} times while "
                f"{readers.shown_name(path)} was added; the data set is as they left it.",
                hint="Run again, or raise data.git.attempts.",
            )
    ledger.record(outcome, key, store)
    return outcome


def ingest_place(
    place: str,
    settings: Settings,
    store: ObjectStore,
    *,
    dry_run: bool = False,
    released_from: str | None = None,
    progress: Progress = silent,
) -> BatchOutcome:
    """Ingest, or with `dry_run` only check, what is at a path or s3:// address.

    A file that cannot be had is refused like one that cannot be read: it must not hold up the others.

    Raises: as `ingest_file`, but for DataRejected.
    """
    try:
        path = incoming.fetched(place, settings, store)
        if dry_run:
            outcome = check_file(path, settings, store, progress=progress)
        else:
            outcome = ingest_file(path, settings, store, released_from=released_from, progress=progress)
        incoming.done_with(place, path)
    except DataRejected as error:
        return BatchOutcome(
            outcome="refused",
            file_name=readers.shown_name(PurePath(place)),
            batch_id=None,
            rows_in=0,
            accepted=0,
            quarantined={},
            reasons=(f"{error} {error.hint}".rstrip(),),
            at=datetime.now(UTC),
            final=False,
            dry_run=dry_run,
        )
    return outcome


def _ingest(
    path: Path, key: str, settings: Settings, store: ObjectStore, released_from: str | None, progress: Progress
) -> BatchOutcome:
    with (
        snapshots.changing(settings.root, store) as snapshot,
        _workspace(settings) as work,
        history.opened(_history(settings), snapshot, progress=_indexing(progress)) as past,
    ):
        judged = judge(
            path,
            key,
            settings,
            snapshot,
            past,
            work,
            gone=forgotten.read(store),
            released_from=released_from,
            progress=progress,
        )
        outcome = judged.outcome
        if outcome.outcome != "unchanged":
            report = f"{REPORTS}/{judged.folder.name}"
            outcome = outcome.model_copy(update={"report": ingest_reports.upload(judged.folder, store, report)})
        if outcome.outcome == "accepted" and judged.entry is not None:
            _move_in(work, settings.root / snapshots.PAIRS / f"batch={outcome.batch_id}")
            counted = f"{outcome.accepted:,} pair{'' if outcome.accepted == 1 else 's'}"
            reason = f"ingested {outcome.file_name} as batch {outcome.batch_id}: {counted}"
            snapshots.publish(settings.root, store, reason=reason)
            _remember(past, judged.entry, settings)
        if outcome.outcome != "refused":  # also of a batch that is there: the run that added it may have died before
            message = f"Data: {outcome.file_name}, batch {outcome.batch_id}"
            snapshots.share(settings.root, store, message, settings.data.git)
    return outcome


def _indexing(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress(done, total, "stored batches indexed")


def _history(settings: Settings) -> Path:
    return settings.state_dir / "cache" / "history"


def check_file(path: Path, settings: Settings, store: ObjectStore, *, progress: Progress = silent) -> BatchOutcome:
    """Judge a file as `ingest_file` would, and keep nothing but a report on this machine.

    Raises: as `ingest_file`.
    """
    with snapshots.locked(settings.root):
        snapshot = snapshots.current(settings.root)
        if snapshot is None and snapshots.named_version(settings.root) is not None:
            snapshot = snapshots.pull(settings.root, store)
        with (
            _workspace(settings) as work,
            history.opened(_history(settings), snapshot) as past,
        ):
            judged = judge(
                path,
                ledger.ledger_key(path, settings.data),
                settings,
                snapshot,
                past,
                work,
                gone=forgotten.read(store),
                progress=progress,
            )
    report = None if judged.outcome.outcome == "unchanged" else str(judged.folder / ingest_reports.SUMMARY)
    return judged.outcome.model_copy(update={"dry_run": True, "report": report})


@contextmanager
def _workspace(settings: Settings) -> Iterator[Path]:
    """Give a folder for one file's work. What a killed run left there goes; callers hold the data set's lock."""
    work = settings.state_dir / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_in(work: Path, partition: Path) -> None:
    """Move the partition's files from `work` to where the data set is, as one folder."""
    whole = work / "partition"
    whole.mkdir()
    for name in (snapshots.PARQUET_FILE, snapshots.BATCH_FILE):
        os.replace(work / name, whole / name)
    os.replace(whole, partition)


def _remember(past: History, entry: Entry, settings: Settings) -> None:
    """Add the batch to the history, which is a cache: where that fails, the next ingestion makes it again."""
    try:
        past.add(entry)
    except duckdb.Error:
        history.forget_file(_history(settings))
