"""Rows that were kept out: found again, shown, and written down for a person to correct."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from restill import ingest_reports, partitions
from restill.errors import ConfigurationError, VersionNotFound
from restill.judging import OUTCOME, REPORTS
from restill.ledger import BatchOutcome
from restill.pairs import REASONS
from restill.storage.objects import ObjectNotFound, ObjectStore

REPORT_ONLY = ("row", "reason")  # columns that say where a row came from, not what it says


def kept_out(store: ObjectStore) -> list[BatchOutcome]:
    """Return what was decided on files that have rows in quarantine, newest first; one for each report.

    Raises: StorageUnreachable.
    """
    found = []
    for item in store.list(f"{REPORTS}/"):
        if item.key.endswith(f"/{OUTCOME}"):
            outcome = BatchOutcome.model_validate_json(store.get(item.key))
            report = store.uri(item.key.removesuffix(OUTCOME) + ingest_reports.SUMMARY)
            if outcome.quarantined:
                found.append(outcome.model_copy(update={"report": report}))
    return sorted(found, key=lambda outcome: outcome.at, reverse=True)


def find(store: ObjectStore, name: str) -> BatchOutcome:
    """Return a file that has rows in quarantine, by the id of its report or of its batch, or the beginning of one.

    Raises: VersionNotFound if none or several fit; StorageUnreachable.
    """
    fitting = [
        found
        for found in kept_out(store)
        if name and (report_id(found).startswith(name) or (found.batch_id or "").startswith(name))
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        said = f"{name!r} is the beginning of several reports: {', '.join(map(report_id, fitting))}."
    else:
        said = f"No report or batch {name!r} has rows in quarantine."
    raise VersionNotFound(said, hint="All that have: restill quarantine list.")


def report_id(outcome: BatchOutcome) -> str:
    """Return what the report of a file is called: 16 hex digits."""
    return str(outcome.report).rsplit("/", 2)[-2]


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
                f"The quarantine of {outcome.file_name} is gone from {outcome.report}.",
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
