"""`restill quarantine …`: rows that were kept out of the data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli import environment, ingestion, screen
from flows.cli.screen import Json
from restill.settings import ColumnSettings, FormatSettings, Settings, load_settings

if TYPE_CHECKING:
    from restill.storage import ObjectStore

app = typer.Typer(no_args_is_help=True, help="Rows that were kept out of the data set, and the way back in.")
Report = Annotated[str, typer.Argument(help="Report or batch, or its first characters (restill quarantine list).")]
SHOWN_CHARACTERS = 48


def _store(settings: Settings) -> "ObjectStore":
    from restill import storage

    return storage.connect(settings.storage, settings.state_dir)


@app.command("list")
def list_batches(as_json: Json = False) -> None:
    """List the files with rows in quarantine, newest first."""
    from restill import quarantine

    found = quarantine.kept_out(_store(load_settings()))
    if as_json:
        screen.print_json([{"report_id": quarantine.report_id(one), **one.model_dump(mode="json")} for one in found])
        return
    table = Table(
        "report", "when (UTC)", "file", "batch", "was", "kept out", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for outcome in found:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in outcome.quarantined.items())
        when = f"{outcome.at:%Y-%m-%d %H:%M}"
        identity = quarantine.report_id(outcome)
        batch = outcome.batch_id or "–"
        table.add_row(identity, when, escape(_shown(outcome.file_name)), batch, outcome.outcome, reasons)
    screen.out.print(table if found else "No row was kept out so far.")


@app.command()
def show(
    report: Report,
    reason: Annotated[list[str] | None, typer.Option(help="Only rows with this reason; may be given again.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows to print.")] = 20,
    to: Annotated[
        Path | None, typer.Option(help="Write all of them to this CSV file instead, to be corrected.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the rows of a file that were kept out, as they came, with the reason."""
    from restill import quarantine
    from restill.pairs import REASONS

    settings = load_settings()
    store = _store(settings)
    outcome = quarantine.find(store, report)
    rows = quarantine.rows(outcome, store, settings.state_dir, reasons=reason or ())
    if to is not None:
        count = quarantine.write_down(rows, to)
        screen.out.print(f"Wrote {count:,} rows to {escape(str(to))}. Correct them, delete the others, and then")
        screen.out.print(f"  [bold]restill quarantine release {quarantine.report_id(outcome)} {escape(str(to))}[/]")
        return
    head = rows.head(limit).collect()
    if as_json:
        screen.print_json(head.to_dicts())
        return
    screen.out.print(escape(_shown(outcome.sentence, 200)))
    for name, count in outcome.quarantined.items():
        screen.out.print(f"  {count:,} {name}: {REASONS.get(name, '')}")
    table = Table("row", "reason", "text_a", "text_b", "label", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row, why, *values in head.select("row", "reason", "text_a", "text_b", "label").iter_rows():
        table.add_row(f"{row:,}", why, *(escape(_shown(value)) for value in values))
    screen.out.print(table)
    screen.out.print(f"To correct them: restill quarantine show {quarantine.report_id(outcome)} --to corrected.csv")


@app.command()
def release(
    report: Report,
    file: Annotated[Path, typer.Argument(help="What `show --to` wrote, corrected.", exists=True, dir_okay=False)],
) -> None:
    """Let corrected rows in: through the same rules; the ones that compare with the data set only warn."""
    from restill import quarantine

    environment.move_native_logs()
    outcome = quarantine.find(_store(load_settings()), report)
    ingestion.run_and_print(
        [str(file.resolve())],
        columns=ColumnSettings(),
        file_format=FormatSettings(),
        released_from=quarantine.report_id(outcome),
    )


def _shown(value: str | None, characters: int = SHOWN_CHARACTERS) -> str:
    from restill.expectations import as_line

    text = as_line(value or "")
    return text if len(text) <= characters else text[: characters - 1] + "…"
