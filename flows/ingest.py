"""Validate files of pairs and add them to the data set; training is left to `retrain`."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed

from restill.settings import ColumnSettings, load_settings
from tasks.ingestion import ingest_file, restore_sample
from tasks.progress import run_name


@flow(name="ingest", description=__doc__, flow_run_name=run_name("ingest"))
def ingest(files: list[Path], columns: ColumnSettings | None = None) -> Any:
    """Take in files one after another; a refused one does not stop the next.

    Args:
        files: CSV, TSV, JSON Lines or Parquet files on this machine.
        columns: names of the columns in these files; default: as configured.
    """
    settings = load_settings()
    if columns is not None:
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"columns": columns})})
    restore_sample(settings)
    outcomes = tuple(ingest_file(path, settings) for path in files)
    return Completed(message=" ".join(outcome.sentence for outcome in outcomes), data=outcomes)
