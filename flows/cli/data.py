"""`restill data …`: versions of the data set."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli import environment, screen
from flows.cli.screen import Json
from restill.settings import Settings, load_settings

if TYPE_CHECKING:
    from restill.snapshots.records import Counts, VersionRecord
    from restill.storage import ObjectStore

app = typer.Typer(no_args_is_help=True, help="Versions of the data set.")
Version = Annotated[str, typer.Argument(help="Version, or its first characters.")]


def _store(settings: Settings) -> "ObjectStore":
    from restill import storage

    return storage.connect(settings.storage, settings.state_dir)


@app.command("log")
def show_log(as_json: Json = False) -> None:
    """List the versions: the named one (★) and what it was made from, then all others; newest first."""
    from restill import snapshots

    settings = load_settings()
    named = snapshots.named_version(settings.root)
    entries = snapshots.log(settings.root, _store(settings))
    if as_json:
        screen.print_json(
            [{**_facts(entry.record), "named": entry.named, "in_chain": entry.in_chain} for entry in entries]
        )
        return
    table = Table("version", "published (UTC)", "batches", "pairs", "why", box=None, pad_edge=False)
    for entry in entries:
        record = entry.record
        table.add_row(
            f"{record.short}{' ★' if entry.named else ''}",
            f"{record.at:%Y-%m-%d %H:%M}",
            f"{len(record.batches):,}",
            f"{record.rows:,}",
            escape(record.reason),
            style=None if entry.in_chain else "dim",
        )
    screen.out.print(table if entries else "No version is recorded yet. Next: restill retrain.")
    if entries and named is not None and not any(entry.named for entry in entries):
        screen.out.print(f"data.dvc names {named[:12]}, which has no record. restill retrain writes one.")


@app.command()
def diff(a: Version, b: Version, as_json: Json = False) -> None:
    """Compare two versions: the batches that only one of them has, and the pairs of each split and label."""
    from restill import snapshots
    from restill.snapshots.records import Counts

    found = snapshots.diff(_store(load_settings()), a, b)
    groups = {
        f"only in {found.a.short}": found.only_a,
        f"only in {found.b.short}": found.only_b,
        "in both": found.both,
    }
    if as_json:
        screen.print_json(
            {
                "a": found.a.version,
                "b": found.b.version,
                "only_a": [batch.model_dump(mode="json") for batch in found.only_a],
                "only_b": [batch.model_dump(mode="json") for batch in found.only_b],
                "both": [batch.batch for batch in found.both],
                "rewritten": list(found.rewritten),
                "difference": vars(found.difference),
            }
        )
        return
    table = Table("", "batches", "pairs", "splits", "labels", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, batches in groups.items():
        table.add_row(name, *_cells(Counts.of(batches)))
    table.add_row(f"{found.b.short} less {found.a.short}", *_cells(found.difference, sign="+"))
    screen.out.print(table)
    for name, batches in list(groups.items())[:2]:
        for batch in batches:
            screen.out.print(f"  {name}: {escape(batch.batch)}, {batch.rows:,} pairs")
    same = found.a.test_version == found.b.test_version
    tests = found.a.test_version if same else f"{found.a.test_version or 'none'} and {found.b.test_version or 'none'}"
    screen.out.print(f"  test split: {'the same' if same else 'differs'} (version {tests or 'none'})")
    for identity in found.rewritten:
        screen.out.print(f"  in both, but rewritten: {escape(identity)}")


@app.command()
def checkout(version: Version, as_json: Json = False) -> None:
    """Make data.dvc name a version again, and data/ hold it. No version is lost by it."""
    environment.move_native_logs()
    from restill import snapshots

    settings = load_settings()
    with screen.out.status("Fetching what is not on this machine …"):
        before = snapshots.named_version(settings.root)
        found = snapshots.checkout(settings.root, _store(settings), version)
    if as_json:
        screen.print_json({"version": found.version, "before": before, "batches": found.batches, "rows": found.rows})
        return
    if before == found.version:
        screen.out.print(f"data.dvc names {found.short} already, and data/ is it.")
        return
    counts = ", ".join(f"{rows:,} {split}" for split, rows in found.rows.items())
    screen.out.print(f"[green]✔[/] Data version is {found.short}: {len(found.batches)} batches, {counts} pairs")
    screen.out.print("  next     [bold]restill retrain[/], and commit data.dvc to stay at this version")
    if before is not None:
        screen.out.print(f"           restill data checkout {before[:12]} goes back")


@app.command()
def verify(
    version: Annotated[
        str | None, typer.Argument(help="Version, or its first characters; default: the one that data.dvc names.")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Download every object of the remote and hash it too.")] = False,
    as_json: Json = False,
) -> None:
    """Check a version: its record, its objects in the remote, and the files in data/."""
    from restill import snapshots

    settings = load_settings()
    with screen.out.status("Reading and hashing every file …"):
        problems = snapshots.verify(settings.root, _store(settings), version, deep=deep)
    if as_json:
        screen.print_json({"whole": not problems, "problems": problems})
        raise typer.Exit(1 if problems else 0)
    for problem in problems:
        screen.out.print(f"[red]✘[/] {escape(problem)}")
    counted = "1 problem." if len(problems) == 1 else f"{len(problems)} problems."
    screen.out.print(counted if problems else "The data version is whole.")
    raise typer.Exit(1 if problems else 0)


@app.command()
def forget(
    reason: Annotated[str, typer.Option(help="Why; kept with the version. Name no person here.")],
    pair_id: Annotated[list[str] | None, typer.Option(help="Id of a pair, 32 hex digits; may be given again.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Every pair with this sentence, in any case and spacing; again.")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Every pair of this source; may be given again.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make a version without some pairs, keep them from coming back, and list what was trained on them."""
    environment.move_native_logs()
    from restill import removal

    settings = load_settings()
    with screen.out.status("Reading the data set …"):
        found = removal.forget(
            settings,
            _store(settings),
            pair_ids=pair_id or (),
            texts=text or (),
            sources=source or (),
            reason=reason,
            dry_run=dry_run,
        )
    if as_json:
        screen.print_json(
            {
                "pairs": found.pairs,
                "batches": found.batches,
                "version": found.version,
                "models": [manifest.version for manifest in found.models],
                "champion": found.champion,
                "old_versions": found.old_versions,
                "unread": found.unread,
            }
        )
        return
    counts = ", ".join(f"{count:,} {split}" for split, count in found.pairs.items() if count) or "none"
    screen.out.print(f"{'Would remove' if dry_run else 'Removed'} {found.total:,} pairs ({counts}).")
    if found.version is not None:
        screen.out.print(f"[green]✔[/] Data version is {found.version[:12]}; they cannot come back by ingesting.")
    elif not dry_run:
        screen.out.print("The present data version does not hold them; they cannot come in by ingesting.")
    if found.models:
        used = "trained on them" if found.in_training else "tested on them, not trained"
        screen.out.print(f"Model versions that were {used}:")
        for manifest in found.models:
            mark = " ★ champion" if manifest.version == found.champion else ""
            screen.out.print(f"  {manifest.short}  {manifest.created_at:%Y-%m-%d %H:%M} UTC{mark}")
    elif found.old_versions:
        screen.out.print("No registered model version was made from a data version that holds them.")
    if found.old_versions:
        names = ", ".join(version[:12] for version in found.old_versions)
        screen.out.print(f"Still hold them, unless deleted (docs/data-set.md says how): data versions {names}.")
    if found.unread:
        names = ", ".join(version[:12] for version in found.unread)
        screen.out.print(f"[yellow]▲[/] Not looked into, since their objects are gone: data versions {names}.")
    if found.champion and found.in_training:
        screen.out.print("Next: [bold]restill retrain[/] replaces the champion, if the new student passes the gates.")


def _facts(record: "VersionRecord") -> dict[str, object]:
    from restill.snapshots.records import Counts

    facts = record.model_dump(mode="json", include={"version", "parent", "at", "reason", "size", "nfiles"})
    facts["test_version"] = record.test_version
    return {**facts, **vars(Counts.of(record.batches)), "batches": [batch.batch for batch in record.batches]}


def _cells(counts: "Counts", *, sign: str = "") -> list[str]:
    def said(numbers: dict[str, int]) -> str:
        return ", ".join(f"{number:{sign},} {name}" for name, number in numbers.items()) or "–"

    return [f"{counts.batches:{sign},}", f"{counts.rows:{sign},}", said(counts.splits), said(counts.labels)]
