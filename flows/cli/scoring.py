"""`restill score`: the teacher's scores that are missing."""

from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from flows import prefect_server
from flows.cli import environment, screen
from restill.errors import ConfigurationError, DataMissing
from restill.settings import load_settings

if TYPE_CHECKING:
    from restill.logits import ScoreReport
    from restill.settings import Settings

Place = Literal["here", "pool", "dask"]


def score(
    on: Annotated[
        str | None, typer.Option(help="here, pool (workers of a Prefect work pool) or dask; default: as configured.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: as configured.")] = None,
    data_version: Annotated[
        str | None,
        typer.Option(help="Score this version of the data set (restill data log), not the one that data.dvc names."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much is missing; compute nothing.")] = False,
) -> None:
    """Compute the teacher's scores that a data version lacks. A run that was killed is continued by the next one."""
    settings = load_settings()
    if on is not None and on not in get_args(Place):
        raise typer.BadParameter(f"{on!r} is none of {', '.join(get_args(Place))}", param_hint="--on")
    place = cast("Place", on or settings.scoring.on)
    environment.move_native_logs()
    if dry_run:
        _say_what_is_missing(settings, data_version)
        return
    if place != "here" and not prefect_server.is_set_up():
        raise ConfigurationError(
            f"--on {place} needs a Prefect server that the workers can reach; PREFECT_API_URL is not set.",
            hint="Start one (`prefect server start`), and set PREFECT_API_URL here and for the workers.",
        )
    with screen.out.status("Starting Prefect …"):
        from flows.score import score as flow
    environment.watch_run()
    report = cast("ScoreReport", environment.run(flow, data_version=data_version, on=place, workers=workers))
    screen.out.print(f"[green]✔[/] {report.sentence}")


def _say_what_is_missing(settings: "Settings", data_version: str | None) -> None:
    from restill import logits, snapshots, storage
    from restill.logits import planning

    store = storage.connect(settings.storage, settings.state_dir)
    with screen.out.status("Looking at what is missing …"):
        if data_version is not None:
            snapshot = snapshots.opened_version(settings.root, snapshots.find_version(store, data_version).version)
        else:
            snapshot = snapshots.current(settings.root)
        if snapshot is None:
            raise DataMissing(
                "This data version is not on this machine.",
                hint="restill data checkout, or restill retrain, fetches it.",
            )
        need = planning.find_need(snapshot, logits.open_store(settings, store))
    if not need.missing:
        screen.out.print(f"Nothing is missing: the teacher's scores of all {need.distinct:,} {need.what} are there.")
        return
    shards = -(-need.missing // settings.teacher.shard_sentences)
    screen.out.print(
        f"{need.missing:,} of {need.distinct:,} {need.what} of data version {snapshot.short} have no score yet: "
        f"{shards:,} shard{'' if shards == 1 else 's'} would be computed."
    )
