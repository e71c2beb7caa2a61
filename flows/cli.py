"""The `restill` command: parses, calls a flow or the library, prints. Imports late, so that `--help` is quick.

Exit codes: 0 done, 1 refused or failed (and why), 2 usage or configuration, 3 storage unreachable, 130 interrupted.
"""

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from restill import __version__
from restill.errors import DataRejected, RestillError

if TYPE_CHECKING:
    from flows.retrain import Outcome
    from restill.batches import BatchOutcome
    from restill.gates import Verdict
    from restill.registry import Registry
    from restill.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Distil, judge and promote sentence-pair similarity models, unattended.",
)
registry_app = typer.Typer(no_args_is_help=True, help="Versions, promotions and rollbacks.")
config_app = typer.Typer(no_args_is_help=True, help="What is configured.")
app.add_typer(registry_app, name="registry")
app.add_typer(config_app, name="config")

# A terminal wraps by itself; a file keeps whole lines, and tables their columns.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED = 130
WAS_INTERRUPTED = "[yellow]Interrupted.[/] What was finished is kept; the same command goes on from there."
_debug = False

Json = Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")]


def main() -> None:
    """Run the command line and exit with its code."""
    global _debug
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]  # anywhere on the line
    _debug = len(arguments) < len(sys.argv) - 1
    _prepare_environment()
    try:
        app(arguments)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            err.print(WAS_INTERRUPTED)
        raise
    except RestillError as error:
        if _debug:
            raise
        _show(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if _debug or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        err.print(f"[red]✘[/] {escape(str(error))}")
        err.print(
            "  Make room or give write access there, then run the same command again: it goes on where it stopped."
        )
        sys.exit(1)


def _prepare_environment() -> None:
    """Set what the libraries read when they are first imported; whoever set it before has the last word."""
    from flows import prefect_server
    from restill.settings import find_root

    defaults = {
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "DVC_NO_ANALYTICS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "TF_CPP_MIN_LOG_LEVEL": "0" if _debug else "3",
        "TF_NUM_INTRAOP_THREADS": str(os.cpu_count() or 1),
        "TF_NUM_INTEROP_THREADS": str(os.cpu_count() or 1),
    }
    if not prefect_server.is_set_up():
        # No server is set up: Prefect starts one for this run, and keeps its runs in the project.
        defaults |= {
            "PREFECT_HOME": str(prefect_server.home(find_root())),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
    if not _debug:
        # Runs log to Prefect; on the screen, steps print what a person needs.
        defaults["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _move_native_logs() -> None:
    """Send what C++ libraries and child processes write past Python into a log file; ours stays on the screen."""
    from restill.settings import find_root

    if _debug:
        return
    folder = find_root() / ".restill" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "native.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, name in ((1, "stdout"), (2, "stderr")):
        getattr(sys, name).flush()
        setattr(sys, name, os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8"))
        os.dup2(log, number)
    os.close(log)


def _watch_run() -> None:
    """Show a flow's steps here, and keep its server, if it is only there for this run, from outliving it."""
    from flows import prefect_server
    from tasks import progress

    progress.watch(out)
    if not prefect_server.is_set_up():
        prefect_server.end_orphans()
        prefect_server.leave_at_once_on_interrupt(lambda: err.print(f"\n{WAS_INTERRUPTED}"), INTERRUPTED)


def _show(error: RestillError) -> None:
    err.print(f"[red]✘[/] {escape(str(error))}")
    if isinstance(error, DataRejected):
        for reason in error.reasons:
            err.print(f"  • {escape(reason)}")
    if error.hint:
        err.print(f"  {escape(error.hint)}")


@app.callback(invoke_without_command=True)
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the libraries' own logs.")] = False,  # noqa: ARG001
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


def _settings() -> "Settings":
    from restill.settings import load_settings

    return load_settings()


def _registry(settings: "Settings") -> "Registry":
    from restill import storage
    from restill.registry import Registry

    return Registry(storage.connect(settings.storage, settings.state_dir), settings.registry.model)


@app.command()
def retrain(
    force: Annotated[bool, typer.Option(help="Train and judge anew even if nothing is new.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, like `restill plan`.")
    ] = False,
) -> None:
    """Take in new files, distil a student if anything changed, and promote it if it passes every gate."""
    from restill import plans, storage
    from restill.settings import load_settings

    settings = load_settings()
    with out.status("Looking at what is new …"):
        store = storage.connect(settings.storage, settings.state_dir)
        plan = plans.make_plan(settings, store)
    if dry_run or (plan.nothing_to_do and not force):
        _print_lines("Nothing is new" if plan.nothing_to_do else "A retrain would", plan.lines())
        raise typer.Exit(0)
    _print_lines("Retraining", ["train and judge anew: --force"] if force else plan.lines())

    _move_native_logs()
    with out.status(
        "Starting Prefect …" if "PREFECT_API_URL" in os.environ else "Starting Prefect's own server for this run …"
    ):
        from flows.retrain import retrain as flow
    _watch_run()
    outcome = cast("Outcome", flow(force=force))  # Prefect types every call as None or a state
    _print_outcome(outcome)
    raise typer.Exit(1 if outcome.refused else 0)


@app.command()
def plan(as_json: Json = False) -> None:
    """Say what a retrain would do now. Changes nothing."""
    from restill import plans, storage

    settings = _settings()
    made = plans.make_plan(settings, storage.connect(settings.storage, settings.state_dir))
    if as_json:
        _print_json({"nothing_to_do": made.nothing_to_do, "steps": made.lines()})
        return
    _print_lines("Nothing is new" if made.nothing_to_do else "A retrain would", made.lines())


@app.command()
def ingest(
    files: Annotated[
        list[Path],
        typer.Argument(help="CSV, TSV, JSON Lines or Parquet; plain, .gz or .zst.", exists=True, dir_okay=False),
    ],
    text_a: Annotated[str | None, typer.Option(help="Column with the first sentence.")] = None,
    text_b: Annotated[str | None, typer.Option(help="Column with the second sentence.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with 0, 1, a score in [0, 1], or nothing.")] = None,
    source: Annotated[str | None, typer.Option(help="Column that says where a pair comes from.")] = None,
    language: Annotated[str | None, typer.Option(help="Column with a language tag.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Validate and report; store nothing.")] = False,
) -> None:
    """Validate files of pairs and add them to the data set."""
    settings = _settings()
    named = {"text_a": text_a, "text_b": text_b, "label": label, "source": source, "language": language}
    columns = settings.data.columns.model_copy(update={key: value for key, value in named.items() if value is not None})
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"columns": columns})})
    _move_native_logs()
    if dry_run:
        from restill import batches, storage

        store = storage.connect(settings.storage, settings.state_dir)
        checked = [batches.check_file(path, settings, store) for path in files]
        _print_batches(checked)
        raise typer.Exit(1 if any(batch.outcome == "refused" for batch in checked) else 0)
    with out.status("Starting Prefect …"):
        from flows.ingest import ingest as flow
    _watch_run()
    outcomes = cast("tuple[BatchOutcome, ...]", flow(files=[path.resolve() for path in files], columns=columns))
    _print_batches(outcomes)
    refused = any(batch.outcome == "refused" for batch in outcomes)
    if not refused:
        out.print("Next: [bold]restill retrain[/], and commit data.dvc to keep this version of the data.")
    raise typer.Exit(1 if refused else 0)


@app.command()
def sample(
    drop: Annotated[str, typer.Option(help="1, 2, poisoned or degrading.")] = "1",
    folder: Annotated[Path | None, typer.Option(help="Where to write it; default: the incoming folder.")] = None,
) -> None:
    """Write a drop of sample pairs (English and Chinese voice commands) to the incoming folder."""
    from restill import sample as samples

    settings = _settings()
    if drop not in samples.DROPS:
        raise typer.BadParameter(f"{drop!r} is none of {', '.join(samples.DROPS)}", param_hint="--drop")
    path = samples.write_drop(drop, folder or settings.root / settings.data.incoming)
    out.print(f"Wrote {path}. Next: [bold]restill retrain[/] takes it in.")


@app.command()
def predict(
    a: Annotated[str, typer.Argument(help="First sentence.")],
    b: Annotated[str, typer.Argument(help="Second sentence.")],
    as_json: Json = False,
) -> None:
    """Ask the champion whether two sentences mean the same."""
    _move_native_logs()
    from restill import storage
    from restill.serving import Champion

    settings = _settings()
    if not a.strip() or not b.strip():
        raise typer.BadParameter("both sentences need at least one visible character.")
    store = storage.connect(settings.storage, settings.state_dir)
    champion = Champion.from_store(
        store,
        model=settings.registry.model,
        alias=settings.registry.alias,
        cache_dir=settings.state_dir / "cache" / "versions",
        threads=settings.latency.threads,
    )
    (answer,) = champion.predict([(a, b)])
    if as_json:
        _print_json(
            {
                "similarity": answer.similarity,
                "probability": answer.probability,
                "same": answer.same,
                "version": champion.version,
            }
        )
        return
    out.print(
        f"[bold]{'same' if answer.same else 'different'}[/]  similarity {answer.similarity:.3f}, "
        f"probability {answer.probability:.3f} (same from {champion.calibration.threshold:.3f}), "
        f"version {champion.version[:12]}"
    )


@app.command()
def up() -> None:
    """Start what the embedded defaults need: the S3 server. Safe to run twice."""
    from restill import storage

    settings = _settings()
    with out.status("Starting …"):
        store = storage.connect(settings.storage, settings.state_dir)
    out.print(f"Object store: {store.connection.endpoint_url or 'AWS S3'}, bucket {store.connection.bucket}")


@app.command()
def down() -> None:
    """Stop the embedded S3 server; its data stays."""
    from restill.storage.embedded import EmbeddedServer

    settings = _settings()
    with out.status("Stopping the embedded S3 server (it writes everything down first) …"):
        stopped = EmbeddedServer(settings.state_dir).stop()
    out.print("Stopped." if stopped else "It was not running.")


@registry_app.command("list")
def list_versions(as_json: Json = False) -> None:
    """List the versions, newest first, with their verdicts."""
    from restill.gates import Verdict

    settings = _settings()
    registry = _registry(settings)
    live = registry.champion(settings.registry.alias)
    rows = []
    for manifest in sorted(registry.versions(), key=lambda found: found.created_at, reverse=True):
        verdicts = [Verdict.model_validate_json(document) for document in registry.verdicts(manifest.version)]
        quality = verdicts[-1].measurements.accuracy["challenger"].accuracy if verdicts else None
        rows.append(
            {
                "version": manifest.version,
                "created_at": manifest.created_at.isoformat(timespec="seconds"),
                "champion": bool(live and live.version == manifest.version),
                "accuracy": quality,
                "verdict": ("passed" if verdicts[-1].passed else verdicts[-1].reason) if verdicts else "not judged",
            }
        )
    if as_json:
        _print_json(rows)
        return
    table = Table("version", "created (UTC)", "test accuracy", "verdict", box=None, pad_edge=False)
    for row in rows:
        mark = " ★" if row["champion"] else ""
        accuracy = "–" if row["accuracy"] is None else f"{row['accuracy']:.3f}"
        table.add_row(
            f"{str(row['version'])[:12]}{mark}",
            str(row["created_at"])[:16],
            accuracy,
            escape(str(row["verdict"])),
        )
    out.print(table if rows else "No version is registered yet. Next: restill retrain.")


@registry_app.command()
def show(
    version: Annotated[str, typer.Argument(help="Version, or its first characters.")], as_json: Json = False
) -> None:
    """Show what a version was made from and how it was judged."""
    from restill.gates import Verdict

    settings = _settings()
    registry = _registry(settings)
    manifest = registry.manifest(version)
    verdicts = [Verdict.model_validate_json(document) for document in registry.verdicts(manifest.version)]
    if as_json:
        _print_json(
            {
                "manifest": manifest.model_dump(mode="json"),
                "verdicts": [verdict.model_dump(mode="json") for verdict in verdicts],
            }
        )
        return
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("version", manifest.version)
    facts.add_row("created", f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC")
    for name, value in manifest.lineage.model_dump().items():
        facts.add_row(name.replace("_", " "), ", ".join(value) if isinstance(value, list | tuple) else str(value))
    for file in manifest.files:
        facts.add_row(file.role, f"{file.path}  {file.bytes:,} bytes  {file.sha256[:12]}")
    out.print(facts)
    for verdict in verdicts:
        _print_gates(verdict)


@registry_app.command()
def history(as_json: Json = False) -> None:
    """Show every promotion and rollback, newest first."""
    settings = _settings()
    entries = list(reversed(_registry(settings).history(settings.registry.alias)))
    if as_json:
        _print_json([entry.model_dump(mode="json") for entry in entries])
        return
    table = Table("number", "when (UTC)", "what", "version", "by", "why", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(
            str(entry.sequence),
            f"{entry.at:%Y-%m-%d %H:%M}",
            entry.action,
            entry.version[:12],
            escape(entry.promoted_by),
            escape(entry.reason),
        )
    out.print(table if entries else "Nothing was promoted yet. Next: restill retrain.")


@registry_app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept in the history for ever.")],
    to: Annotated[str | None, typer.Option(help="Version to go back to; default: the one live before.")] = None,
    by: Annotated[str | None, typer.Option(help="Who decides; default: the user of this machine.")] = None,
) -> None:
    """Make an earlier version champion again, as a new entry of the history."""
    import getpass

    settings = _settings()
    entry = _registry(settings).rollback(settings.registry.alias, to=to, reason=reason, by=by or getpass.getuser())
    out.print(
        f"Champion is now {entry.version[:12]} (number {entry.sequence}). It is not promoted away by itself "
        "until a new student passes every gate."
    )


@registry_app.command()
def verify() -> None:
    """Check the promotion history and every stored file against its digest."""
    settings = _settings()
    with out.status("Reading and hashing every file …"):
        problems = _registry(settings).verify(settings.registry.alias)
    for problem in problems:
        out.print(f"[red]✘[/] {escape(problem)}")
    out.print("The registry is whole." if not problems else f"{len(problems)} problems.")
    raise typer.Exit(1 if problems else 0)


@config_app.command("show")
def show_config(as_json: Json = False) -> None:
    """Print the effective values; secrets are masked."""
    settings = _settings()
    values = settings.model_dump(mode="json")
    if as_json:
        _print_json(values)
        return
    table = Table("key", "value", "meaning", box=None, pad_edge=False)
    _add_section(table, settings, "")
    out.print(table)


def _add_section(table: Table, section: object, prefix: str) -> None:
    from pydantic import BaseModel

    for name, field in type(section).model_fields.items():  # type: ignore[attr-defined]
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            _add_section(table, value, f"{prefix}{name}.")
        else:
            table.add_row(f"{prefix}{name}", escape(str(value)), field.description or "")


def _short_path(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _print_lines(title: str, lines: list[str]) -> None:
    out.print(f"[bold]{title}[/]")
    for line in lines:
        out.print(f"  • {escape(line)}")


def _print_batches(batches: "list[BatchOutcome] | tuple[BatchOutcome, ...]") -> None:
    for batch in batches:
        mark = "[red]✘[/]" if batch.outcome == "refused" else "[green]✔[/]"
        out.print(f"{mark} {escape(batch.sentence)}")
        for reason in batch.reasons:
            out.print(f"    • {escape(reason)}")
        if batch.report:
            out.print(f"    report: {escape(batch.report)}")


_STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def _print_gates(verdict: "Verdict") -> None:
    table = Table("gate", "answer", "observed", "limit", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in verdict.rows:
        style = _STYLES.get(row.answer, "dim")
        table.add_row(row.gate, f"[{style}]{row.answer}[/]", escape(row.observed), escape(row.limit))
    out.print()
    out.print(table)
    out.print(f"[bold]{escape(verdict.reason)}[/]")


def _print_outcome(outcome: "Outcome") -> None:
    _print_batches([batch for batch in outcome.batches if batch.outcome == "refused"])
    if outcome.decision is not None:
        verdict = outcome.decision.verdict
        _print_gates(verdict)
        numbers = Table("test split", "accuracy", "F1", "ROC-AUC", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, found in verdict.measurements.accuracy.items():
            values = ["–" if value is None else f"{value:.3f}" for value in (found.accuracy, found.f1, found.roc_auc)]
            numbers.add_row(name, *values)
        out.print()
        out.print(numbers)
        out.print()
    if outcome.promotion is not None:
        out.print(
            f"[green]✔[/] Champion is version [bold]{outcome.promotion.version[:12]}[/], "
            f"promotion number {outcome.promotion.sequence}"
        )
    else:
        champion = outcome.plan.champion
        out.print(f"Champion is unchanged: {champion.version[:12] if champion else 'there is none yet'}")
        if outcome.decision is None:
            out.print(escape(outcome.sentence))
    if outcome.decision is not None:
        out.print(f"  report   {_short_path(outcome.decision.report.path)}")
        out.print(f"           {outcome.decision.report_uri}")
    steps = [
        ('restill predict "turn on the light" "switch the light on"', "ask the champion"),
        ("restill registry history", "why this model is live"),
    ]
    if outcome.promotion is None and outcome.plan.champion is None:
        steps = []
    steps += [
        ("restill sample --drop 2; restill retrain", "new pairs, a challenger"),
        ("restill down", "stop the embedded S3 server"),
    ]
    for number, (command, meaning) in enumerate(steps):
        out.print(f"  {'' if number else 'next':8} {command:58} {meaning}")
