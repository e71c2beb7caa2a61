"""Validate files of pairs and add them to the data set; training is left to `retrain`."""

from typing import Any

from prefect import flow

from flows.recorded import recorded
from restill.settings import ColumnSettings, FormatSettings, Settings
from tasks.ingestion import ingest_file, restore_sample
from tasks.progress import run_name


@flow(name="ingest", description=__doc__, flow_run_name=run_name("ingest"))
def ingest(
    files: list[str],
    columns: ColumnSettings | None = None,
    file_format: FormatSettings | None = None,
    honour_split: bool | None = None,
    released_from: str | None = None,
) -> Any:
    """Take in files one after another; a refused one does not stop the next.

    Args:
        files: CSV, TSV, JSON Lines or Parquet: paths on the worker's machine, or s3:// addresses.
        columns: names of the columns in these files; default: as configured.
        file_format: encoding and separators of these files; default: as configured.
        honour_split: take the split from its column; default: as configured.
        released_from: the batch whose quarantined rows these are, corrected by a person.
    """
    chosen = {"columns": columns, "format": file_format, "honour_split": honour_split}

    def work(settings: Settings) -> tuple[str, object]:
        data = settings.data.model_copy(update={name: value for name, value in chosen.items() if value is not None})
        settings = settings.model_copy(update={"data": data})
        restore_sample(settings)
        outcomes = tuple(ingest_file(place, settings, released_from=released_from) for place in files)
        return " ".join(outcome.sentence for outcome in outcomes), outcomes

    return recorded("ingest", work)
