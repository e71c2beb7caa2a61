"""Rows that were kept out: found again, shown, and written down for a person to correct."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from restill import batches, partitions
from restill.batches import BatchOutcome
from restill.errors import ConfigurationError, VersionNotFound
from restill.pairs import REASONS
from restill.storage.objects import ObjectNotFound, ObjectStore

REPORT_ONLY = ("row", "reason")  # columns that say where a row came from, not what it says


def kept_out(store: ObjectStore) -> list[BatchOutcome]:
    """Return the ingested files that have rows in quarantine, newest first.

    Raises: StorageUnreachable.
    """
    return [found for found in reversed(batches.outcomes(store)) if found.quarantined and found.report]


def find(store: ObjectStore, batch: str) -> BatchOutcome:
    """Return the newest file that came to a batch, by its id or the beginning of it.

    Raises: VersionNotFound if none or several fit; StorageUnreachable.
    """
    fitting = [found for found in kept_out(store) if batch and (found.batch_id or "").startswith(batch)]
    if not fitting or len({found.batch_id for found in fitting}) > 1:
        several = ", ".join(sorted({str(found.batch_id) for found in fitting}))
        raise VersionNotFound(
            f"{batch!r} is the beginning of several batches: {several}."
            if several
            else f"No batch {batch!r} has rows in quarantine.",
            hint="All that have: restill quarantine list.",
        )
    return fitting[0]


def rows(outcome: BatchOutcome, store: ObjectStore, state_dir: Path, *, reasons: Sequence[str] = ()) -> pl.LazyFrame:
    """Return the rows of a file that were kept out, as they came: `row`, `reason`, `text_a` and the other columns.

    Args:
        outcome: what `find` returned.
        store: where the report is.
        state_dir: folder for the downloaded copy.
        reasons: only these; empty: all.
    Raises: ConfigurationError on an unknown reason; VersionNotFound if the report is gone; StorageUnreachable.
    """
    if unknown := [reason for reason in reasons if reason not in REASONS]:
        raise ConfigurationError(f"{unknown[0]!r} is no reason.", hint=f"Reasons: {', '.join(REASONS)}.")
    folder = str(outcome.report).removeprefix(store.uri()).lstrip("/").rsplit("/", 1)[0]
    path = state_dir / folder / partitions.QUARANTINE
    if not path.is_file():
        try:
            store.download(f"{folder}/{partitions.QUARANTINE}", path)
        except ObjectNotFound as error:
            raise VersionNotFound(
                f"The quarantine of batch {outcome.batch_id} is gone from {outcome.report}.",
                hint="Ingest the file again: restill ingest FILE.",
            ) from error
    found = pl.scan_parquet(path)
    return found.filter(pl.col("reason").is_in(list(reasons))) if reasons else found


def write_down(found: pl.LazyFrame, path: Path) -> int:
    """Write rows as CSV for a person to correct, with their reason; `restill quarantine release` takes it back.

    Returns: the number of rows.
    Raises: OSError.
    """
    found.sink_csv(path, include_bom=True)  # spreadsheets take UTF-8 for something else without the mark
    return int(found.select(pl.len()).collect().item())
