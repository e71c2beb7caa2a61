"""`restill registry diff`: what tells two versions apart."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli import screen
from flows.cli.screen import Json
from restill.settings import load_settings

if TYPE_CHECKING:
    from restill.differences import Change, Difference, Measured

NAMES = "champion, previous, #3 (a number of the history), or a version's first characters."
Named = Annotated[str, typer.Argument(help=NAMES)]
_SHOWN_BATCHES = 12
_WIDTH = 44  # characters of a value


def diff(a: Named, b: Named, as_json: Json = False) -> None:
    """Compare two versions: data, configuration, quality, latency, size, and their answers to the same test pairs."""
    from restill import differences, naming, storage
    from restill.registry import Registry

    settings = load_settings()
    store = storage.connect(settings.storage, settings.state_dir, for_reading=True)
    registry = Registry.configured(store, settings.registry)
    first, second = (naming.find(registry, settings.registry.alias, name) for name in (a, b))
    found = differences.read(registry, first, second)
    if as_json:
        screen.print_json(found.model_dump(mode="json"))
        return
    _print(found)


def _print(found: "Difference") -> None:
    table = Table("", "A", "B", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("version", "created_at", "artifact_role", "data_version", "test_version", "latency_hardware"):
        table.add_row(name.replace("_", " "), *(_shown(getattr(side, name)) for side in (found.a, found.b)))
    table.add_row("verdict", *(_verdict(side.passed) for side in (found.a, found.b)))
    screen.out.print(table)
    if found.a.version == found.b.version:
        screen.out.print("A and B are one version.")
        return
    _heading("Data")
    if found.data.same:
        screen.out.print(f"One data version: {_batches(found.data.common)}.")
    else:
        screen.out.print(f"{_batches(found.data.common)} in common.")
        for sign, batches in (("only B has", found.data.added), ("only A has", found.data.removed)):
            if batches:
                more = f" and {len(batches) - _SHOWN_BATCHES:,} more" if len(batches) > _SHOWN_BATCHES else ""
                screen.out.print(f"{sign} {len(batches):,}: {', '.join(batches[:_SHOWN_BATCHES])}{more}")
    _heading("Configuration")
    if found.configuration_same:
        screen.out.print("The same.")
    elif found.configuration is None:
        screen.out.print("Different. In which keys is not known: an earlier Restill kept only the digest.")
    else:
        _print_changes(found.configuration)
    _heading("Made with")
    _print_changes(found.made_with) if found.made_with else screen.out.print("The same.")
    _print_measures(found)
    _print_answers(found)


def _print_measures(found: "Difference") -> None:
    _heading("Measured")
    table = Table("", "A", "B", "B − A", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for measured in found.measures:
        table.add_row(f"{measured.name} {measured.unit}".strip(), *_values(measured))
    screen.out.print(table)
    if found.measured_together:
        screen.out.print("Both as measured together, when one was judged against the other.")
        return
    screen.out.print("Each by its own last verdict: latencies are of different runs, perhaps of different machines.")
    if found.a.test_version != found.b.test_version:
        screen.out.print("Quality is of different test splits: these differences are not of the models alone.")


def _print_answers(found: "Difference") -> None:
    _heading("Answers to the same test pairs")
    answers = found.answers
    if answers is None:
        screen.out.print(f"Not comparable: {found.not_comparable}.")
        return
    screen.out.print(
        f"{answers.pairs:,} pairs, {100 * answers.agreement:.2f} % decided alike; only A right on "
        f"{answers.only_a_right:,}, only B right on {answers.only_b_right:,} (McNemar p = {answers.p_value:.3g})."
    )


def _batches(count: int) -> str:
    return f"{count:,} batch{'' if count == 1 else 'es'}"


def _heading(text: str) -> None:
    screen.out.print(f"\n[bold]{text}[/]")


def _print_changes(changes: "tuple[Change, ...]") -> None:
    table = Table("", "A", "B", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for change in changes:
        table.add_row(change.name.replace("_", " "), _shown(change.a), _shown(change.b))
    screen.out.print(table)


def _values(measured: "Measured") -> tuple[str, str, str]:
    digits = 4 if not measured.unit else 2
    change = "" if measured.a is None or measured.b is None else f"{measured.b - measured.a:+.{digits}f}"
    a, b = ("not measured" if value is None else f"{value:.{digits}f}" for value in (measured.a, measured.b))
    return a, b, change


def _verdict(passed: bool | None) -> str:
    return "not judged" if passed is None else "passed" if passed else "did not pass"


def _shown(value: object) -> str:
    text = "–" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else str(value)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return escape(text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…")
