"""`restill retrain --remote`: the same run on a worker, with its state and its log on this screen."""

import logging
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from flows.cli import environment, screen
from flows.cli.stack import require_server
from restill.errors import ConfigurationError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, Log, State

DEPLOYMENT = "retrain/cpu"


def retrain(parameters: dict[str, Any], *, follow: bool) -> None:
    """Start the deployment, and follow it unless told not to. Exits 1 if something was refused or the run failed."""
    require_server()
    with screen.out.status("Asking the Prefect server …"):
        from flows import remote

        run = environment.talk(lambda: remote.start(DEPLOYMENT, parameters))
        alone = environment.talk(lambda: remote.missing_worker(run))
    screen.out.print(f"Asked for run [bold]{escape(run.name)}[/]: {escape(remote.address(run.id))}")
    if alone is not None:
        screen.out.print(
            f"[yellow]▲[/] No worker of the pool {alone} reports; the run waits for one. restill up starts it."
        )
    if not follow:
        return
    try:
        ended = environment.talk(lambda: remote.watch(run.id, on_state=_say_state, on_line=_say_line))
    except KeyboardInterrupt:
        environment.interruption = f"\nThe run goes on without this command: {remote.address(run.id)}"
        raise typer.Exit(environment.INTERRUPTED) from None
    state = ended.state
    if state is None or not state.is_completed() or ended.labels.get("restill.outcome") == "refused":
        raise typer.Exit(1)


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Return `NAME=VALUE` arguments as overrides. Raises: ConfigurationError naming what is wrong."""
    from pydantic import ValidationError

    from restill.settings.overrides import Overrides

    values: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigurationError(f"--set takes NAME=VALUE, not {text!r}.", hint="For example --set epochs=3.")
        values[name] = value.split(",") if name == "exports" else value
    try:
        return Overrides.model_validate(values).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(
            f"--set cannot do that: {said}.", hint=f"What can be set: {', '.join(Overrides.model_fields)}."
        ) from error


def _say_state(state: "State", run: "FlowRun") -> None:
    style = "green" if state.is_completed() else "red" if state.is_final() else "bold"
    screen.out.print(f"[{style}]{escape(str(state.name))}[/]  {escape(run.name)}  {escape(state.message or '')}")


def _say_line(line: "Log") -> None:
    from restill.expectations import as_line  # names and texts are others': no control sign may reach the terminal

    mark = "[red]✘[/] " if line.level >= logging.ERROR else "[yellow]▲[/] " if line.level >= logging.WARNING else ""
    if line.message == "Finished in state Completed()":  # of each step: they say themselves what they did
        return
    for text in line.message.splitlines():
        screen.out.print(f"  [dim]{line.timestamp:%H:%M:%S}[/] {mark}{escape(as_line(text))}")
