"""`restill registry lineage`: why a version is live."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli import screen
from flows.cli.comparing import NAMES
from flows.cli.screen import Json
from restill.settings import load_settings

if TYPE_CHECKING:
    from restill.provenance import Provenance

_STYLES = {"plain": "", "good": "green", "bad": "red", "doubt": "yellow", "quiet": "dim"}


def lineage(
    version: Annotated[str, typer.Argument(help=NAMES)] = "champion",
    as_json: Json = False,
    picture: Annotated[Path | None, typer.Option(help="Also draw it into this SVG file.")] = None,
) -> None:
    """Say why a version is live: who promoted it, instead of what, how it was judged, and what it was made from."""
    from restill import lineage_picture, naming, provenance, storage
    from restill.files import write_whole
    from restill.registry import Registry

    settings = load_settings()
    store = storage.connect(settings.storage, settings.state_dir, for_reading=True)
    registry = Registry.configured(store, settings.registry)
    alias = settings.registry.alias
    found = provenance.read(registry, naming.find(registry, alias, version), alias=alias)
    if picture is not None:
        write_whole(picture, lineage_picture.draw(found))
        screen.err.print(f"Drew {escape(str(picture))}.")
    if as_json:
        screen.print_json(found.model_dump(mode="json"))
        return
    _print(found)


def _print(found: "Provenance") -> None:
    from restill import telling

    screen.out.print(f"[bold]{escape(telling.headline(found))}[/]")
    for section in telling.sections(found):
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for line in section.lines:
            style = _STYLES[line.tone]
            text = escape(telling.MARKS.get(line.tone, "") + line.text)
            table.add_row(escape(line.label), f"[{style}]{text}[/]" if style else text)
        screen.out.print(f"[bold]{section.title}[/]")
        screen.out.print(table)
