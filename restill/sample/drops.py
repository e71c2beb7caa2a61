"""Drops as files."""

import csv
import io
from pathlib import Path
from typing import Literal, get_args

from restill.errors import ConfigurationError
from restill.files import write_whole

Drop = Literal["1", "2", "poisoned", "degrading"]
DROPS: tuple[Drop, ...] = get_args(Drop)
COLUMNS = ("text_a", "text_b", "label", "source", "language")


def write_drop(drop: Drop, folder: Path) -> Path:
    """Write `sample-<drop>.csv` into `folder` and return its path; the same bytes every time, and never half a file.

    Raises:
        ConfigurationError: the packages with the templates are not installed.
        OSError: the file cannot be written.
    """
    try:
        from restill.sample import recipes  # needs the `embedded` extra
    except ModuleNotFoundError as error:
        if error.name not in ("hassil", "home_assistant_intents"):
            raise
        raise ConfigurationError(
            f"The sample data is made with the package {error.name}, which is not installed.",
            hint="Install the `embedded` extra: pip install 'restill[embedded]'.",
        ) from error
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in recipes.make_rows(drop):
        writer.writerow((row.text_a, row.text_b, row.label, row.source, row.language))
    path = folder / f"sample-{drop}.csv"
    write_whole(path, text.getvalue().encode("utf-8"))
    return path
