"""`restill registry …`: versions, promotions and rollbacks."""

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_server
from flows.cli import approving, comparing, lineage, policies, screen
from flows.cli.screen import Json
from restill.settings import Settings, load_settings

if TYPE_CHECKING:
    from restill.registry import Registry

_MOST_DAYS = 36_500

app = typer.Typer(no_args_is_help=True, help="Versions, promotions and rollbacks.")
app.command("approvals")(approving.approvals)
app.command("promote")(approving.promote)
app.command("diff")(comparing.diff)
app.command("lineage")(lineage.lineage)
app.command("policies")(policies.policies)


def _registry(settings: Settings, *, for_reading: bool = False) -> "Registry":
    from restill import storage
    from restill.registry import Registry

    store = storage.connect(settings.storage, settings.state_dir, for_reading=for_reading)
    return Registry.configured(store, settings.registry)


@app.command("list")
def list_versions(as_json: Json = False) -> None:
    """List the versions, newest first, with their verdicts."""
    from restill.verdicts import stored_verdicts

    settings = load_settings()
    registry = _registry(settings, for_reading=True)
    live = registry.champion(settings.registry.alias)
    rows = []
    for manifest in sorted(registry.versions(), key=lambda found: found.created_at, reverse=True):
        verdicts = stored_verdicts(registry, manifest.version)
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
        screen.print_json(rows)
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
    screen.out.print(table if rows else "No version is registered yet. Next: restill retrain.")


@app.command()
def show(
    version: Annotated[str, typer.Argument(help="Version, or its first characters.")], as_json: Json = False
) -> None:
    """Show what a version was made from and how it was judged."""
    from restill.verdicts import stored_verdicts

    settings = load_settings()
    registry = _registry(settings, for_reading=True)
    manifest = registry.manifest(version)
    verdicts = stored_verdicts(registry, manifest.version)
    if as_json:
        screen.print_json(
            {
                "manifest": manifest.model_dump(mode="json"),
                "verdicts": [verdict.model_dump(mode="json") for verdict in verdicts],
            }
        )
        return
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("version", manifest.version)
    facts.add_row("created", f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC")
    for name, value in manifest.lineage.model_dump(exclude={"config"}).items():  # settings are with --json
        facts.add_row(name.replace("_", " "), ", ".join(value) if isinstance(value, list | tuple) else str(value))
    for file in manifest.files:
        facts.add_row(file.role, f"{file.path}  {file.bytes:,} bytes  {file.sha256[:12]}")
    screen.out.print(facts)
    for verdict in verdicts:
        screen.print_gates(verdict)


@app.command()
def history(
    alias: Annotated[str | None, typer.Argument(help="Of which alias; default: registry.alias.")] = None,
    as_json: Json = False,
) -> None:
    """Show every promotion and rollback, newest first."""
    settings = load_settings()
    entries = list(reversed(_registry(settings, for_reading=True).history(alias or settings.registry.alias)))
    if as_json:
        screen.print_json([entry.model_dump(mode="json") for entry in entries])
        return
    signed = ["signed with"] if any(entry.signature for entry in entries) else []
    table = Table("number", "when (UTC)", "what", "version", "by", *signed, "why", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(
            str(entry.sequence),
            f"{entry.at:%Y-%m-%d %H:%M}",
            "[bold red]FORCED[/]" if entry.forced else entry.action,
            entry.version[:12],
            escape(entry.promoted_by),
            *([entry.signature.key_id[:12] if entry.signature else "–"] if signed else []),
            escape(entry.reason),
        )
    screen.out.print(table if entries else "Nothing was promoted yet. Next: restill retrain.")


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; kept in the history for ever.")],
    to: Annotated[str | None, typer.Option(help="Version to go back to; default: the one live before.")] = None,
    by: Annotated[str | None, typer.Option(help="Who decides; default: the user of this machine.")] = None,
    as_json: Json = False,
) -> None:
    """Make an earlier version champion again, as a new entry of the history."""
    import getpass

    settings = load_settings()
    entry = _registry(settings).rollback(settings.registry.alias, to=to, reason=reason, by=by or getpass.getuser())
    if prefect_server.is_set_up():
        from tasks import events

        events.model_rolled_back(entry, settings)
    if as_json:
        screen.print_json(entry.model_dump(mode="json"))
        return
    screen.out.print(
        f"Champion is now {entry.version[:12]} (number {entry.sequence}). It is not promoted away by itself "
        "until a new student passes every gate."
    )


@app.command()
def verify(as_json: Json = False) -> None:
    """Check every history, manifest, verdict and stored file against the digests that promise them."""
    from restill import verification

    settings = load_settings()
    registry = _registry(settings)
    with screen.err.status("Reading and hashing every file …"):
        found = verification.check(registry)
    if as_json:
        screen.print_json(
            {
                "whole": not found.problems,
                "problems": list(found.problems),
                "notes": found.notes,
                "entries": found.entries,
                "versions": found.versions,
                "objects": found.objects,
                "bytes": found.bytes,
            }
        )
    else:
        for problem in found.problems:
            screen.out.print(f"[red]✘[/] {escape(problem)}")
        for note in found.notes:
            screen.out.print(f"  {escape(note)}")
        screen.out.print(
            f"{'The registry is whole' if not found.problems else f'{len(found.problems)} problems'}: "
            f"{found.entries} entries, {found.versions} versions, {found.objects} files, {found.bytes:,} bytes read."
        )
    raise typer.Exit(1 if found.problems else 0)


def _days(text: str | timedelta) -> timedelta:
    if isinstance(text, timedelta):  # the default
        return text
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 <= days <= _MOST_DAYS:
        raise typer.BadParameter(f"{text!r} is no number of days from 0 to {_MOST_DAYS:,}.")
    return timedelta(days=days)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    grace_days: Annotated[
        timedelta,
        typer.Option(
            parser=_days, metavar="DAYS", show_default="7", help="Nothing younger than so many days is removed."
        ),
    ] = timedelta(days=7),
    keep: Annotated[
        int | None, typer.Option(help="Keep so many champions of each alias; default: every one that ever was.")
    ] = None,
    expire_candidates_days: Annotated[
        timedelta | None,
        typer.Option(
            parser=_days,
            metavar="DAYS",
            help="Versions that were never promoted go when they are so old; default: never.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove files that no version names; versions only when asked to, in two runs a grace period apart."""
    from restill import retention

    settings = load_settings()
    policy = retention.Policy(
        grace=grace_days,
        keep=keep,
        candidates=expire_candidates_days,
    )
    done = retention.collect(_registry(settings), policy, dry_run=dry_run)
    if as_json:
        screen.print_json(
            {
                "dry_run": dry_run,
                "removed": [{"key": item.key, "bytes": item.size} for item in done.removed],
                "bytes": done.bytes,
                "retired": done.retired,
                "recalled": done.recalled,
                "left": done.left,
            }
        )
        return
    for item in done.removed:
        screen.out.print(f"  {item.size:>14,} bytes  {escape(item.key)}")
    for version in done.retired:
        screen.out.print(f"  version {version[:12]} is retired; a run after the grace period removes it")
    for version in done.recalled:
        screen.out.print(f"  version {version[:12]} is not retired any more")
    if done.left:
        screen.out.print(f"{len(done.left)} objects were left because this machine was too slow. Run it again.")
    screen.out.print(f"{'Would remove' if dry_run else 'Removed'} {len(done.removed)} objects, {done.bytes:,} bytes.")


@app.command()
def repair(as_json: Json = False) -> None:
    """Write what is derived from the history again: the pointer for scripts and TensorFlow Serving's directory."""
    from restill import views

    settings = load_settings()
    registry = _registry(settings)
    done = {alias: views.rebuild(registry, alias, thorough=True) for alias in registry.aliases()}
    if as_json:
        screen.print_json(done)
        return
    for keys in done.values():
        for key in keys:
            screen.out.print(f"  put right: {escape(key)}")
    if not any(done.values()):
        screen.out.print("Nothing was to be repaired. Damaged versions and histories: restill registry verify.")
