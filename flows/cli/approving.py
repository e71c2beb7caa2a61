"""`restill promote` and `restill registry approvals`: what waits for a person, and what they decide."""

from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_server
from flows.cli import environment, screen
from flows.cli.screen import Json
from restill.settings import Settings, load_settings

if TYPE_CHECKING:
    from flows.promote import Promotion
    from restill.manifests import PromotionEntry
    from restill.registry import Registry


def _registry(settings: Settings, *, for_reading: bool = False) -> "Registry":
    from restill import storage
    from restill.registry import Registry

    store = storage.connect(settings.storage, settings.state_dir, for_reading=for_reading)
    return Registry.configured(store, settings.registry)


def approvals(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are decided or timed out.")] = False,
    as_json: Json = False,
) -> None:
    """List the versions that passed every gate and wait for a person."""
    from restill import approvals as kept
    from restill.telling import one_line

    settings = load_settings()
    found = kept.listed(_registry(settings, for_reading=True), alias=settings.registry.alias)
    shown = [approval for approval in reversed(found) if everything or approval.status == "waiting"]
    if as_json:
        screen.print_json(
            [
                {
                    "status": approval.status,
                    "request": approval.request.model_dump(mode="json"),
                    "decision": approval.decision.model_dump(mode="json") if approval.decision else None,
                }
                for approval in shown
            ]
        )
        return
    table = Table("version", "asked (UTC)", "", box=None, pad_edge=False)
    for approval in shown:
        asked = f"{approval.request.at:%Y-%m-%d %H:%M}"
        table.add_row(approval.request.version[:12], asked, escape(one_line(approval.words)))
    screen.out.print(table if shown else "Nothing waits for approval.")


def promote(
    version: Annotated[str, typer.Argument(help="Version, or its first characters.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the history for ever.")],
    by: Annotated[str | None, typer.Option(help="Who decides; default: the user of this machine.")] = None,
    force: Annotated[bool, typer.Option(help="Promote though the gates did not pass it; needs --by.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Say no to a version that waits for approval.")] = False,
    as_json: Json = False,
) -> None:
    """Make a judged version champion, or reject one that waits for approval.

    What waits is judged again first if the champion has changed meanwhile. What no gate passed needs --force, which the
    history shows for ever.
    """
    import getpass

    from restill import approvals as kept
    from restill.promotion import promote_by_hand

    settings = load_settings()
    if not reason.strip() or (force and not (by or "").strip()):
        raise typer.BadParameter("a forced promotion needs a name (--by) and a reason (--reason).")
    if force and reject:
        raise typer.BadParameter("--force promotes and --reject does not.")
    name = by or getpass.getuser()
    registry = _registry(settings)
    manifest = registry.manifest(version)
    if reject or (not force and kept.newest(registry, manifest.version, alias=settings.registry.alias) is not None):
        _decide(manifest.version, "reject" if reject else "approve", name, reason, as_json)
    entry = promote_by_hand(
        registry, manifest.version, alias=settings.registry.alias, reason=reason, by=name, force=force
    )
    if prefect_server.is_set_up():
        from tasks import events

        events.model_promoted(entry, registry, settings)
    _print(entry, as_json)


def _decide(version: str, decision: str, by: str, reason: str, as_json: bool) -> None:
    """Run the flow, print what came of it, and exit."""
    environment.move_native_logs()
    with screen.err.status("Starting Prefect …"):
        from flows.promote import promote as flow
    environment.watch_run(lines=not as_json)
    promotion = cast("Promotion", environment.run(flow, version=version, decision=decision, by=by, reason=reason))
    if promotion.entry is not None:
        _print(promotion.entry, as_json)
    elif as_json:
        screen.print_json({"sentence": promotion.sentence})
    else:
        screen.out.print(escape(promotion.sentence))
    raise typer.Exit(0 if promotion.entry is not None or decision == "reject" else 1)


def _print(entry: "PromotionEntry", as_json: bool) -> None:
    if as_json:
        screen.print_json(entry.model_dump(mode="json"))
        return
    screen.out.print(
        f"Champion is now {entry.version[:12]} (number {entry.sequence})"
        f"{', [bold red]forced[/]: the history shows it as such' if entry.forced else ''}."
    )
