"""`restill history` and `restill metrics`: what became of the last runs, for a person and for Prometheus."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli import screen
from flows.cli.screen import Json
from restill.errors import RestillError
from restill.settings import Settings, load_settings

if TYPE_CHECKING:
    from restill.plans import Plan
    from restill.runs import Past
    from restill.storage import ObjectStore

_STYLES = {"promoted": "green", "done": "green", "refused": "yellow", "waiting": "yellow", "failed": "red"}


def history(
    limit: Annotated[int, typer.Option(min=1, help="How many runs, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Show the last runs: what came of each, how long it took and what it cost in device-seconds."""
    from restill import runs, storage

    settings = load_settings()
    store = storage.connect(settings.storage, settings.state_dir, for_reading=True)
    found = runs.last(store, settings.registry.model, limit)
    if as_json:
        screen.print_json([_facts(run) for run in found])
        return
    if not found:
        screen.out.print("No run is recorded yet.")
        return
    table = Table("began (UTC)", "flow", "result", "took", "device-s", "what happened", box=None, pad_edge=False)
    for run in found:
        table.add_row(*_row(run))
    screen.out.print(table)


def metrics(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: metrics.host.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on, 0: any; default: metrics.port.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write them once into this file, for node_exporter's textfile collector.")
    ] = None,
) -> None:
    """Give metrics of runs to Prometheus, under /metrics, until stopped."""
    from restill import metering

    settings = load_settings()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"metrics": settings.metrics.model_copy(update=given)})
    if out is not None:
        metering.write(settings, out)
        return
    metering.serve(settings, say=lambda address: screen.out.print(f"Metrics: {escape(address)}"))


def note_unchanged(store: "ObjectStore", settings: Settings, plan: "Plan") -> None:
    """Record that a retrain found nothing to do; with a key that may not, say so."""
    from restill import runs

    try:
        runs.note_unchanged(store, flow="retrain", model=settings.registry.model, sentence=plan.lines()[-1])
    except RestillError as error:
        screen.err.print(f"[yellow]▲[/] {escape(str(error))} This run is not in restill history.")


def _facts(run: "Past") -> dict[str, object]:
    ended = run.ended
    return (ended or run.started).model_dump(mode="json") | ({} if ended else {"result": None, "ended_at": None})


def _row(run: "Past") -> tuple[str, ...]:
    begun, ended = run.started, run.ended
    row = (f"{begun.started_at.astimezone(UTC):%Y-%m-%d %H:%M}", begun.flow)
    if ended is None:
        since = (datetime.now(UTC) - begun.started_at).total_seconds()
        return (*row, "[yellow]no end[/]", f"({_time(since)})", "", f"It is under way on {begun.host}, or was killed.")
    style = _STYLES.get(ended.result, "default")
    cost = f"{ended.device_seconds:,.0f}" if ended.device_seconds else "–"
    return (*row, f"[{style}]{ended.result}[/]", _time(ended.seconds), cost, escape(ended.sentence))


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
