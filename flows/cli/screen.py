"""What a person sees: two consoles and the tables printed on them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from restill.errors import DataRejected, RestillError

if TYPE_CHECKING:
    from flows.retrain import Outcome
    from restill.gates import Verdict
    from restill.ledger import BatchOutcome

# A terminal wraps by itself; a file keeps whole lines, and tables their columns.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True, highlight=False, soft_wrap=True)
Json = Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")]


def show_error(error: RestillError) -> None:
    """Say what went wrong and what to do."""
    err.print(f"[red]✘[/] {escape(str(error))}")
    if isinstance(error, DataRejected):
        for reason in error.reasons:
            err.print(f"  • {escape(reason)}")
    if error.hint:
        err.print(f"  {escape(error.hint)}")


def short_path(path: Path) -> Path:
    """Return a path as seen from the current folder, if it is inside it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_json(document: object) -> None:
    """Print facts for a program."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def print_lines(title: str, lines: list[str]) -> None:
    """Print a heading and a list."""
    out.print(f"[bold]{title}[/]")
    for line in lines:
        out.print(f"  • {escape(line)}")


def print_batches(batches: "list[BatchOutcome] | tuple[BatchOutcome, ...]") -> None:
    """Print what became of files."""
    from restill.expectations import as_line  # names and texts are others': no control sign may reach the terminal

    for batch in batches:
        mark = "[red]✘[/]" if batch.outcome == "refused" else "[green]✔[/]"
        out.print(f"{mark} {escape(as_line(batch.sentence))}")
        for reason in batch.reasons:
            out.print(f"    • {escape(as_line(reason))}")
        for warning in batch.warnings:
            out.print(f"    [yellow]▲[/] {escape(as_line(warning))}")
        if batch.detected:
            out.print(f"    read as: {escape(as_line(batch.detected))}")
        if batch.report:
            out.print(f"    report: {escape(batch.report)}")


_STYLES = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def print_gates(verdict: "Verdict") -> None:
    """Print a verdict's gates."""
    table = Table("gate", "answer", "observed", "limit", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in verdict.rows:
        style = _STYLES.get(row.answer, "dim")
        table.add_row(row.gate, f"[{style}]{row.answer}[/]", escape(row.observed), escape(row.limit))
    out.print()
    out.print(table)
    out.print(f"[bold]{escape(verdict.reason)}[/]")


def print_outcome(outcome: "Outcome") -> None:
    """Print what a retrain did, and what to do next."""
    print_batches([batch for batch in outcome.batches if batch.outcome == "refused"])
    if outcome.decision is not None:
        verdict = outcome.decision.verdict
        print_gates(verdict)
        numbers = Table("test split", "accuracy", "F1", "ROC-AUC", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, found in verdict.measurements.accuracy.items():
            values = ["–" if value is None else f"{value:.3f}" for value in (found.accuracy, found.f1, found.roc_auc)]
            numbers.add_row(name, *values)
        out.print()
        out.print(numbers)
        out.print()
    if outcome.promotion is not None:
        out.print(
            f"[green]✔[/] Champion is version [bold]{outcome.promotion.version[:12]}[/], "
            f"promotion number {outcome.promotion.sequence}"
        )
    else:
        champion = outcome.plan.champion
        out.print(f"Champion is unchanged: {champion.version[:12] if champion else 'there is none yet'}")
        if outcome.decision is None or outcome.approval is not None:
            out.print(escape(outcome.sentence))
    if outcome.decision is not None:
        out.print(f"  report   {short_path(outcome.decision.report.path)}")
        out.print(f"           {outcome.decision.report_uri}")
    steps = [
        ('restill predict "turn on the light" "switch the light on"', "ask the champion"),
        ("restill registry lineage", "why this model is live"),
    ]
    if outcome.promotion is None and outcome.plan.champion is None:
        steps = []
    steps += [
        ("restill sample --drop 2; restill retrain", "new pairs, a challenger"),
        ("restill down", "stop the embedded S3 server"),
    ]
    for number, (command, meaning) in enumerate(steps):
        out.print(f"  {'' if number else 'next':8} {command:58} {meaning}")
