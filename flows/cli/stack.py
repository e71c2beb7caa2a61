"""`restill up`, `down`, `status` and `deploy`: what keeps running on this machine, and what the server is told."""

import functools
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_server
from flows.cli import environment, screen
from flows.cli.screen import Json
from restill.errors import ConfigurationError, PrefectUnreachable
from restill.settings import Settings, load_settings

if TYPE_CHECKING:
    from flows.registration import Registered
    from restill.stack.keeper import Keeper
    from restill.stack.parts import Part

_GOES_ON = "The next run goes on from what was finished."
_SERVER_SECONDS = 300.0  # a busy machine starts slowly
_ANSWER_SECONDS = 20.0  # of a server that somebody else runs


def up() -> None:
    """Start what is missing of: S3 server, Prefect server with its UI, a worker for each pool. Safe to run twice."""
    from restill.stack.parts import look
    from restill.stack.programs import environment as child_environment

    settings = load_settings()
    environment.move_native_logs()
    external = external_api(settings)
    keeper = _keeper(settings, external)
    with screen.out.status("Starting …") as status, keeper.locked(screen.out.print):
        given = environment.library_defaults() | environment.given_environment()
        children = child_environment(settings, given, external_api=external)
        cut_off = _start_keeper(keeper, children)
        status.update("Starting the servers …")
        _start_servers(settings, keeper, external)
        _use(children)
        if external is None:
            _write_record(keeper, settings, with_auth="PREFECT_API_AUTH_STRING" in children)
        status.update("Registering the deployments …")
        changed = environment.talk(lambda: _bring_up_to_date(settings, cut_off))
        status.update("Starting the workers …")
        _start_workers(settings, keeper)
        parts = look(settings, keeper, external_api=external)
    _print_parts(parts)
    screen.out.print(f"\nDeployments registered: {', '.join(changed)}" if changed else "\nDeployments are as they were")
    _print_addresses(settings, keeper, external, children)


def _start_keeper(keeper: "Keeper", children: dict[str, str]) -> list[str]:
    """Start supervisord unless it runs. Returns the flow runs that were cut off, as an earlier one had died."""
    cut_off = keeper.flow_runs() if keeper.pid() is None else []
    if ended := keeper.start_keeper(children):
        screen.out.print(f"Ended {ended} processes that an earlier supervisord had left behind.")
    if not keeper.is_as_configured():
        screen.out.print(
            "[yellow]▲[/] What runs was started with other settings; restill down && restill up applies these."
        )
    return cut_off


def _start_servers(settings: Settings, keeper: "Keeper", external: str | None) -> None:
    from restill.stack.parts import answers
    from restill.stack.places import api_url
    from restill.storage.embedded import EmbeddedServer

    names = {program.name for program in keeper.programs if not program.is_worker}
    for program in keeper.programs:
        if program.name in names:
            keeper.start(program)
    if "s3" in names:
        server = EmbeddedServer(settings.state_dir)
        keeper.wait(lambda: server.status().healthy, "s3", seconds=_SERVER_SECONDS)
    api = external or api_url(settings.stack.host, settings.stack.port)
    keeper.wait(lambda: answers(api), "prefect", seconds=_SERVER_SECONDS if external is None else _ANSWER_SECONDS)


def _bring_up_to_date(settings: Settings, cut_off: list[str]) -> list[str]:
    """Tell the server of deployments and of runs that ended unseen. Returns what was registered anew."""
    from flows import automations, registration, workers

    workers.mark_crashed(cut_off, f"Ended by restill up, as its supervisord had died. {_GOES_ON}")
    workers.drop_backlog()
    file = settings.stack.deployments
    registered = [] if registration.is_current(file) else registration.register(file)
    automations.register()
    return [found.name for found in registered if found.result != "unchanged"]


def _start_workers(settings: Settings, keeper: "Keeper") -> None:
    from flows import workers

    for program in keeper.programs:
        if program.is_worker:
            keeper.start(program)

    def is_up(pool: str) -> bool:
        said = (keeper.processes() or {}).get(f"worker-{pool}", {})
        return said.get("statename") == "RUNNING" and workers.is_online(pool)

    for pool in settings.stack.workers:
        keeper.wait(functools.partial(is_up, pool), f"worker-{pool}", seconds=_SERVER_SECONDS)


def down() -> None:
    """Stop all of that, and the flow runs of its workers; data stays."""
    from restill.storage.embedded import EmbeddedServer

    settings = load_settings()
    if os.name == "posix":
        keeper = _keeper(settings, external_api(settings))
        with screen.out.status("Stopping …"), keeper.locked(screen.out.print):
            runs = keeper.flow_runs()
            keeper.stop_workers()
            if runs and prefect_server.is_set_up():
                _say_ended(runs)
            ended = keeper.stop()
    else:
        ended = 0
    with screen.out.status("Stopping the embedded S3 server (it writes everything down first) …"):
        s3_ended = EmbeddedServer(settings.state_dir).stop()
    screen.out.print("Stopped." if ended or s3_ended else "It was not running.")


def status(as_json: Json = False) -> None:
    """Say what runs; exit 1 if a part of the stack does not."""
    from restill.stack.parts import look

    settings = load_settings()
    external = external_api(settings)
    parts = look(settings, _keeper(settings, external), external_api=external)
    if as_json:
        screen.print_json(
            [
                {
                    "part": part.name,
                    "state": part.state,
                    "up": part.is_up,
                    "pid": part.pid,
                    "since": part.since.isoformat() if part.since else None,
                    "address": part.address,
                    "log": str(part.log) if part.log else None,
                }
                for part in parts
            ]
        )
    else:
        _print_parts(parts)
    raise typer.Exit(0 if all(part.is_up for part in parts) else 1)


def deploy(
    file: Annotated[
        Path | None,
        typer.Option(help="YAML file with the deployments; default: stack.deployments, else Restill's own."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put work pools, deployments and automations on the Prefect server, as the file says. Safe to run twice."""
    settings = load_settings()
    require_server()
    environment.move_native_logs()
    with screen.out.status("Registering …"):
        from flows import automations, registration

        registered = environment.talk(lambda: registration.register(file or settings.stack.deployments))
        lines = environment.talk(automations.register)
    if as_json:
        screen.print_json([found.model_dump(mode="json") for found in registered])
        return
    _print_deployments(registered)
    screen.print_lines("Automations", lines)


def external_api(settings: Settings) -> str | None:
    """Return the Prefect API that somebody else runs for us: what PREFECT_API_URL said, unless it is our own."""
    from restill.stack.places import api_url

    given = environment.given_environment().get("PREFECT_API_URL")
    own = {api_url(host, settings.stack.port) for host in (settings.stack.host, "localhost", "127.0.0.1")}
    return None if given is None or given.rstrip("/") in own else given


def require_server() -> None:
    """Refuse what needs a server that stays. Raises: ConfigurationError."""
    if not prefect_server.is_set_up():
        raise ConfigurationError(
            "There is no Prefect server: `restill up` does not run here, and PREFECT_API_URL is not set.",
            hint="Start one with `restill up`, or set PREFECT_API_URL (and PREFECT_API_AUTH_STRING) to another's.",
        )


def _say_ended(runs: list[str]) -> None:
    """Tell the server that runs were ended. If it does not hear, it has to find out by their silence."""
    from flows import workers

    try:
        environment.talk(lambda: workers.mark_crashed(runs, f"Ended by restill down. {_GOES_ON}"))
    except PrefectUnreachable as error:
        screen.out.print(
            f"[yellow]▲[/] {len(runs)} flow runs were ended, which the server does not know: {escape(str(error))}"
        )


def _keeper(settings: Settings, external: str | None) -> "Keeper":
    from restill.stack.keeper import Keeper
    from restill.stack.programs import programs

    return Keeper(settings, programs(settings, own_server=external is None))


def _use(children: dict[str, str]) -> None:
    """Let this process speak to the server that the children speak to. Prefect must not be imported before."""
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        if name in children:
            os.environ[name] = children[name]


def _write_record(keeper: "Keeper", settings: Settings, *, with_auth: bool) -> None:
    from restill.files import write_whole
    from restill.stack.places import local_host

    record = {"host": local_host(settings.stack.host), "port": settings.stack.port, "auth": with_auth}
    write_whole(keeper.places.record, json.dumps(record).encode())


def _print_parts(parts: "list[Part]") -> None:
    table = Table("part", "state", "pid", "since", "address", "log", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for part in parts:
        table.add_row(
            part.name,
            f"[{'green' if part.is_up else 'red'}]{part.state}[/]",
            str(part.pid or ""),
            _age(part.since),
            escape(part.address),
            escape(str(screen.short_path(part.log))) if part.log else "",
        )
    screen.out.print(table)


def _print_deployments(registered: "list[Registered]") -> None:
    table = Table("deployment", "", "pool", "schedule", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for found in registered:
        table.add_row(found.name, found.result + (", paused" if found.paused else ""), found.pool, found.schedule)
    screen.out.print(table)


def _print_addresses(settings: Settings, keeper: "Keeper", external: str | None, children: dict[str, str]) -> None:
    address = external.removesuffix("/api") if external else children["PREFECT_UI_URL"]
    screen.out.print(f"  UI       [bold]{escape(address)}[/]")
    if external is None and not settings.stack.is_local:
        where = "as PREFECT_SERVER_API_AUTH_STRING says"
        if "PREFECT_SERVER_API_AUTH_STRING" not in environment.given_environment():
            where = f"the one in {keeper.places.auth}"
        screen.out.print(f"  key      {escape(where)}; the UI asks for it, programs set PREFECT_API_AUTH_STRING")
    screen.out.print("  next     restill retrain --remote, or the UI; restill status; restill down")


def _age(since: datetime | None) -> str:
    if since is None:
        return ""
    seconds = int((datetime.now(UTC) - since).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"
