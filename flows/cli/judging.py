"""`restill evaluate` and `restill gates …`: decide again under other limits, and see how often gates are wrong."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli import screen
from flows.cli.screen import Json
from restill.errors import MeasurementFailed
from restill.settings import GateSettings, Settings, load_settings

if TYPE_CHECKING:
    from restill.gates import Verdict
    from restill.power import Population, Rates
    from restill.registry import Registry

app = typer.Typer(no_args_is_help=True, help="What a challenger has to pass, and how often that is wrong.")
Limits = Annotated[
    Path | None, typer.Option(help="TOML file with other limits, as under [gates]; default: the configured ones.")
]


def evaluate(
    version: Annotated[str, typer.Option(help="A version that was judged, or its first characters.")],
    limits: Limits = None,
    data_version: Annotated[
        str | None,
        typer.Option(
            help="Measure it, and the champion, on the test split of this version of the data set instead of deciding."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide again on a past challenger, from its stored predictions and timings. Changes nothing."""
    from restill import replay

    settings = load_settings()
    if data_version is not None:
        _appraise(version, data_version, _limits(limits, settings), settings, as_json)
        return
    registry = _registry(settings)
    before = replay.last_verdict(registry, version)
    after = replay.replay(before, registry, _limits(limits, settings))
    if as_json:
        screen.print_json({"before": before.model_dump(mode="json"), "after": after.model_dump(mode="json")})
        return
    _print_changes(before, after)
    screen.print_gates(after)
    screen.out.print("Nothing was promoted or stored: this is what these limits would have decided.")


def _appraise(version: str, data_version: str, limits: GateSettings, settings: Settings, as_json: bool) -> None:
    """Measure a version and the champion on another version of the data set."""
    from restill import appraisal

    with screen.err.status("Answering test pairs …"):
        done = appraisal.appraise(_registry(settings), version, data_version, limits, settings)
    if as_json:
        taken = done.found.accuracy
        measured = {name: {"version": done.manifests[name].version, **vars(found)} for name, found in taken.items()}
        difference = done.difference.model_dump() if done.difference else None
        screen.print_json({"data_version": done.snapshot.version, "measured": measured, "difference": difference})
        return
    table = Table(*done.rows[0], box=None, pad_edge=False)
    for row in done.rows:
        name, short, pairs, *values = row.values()
        shown = ["not measurable" if value is None else f"{value:.3f}" for value in values]
        table.add_row("" if name == "version" else str(name), str(short), f"{pairs:,}", *shown)
    screen.out.print(table)
    if (compared := done.compared(limits)) is not None:
        screen.out.print(compared)
    screen.out.print("Nothing was decided or stored.")


@app.command("list")
def list_gates(as_json: Json = False) -> None:
    """List the gates, and the limits they hold a challenger to."""
    from restill.gates import GATES

    settings = load_settings()
    values = settings.gates.model_dump(mode="json")
    if as_json:
        screen.print_json({"gates": list(GATES), "limits": values})
        return
    table = Table("gate", "", box=None, pad_edge=False)
    for name in GATES:
        table.add_row(name, "off" if name in settings.gates.disabled else "")
    screen.out.print(table)
    limits = Table("limit (gates.…)", "value", "meaning", box=None, pad_edge=False)
    for name, field in type(settings.gates).model_fields.items():
        limits.add_row(name, escape(str(values[name])), field.description or "")
    screen.out.print()
    screen.out.print(limits)


@app.command()
def simulate(
    pairs: Annotated[
        int | None, typer.Option(min=100, help="Test pairs; default: as many as the data set's test split has.")
    ] = None,
    disagreement: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.5,
            help="Share of pairs that one of two models gets right and the other wrong; default: as of the last "
            "challenger that was held to a champion, or else 0.05.",
        ),
    ] = None,
    decisions: Annotated[int, typer.Option(min=20, help="Simulated decisions for each true difference.")] = 1000,
    limits: Limits = None,
    as_json: Json = False,
) -> None:
    """Simulate decisions whose truth is known: how often a worse challenger passes, and what can be told apart."""
    from rich.progress import Progress

    from restill import power
    from restill.gates import Answer

    settings = load_settings()
    held = _limits(limits, settings)
    population, origin = _population(settings, disagreement)
    size = pairs or len(population.first)
    margin = held.max_accuracy_loss
    losses = sorted({0.0, margin, 2 * margin, 0.01, 0.02, 0.03})
    with Progress(console=screen.err, transient=True) as bar:
        task = bar.add_task("simulating", total=decisions * len(losses))
        rates = [
            power.simulate(
                population,
                held,
                true_difference=-loss,
                pairs=size,
                decisions=decisions,
                progress=lambda _: bar.advance(task),
            )
            for loss in losses
        ]
    told = power.resolution(population, held, pairs=size)
    if as_json:
        screen.print_json(
            {
                "origin": origin,
                "disagreement": population.disagreement,
                "rates": [_as_facts(found) for found in rates],
                "resolution": vars(told),
            }
        )
        return
    screen.out.print(f"{size:,} test pairs; {origin}, {population.disagreement:.1%} of the pairs tell them apart.")
    screen.out.print(
        f"Margin {100 * margin:.2f} points at {held.confidence:.0%} confidence, {decisions:,} decisions.\n"
    )
    table = Table("true loss, points", "promoted [95 %]", "refused", "undecided", box=None, pad_edge=False)
    for found in rates:
        passed, low, high = found.share(Answer.PASS)
        table.add_row(
            f"{-100 * found.true_difference:.2f}{'  (the margin)' if -found.true_difference == margin else ''}",
            f"{passed:.1%} [{low:.1%}, {high:.1%}]",
            f"{found.share(Answer.FAIL)[0]:.1%}",
            f"{found.share(Answer.INCONCLUSIVE)[0]:.1%}",
        )
    screen.out.print(table)
    screen.print_lines(
        "\nWhat so many pairs can tell",
        [
            f"with {size:,} test pairs you can detect a loss of {100 * told.refused_loss:.1f} points: "
            "the gate refuses it outright in 95 % of decisions",
            f"an equally good challenger is promoted in {told.equal_promoted:.0%} of decisions, undecided otherwise",
            f"for 80 % you need about {told.pairs_needed:,} test pairs, or a wider margin (gates.max_accuracy_loss)"
            if margin
            else "with a margin of 0 an equally good challenger is never shown to be no worse",
        ],
    )


def _as_facts(found: "Rates") -> dict[str, object]:
    return {
        "true_difference": found.true_difference,
        "pairs": found.pairs,
        "decisions": found.decisions,
        "answers": {answer.value: count for answer, count in found.answers.items()},
    }


def _population(settings: Settings, disagreement: float | None) -> tuple["Population", str]:
    """Return real predictions of the last challenger that was held to a champion, or else assumed ones."""
    from restill import power, snapshots
    from restill.measurements.rows import read_rows

    if disagreement is None:
        found = _last_comparison(settings)
        if found is not None:
            return found
    snapshot = snapshots.current(settings.root)
    if snapshot is None:
        raise MeasurementFailed(
            "There is no data set here whose test split could be simulated.", hint="Run: restill retrain."
        )
    rows = read_rows(snapshot, "test")
    share = disagreement or 0.05
    population = power.assume(rows.clusters, disagreement=share, accuracy=max(0.85, share / 2))
    return population, f"two assumed models on the test split of data version {snapshot.short}"


def _last_comparison(settings: Settings) -> tuple["Population", str] | None:
    from restill.measurements import predictions
    from restill.power import Population
    from restill.verdicts import stored_verdicts

    registry = _registry(settings)
    for manifest in reversed(registry.versions()):
        for verdict in reversed(stored_verdicts(registry, manifest.version)):
            measured = verdict.measurements
            if measured.champion is None or measured.predictions_sha256 is None:
                continue
            content = registry.evidence(manifest.version, "predictions", measured.predictions_sha256)
            rows, answers = predictions.from_parquet(content, f"The predictions of version {manifest.short}")
            first, second = (answers[name].decisions == rows.labels for name in ("challenger", "champion"))
            names = f"{manifest.short} and {measured.champion[:12]}"
            return Population(first, second, rows.clusters), f"as {names} answered them"
    return None


def _limits(path: Path | None, settings: Settings) -> GateSettings:
    from restill import replay

    return settings.gates if path is None else replay.read_limits(path)


def _registry(settings: Settings) -> "Registry":
    from restill import storage
    from restill.registry import Registry

    store = storage.connect(settings.storage, settings.state_dir, for_reading=True)
    return Registry.configured(store, settings.registry)


def _print_changes(before: "Verdict", after: "Verdict") -> None:
    answers = {row.gate: row.answer for row in before.rows}
    changed = [
        f"{row.gate}: {answers.get(row.gate, 'not there')} → {row.answer}"
        for row in after.rows
        if answers.get(row.gate) != row.answer
    ]
    screen.print_lines("Other answers than were given", changed or ["none"])
