"""`restill tune`: search for better settings, and look at what was tried."""

from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_server
from flows.cli import environment, screen
from flows.cli.screen import Json
from restill.errors import ConfigurationError
from restill.settings import load_settings

if TYPE_CHECKING:
    from restill.tuning import TrialRecord


def tune(
    trials: Annotated[int, typer.Option(min=0, help="Students to train now; 0 only shows what was tried.")] = 10,
    study: Annotated[str, typer.Option(help="Name of the study; the same name goes on with it.")] = "default",
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            help="What to draw, e.g. distillation.alpha=0:0.9, distillation.learning_rate=0.0005:0.005:log or "
            "student.hidden_size=64,128; may be given several times. Default: sizes, losses, temperature, alpha.",
        ),
    ] = None,
    data_version: Annotated[str | None, typer.Option(help="Version of the data set; default: data.dvc's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be drawn from what.")] = False,
    as_json: Json = False,
) -> None:
    """Search for better settings with Optuna, judged on the validation split alone. Changes no configuration."""
    environment.move_native_logs()
    from restill import tuning

    settings = load_settings()
    space = _space(over) if over else tuning.DEFAULT_SPACE
    tuning.distributions(space, settings)
    if dry_run:
        screen.print_lines(
            f"{trials} trials of study {study} would draw", [f"{name} from {text}" for name, text in space.items()]
        )
        return
    if trials == 0:
        found = tuning.trials(tuning.open_study(settings, study, create=False))
    else:
        with screen.out.status(
            "Starting Prefect …" if prefect_server.is_set_up() else "Starting Prefect's own server for this run …"
        ):
            from flows.tune import tune as flow
        environment.watch_run(lines=not as_json)
        found = cast(
            "list[TrialRecord]",
            environment.run(flow, trials=trials, study=study, space=space, data_version=data_version),
        )
    if as_json:
        facts = [vars(trial) for trial in found]
        screen.print_json([{**fact, "started": fact["started"] and fact["started"].isoformat()} for fact in facts])
        return
    _print(found)


def _space(over: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in over]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ConfigurationError(
            f"--over {wrong[0]!r} does not say what to draw from.", hint="Write setting=low:high or setting=a,b,c."
        )
    return {name.strip(): text.strip() for name, _, text in pairs}


def _print(found: "list[TrialRecord]") -> None:
    from restill import tuning

    names = list(dict.fromkeys(name for trial in found for name in trial.values))
    table = Table("trial", "score", "state", "epochs", "s", box=None, pad_edge=False)
    for name in names:
        table.add_column(name.split(".", 1)[1])
    for trial in found:
        table.add_row(
            str(trial.number),
            "–" if trial.score is None else f"{trial.score:.4f}",
            trial.state,
            str(trial.epochs),
            "" if trial.seconds is None else f"{trial.seconds:.0f}",
            *(escape(trial.values.get(name, "configured")) for name in names),
            style=None if trial.state == "complete" else "dim",
        )
    screen.out.print(table)
    best = tuning.best(found)
    if best is not None and best.values:
        screen.print_lines("The best, for restill.toml", tuning.toml_lines(best))
