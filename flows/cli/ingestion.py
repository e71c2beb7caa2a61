"""`restill ingest`: files of pairs into the data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

import typer
from pydantic import BaseModel, ValidationError

from flows.cli import environment, screen
from restill.errors import ConfigurationError
from restill.settings import load_settings

if TYPE_CHECKING:
    from restill.ledger import BatchOutcome

S3 = "s3://"
Section = TypeVar("Section", bound=BaseModel)


def ingest(
    files: Annotated[
        list[str], typer.Argument(help="CSV, TSV, JSON Lines or Parquet; plain, .gz or .zst; paths or s3:// addresses.")
    ],
    text_a: Annotated[str | None, typer.Option(help="Column with the first sentence.")] = None,
    text_b: Annotated[str | None, typer.Option(help="Column with the second sentence.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with 0, 1, a score in [0, 1], or nothing.")] = None,
    source: Annotated[str | None, typer.Option(help="Column that says where a pair comes from.")] = None,
    language: Annotated[str | None, typer.Option(help="Column with a language tag.")] = None,
    created_at: Annotated[str | None, typer.Option(help="Column with the time a pair was made, ISO 8601.")] = None,
    split: Annotated[str | None, typer.Option(help="Column with train, validation or test.")] = None,
    honour_split: Annotated[
        bool | None, typer.Option("--honour-split/--draw-split", help="Take the split from its column, or draw it.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Codec such as gb18030; auto: UTF-8 or byte order mark.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Character between the fields of a CSV file.")] = None,
    quote: Annotated[str | None, typer.Option(help="Character around fields; empty: none.")] = None,
    escape: Annotated[str | None, typer.Option(help="Character before a literal one; empty: quotes double.")] = None,
    header: Annotated[
        bool | None, typer.Option("--header/--no-header", help="Without one, columns are named 1, 2, 3 …")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate and report; store nothing.")] = False,
) -> None:
    """Validate files of pairs and add them to the data set."""
    settings = load_settings()
    named = {
        "text_a": text_a,
        "text_b": text_b,
        "label": label,
        "source": source,
        "language": language,
        "created_at": created_at,
        "split": split,
    }
    written = {"encoding": encoding, "delimiter": delimiter, "quote": quote, "escape": escape, "header": header}
    columns = _changed(settings.data.columns, named, "data.columns")
    file_format = _changed(settings.data.format, written, "data.format")
    data = _changed(settings.data, {"columns": columns, "format": file_format, "honour_split": honour_split}, "data")
    settings = settings.model_copy(update={"data": data})
    places = [place if place.startswith(S3) else str(Path(place).resolve()) for place in files]
    if missing := [place for place in places if not place.startswith(S3) and not Path(place).is_file()]:
        raise typer.BadParameter(f"there is no file {missing[0]}", param_hint="FILES")
    if unnamed := [place for place in places if not place.isprintable()]:
        raise typer.BadParameter(f"the name {unnamed[0]!r} cannot be shown: rename the file", param_hint="FILES")
    environment.move_native_logs()
    if dry_run:
        from restill import batches, storage

        store = storage.connect(settings.storage, settings.state_dir)
        with screen.out.status("Validating …"):
            checked = [batches.ingest_place(place, settings, store, dry_run=True) for place in places]
        screen.print_batches(checked)
        raise typer.Exit(1 if any(batch.outcome == "refused" for batch in checked) else 0)
    run_and_print(places, columns=columns, file_format=file_format, honour_split=data.honour_split)


def run_and_print(places: list[str], **parameters: object) -> None:
    """Run the flow on files, print what became of them, and exit."""
    with screen.out.status("Starting Prefect …"):
        from flows.ingest import ingest as flow
    environment.watch_run(lines=False)  # the outcome is printed below
    outcomes = cast("tuple[BatchOutcome, ...]", environment.run(flow, files=places, **parameters))
    screen.print_batches(outcomes)
    refused = any(batch.outcome == "refused" for batch in outcomes)
    if not refused:
        screen.out.print("Next: [bold]restill retrain[/], and commit data.dvc to keep this version of the data.")
    raise typer.Exit(1 if refused else 0)


def _changed(section: Section, options: Mapping[str, object], name: str) -> Section:
    """Return a section of the configuration with the options that were given.

    Args:
        section: as configured.
        options: by field; None: not given.
        name: of the section, for the error.
    Raises: ConfigurationError naming each wrong value.
    """
    given = {field: value for field, value in options.items() if value is not None}
    try:
        return type(section).model_validate({**section.model_dump(), **given})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, (name, *item['loc'])))}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(f"The options are not valid: {wrong}.", hint="See restill ingest --help.") from error
