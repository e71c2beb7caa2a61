"""The commands, and what they exit with: 0 done, 1 refused or failed, 2 usage or configuration, 3 storage unreachable,
130 interrupted. Imports are late, so that `--help` is quick.
"""

import errno
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_server
from flows.cli import (
    approving,
    data,
    doctor,
    environment,
    ingestion,
    judging,
    listing,
    observing,
    quarantine,
    registry,
    remote,
    scoring,
    screen,
    serving,
    stack,
    tuning,
)
from flows.cli.screen import Json
from restill import __version__
from restill.errors import RestillError
from restill.settings import find_root, load_settings

if TYPE_CHECKING:
    from flows.retrain import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Distil, judge and promote sentence-pair similarity models, unattended.",
)
DataVersion = Annotated[
    str | None,
    typer.Option(
        help="Train on this version of the data set (restill data log) instead of the one that data.dvc names; "
        "no new files are taken in."
    ),
]
config_app = typer.Typer(no_args_is_help=True, help="What is configured.")
app.command("ingest")(ingestion.ingest)
app.command("score")(scoring.score)
app.command("list")(listing.list_choices)
app.command("tune")(tuning.tune)
app.command("promote")(approving.promote)
app.command("evaluate")(judging.evaluate)
app.command("serve")(serving.serve)
app.command("up")(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("deploy")(stack.deploy)
app.command("doctor")(doctor.doctor)
app.command("history")(observing.history)
app.command("metrics")(observing.metrics)
app.add_typer(data.app, name="data")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(registry.app, name="registry")
app.add_typer(judging.app, name="gates")
app.add_typer(config_app, name="config")


def main() -> None:
    """Run the command line and exit with its code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]  # anywhere on the line
    environment.debug = len(arguments) < len(sys.argv) - 1
    environment.prepare()
    try:
        app(arguments)
    except SystemExit as end:
        if end.code == environment.INTERRUPTED:
            screen.err.print(environment.interruption)
        raise
    except RestillError as error:
        if environment.debug:
            raise
        screen.show_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if environment.debug or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        place = error.filename or find_root()
        free = shutil.disk_usage(find_root()).free / 1e6
        screen.err.print(
            f"[red]✘[/] {escape(error.strerror or str(error))}: {escape(str(place))} ({free:,.0f} MB free)"
        )
        screen.err.print(
            "  Make room or give write access there, then run the same command again: it goes on where it stopped."
        )
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the libraries' own logs.")] = False,  # noqa: ARG001
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        screen.out.print(__version__)
        raise typer.Exit


@app.command()
def retrain(
    force: Annotated[bool, typer.Option(help="Train and judge anew even if nothing is new.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, like `restill plan`.")
    ] = False,
    data_version: DataVersion = None,
    purpose: Annotated[str, typer.Option(help="Why, in some words: part of the run's name.")] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of this run only, such as epochs=3; again."),
    ] = None,
    is_remote: Annotated[bool, typer.Option("--remote", help="Run on a worker: the deployment retrain/cpu.")] = False,
    follow: Annotated[bool, typer.Option(help="With --remote: show its state and log until it ends.")] = True,
) -> None:
    """Take in new files, distil a student if anything changed, and promote it if it passes every gate."""
    from restill import plans, storage
    from restill.settings.overrides import Overrides

    overrides = remote.parse_settings(changes or [])
    if is_remote and not dry_run:
        asked = {"force": force, "data_version": data_version, "purpose": purpose, "overrides": overrides}
        remote.retrain({name: value for name, value in asked.items() if value}, follow=follow)
        return
    settings = Overrides.model_validate(overrides).apply(load_settings())
    with screen.out.status("Looking at what is new …"):
        store = storage.connect(settings.storage, settings.state_dir)
        plan = plans.make_plan(settings, store, data_version=data_version)
    if dry_run or (plan.nothing_to_do and not force):
        screen.print_lines("Nothing is new" if plan.nothing_to_do else "A retrain would", plan.lines())
        if not dry_run:
            observing.note_unchanged(store, settings, plan)
        raise typer.Exit(0)
    screen.print_lines("Retraining", ["train and judge anew: --force"] if force else plan.lines())

    environment.move_native_logs()
    with screen.out.status(
        "Starting Prefect …" if prefect_server.is_set_up() else "Starting Prefect's own server for this run …"
    ):
        from flows.retrain import retrain as flow
    environment.watch_run()
    outcome = cast(
        "Outcome",
        environment.run(
            flow,
            force=force,
            data_version=data_version and plan.named_version,
            purpose=purpose,
            overrides=overrides or None,
        ),
    )
    screen.print_outcome(outcome)
    raise typer.Exit(1 if outcome.refused else 0)


@app.command()
def plan(as_json: Json = False, data_version: DataVersion = None) -> None:
    """Say what a retrain would do now. Changes nothing."""
    from restill import plans, storage

    settings = load_settings()
    store = storage.connect(settings.storage, settings.state_dir)
    made = plans.make_plan(settings, store, data_version=data_version)
    if as_json:
        screen.print_json({"nothing_to_do": made.nothing_to_do, "steps": made.lines()})
        return
    screen.print_lines("Nothing is new" if made.nothing_to_do else "A retrain would", made.lines())


@app.command()
def sample(
    drop: Annotated[str, typer.Option(help="1, 2, poisoned or degrading.")] = "1",
    folder: Annotated[Path | None, typer.Option(help="Where to write it; default: the incoming folder.")] = None,
) -> None:
    """Write a drop of sample pairs (English and Chinese voice commands) to the incoming folder."""
    from restill import sample as samples

    settings = load_settings()
    if drop not in samples.DROPS:
        raise typer.BadParameter(f"{drop!r} is none of {', '.join(samples.DROPS)}", param_hint="--drop")
    path = samples.write_drop(drop, folder or settings.sample_dir)
    screen.out.print(f"Wrote {path}. Next: [bold]restill retrain[/] takes it in.")


@app.command()
def predict(
    a: Annotated[str, typer.Argument(help="First sentence.")],
    b: Annotated[str, typer.Argument(help="Second sentence.")],
    as_json: Json = False,
) -> None:
    """Ask the champion whether two sentences mean the same."""
    environment.move_native_logs()
    from restill import storage
    from restill.serving import Champion

    settings = load_settings()
    if not a.strip() or not b.strip():
        raise typer.BadParameter("both sentences need at least one visible character.")
    store = storage.connect(settings.storage, settings.state_dir, for_reading=True)
    champion = Champion.from_store(
        store,
        model=settings.registry.model,
        alias=settings.registry.alias,
        cache_dir=settings.state_dir / "cache" / "versions",
        threads=settings.latency.threads,
        trusted_keys=settings.registry.trusted_keys or None,
    )
    (answer,) = champion.predict([(a, b)])
    if as_json:
        screen.print_json(
            {
                "similarity": answer.similarity,
                "probability": answer.probability,
                "same": answer.same,
                "version": champion.version,
            }
        )
        return
    screen.out.print(
        f"[bold]{'same' if answer.same else 'different'}[/]  similarity {answer.similarity:.3f}, "
        f"probability {answer.probability:.3f} (same from {champion.calibration.threshold:.3f}), "
        f"version {champion.version[:12]}"
    )


@config_app.command("show")
def show_config(as_json: Json = False) -> None:
    """Print the effective values; secrets are masked."""
    settings = load_settings()
    values = settings.model_dump(mode="json")
    if as_json:
        screen.print_json(values)
        return
    table = Table("key", "value", "meaning", box=None, pad_edge=False)
    _add_section(table, settings, "")
    screen.out.print(table)


def _add_section(table: Table, section: object, prefix: str) -> None:
    from pydantic import BaseModel

    for name, field in type(section).model_fields.items():  # type: ignore[attr-defined]
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            _add_section(table, value, f"{prefix}{name}.")
        else:
            table.add_row(f"{prefix}{name}", escape(str(value)), field.description or "")
