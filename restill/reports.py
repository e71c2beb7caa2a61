"""The report of one decision: Markdown with pictures inside it, so that one file says everything anywhere."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from restill.evaluation import Evaluation
from restill.files import write_whole
from restill.gates import Answer, Verdict
from restill.manifests import Manifest
from restill.measurements import Accuracy

mpl.use("Agg")

_MARKS = {
    Answer.PASS: "pass",
    Answer.FAIL: "**fail**",
    Answer.INCONCLUSIVE: "**inconclusive**",
    Answer.OFF: "**off**",
    Answer.NOT_APPLICABLE: "n/a",
}
_COLOURS = {"challenger": "#1f6feb", "champion": "#8250df", "teacher": "#bf8700"}


@dataclass(frozen=True)
class Report:
    """A report on disk and as text."""

    path: Path
    markdown: str


def write_report(
    folder: Path, verdict: Verdict, evaluation: Evaluation, manifest: Manifest, training: dict[str, Any]
) -> Report:
    """Write `report.md` into `folder`.

    Args:
        folder: made if it is missing.
        verdict: what was decided.
        evaluation: predictions and timings behind it.
        manifest: the challenger.
        training: the challenger's training report, with its epochs.
    """
    pictures = [
        ("Training", _training_curve(training)),
        ("Scores of the test pairs", _score_histograms(evaluation)),
        ("Latency of one pair", _latency(evaluation)),
    ]
    lines = [
        f"# {'Passed' if verdict.passed else 'Not promoted'}: {manifest.model} {manifest.short}",
        "",
        f"**{verdict.reason}**",
        "",
        *_facts(verdict, manifest, training),
        "",
        "## Gates",
        "",
        gate_table(verdict),
        "",
        "## Quality on the test split",
        "",
        _quality_table(verdict.measurements.accuracy),
        "",
        *_slice_table(verdict),
    ]
    for title, png in pictures:
        lines += [
            f"## {title}",
            "",
            f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})",
            "",
        ]
    markdown = "\n".join(lines)
    write_whole(folder / "report.md", markdown.encode())
    return Report(folder / "report.md", markdown)


def gate_table(verdict: Verdict) -> str:
    """Return the gates as a Markdown table, one row a gate."""
    lines = ["| gate | answer | observed | limit | in words |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.gate} | {_MARKS[row.answer]} | {row.observed} | {row.limit} | {row.sentence} |" for row in verdict.rows
    ]
    return "\n".join(lines)


def _facts(verdict: Verdict, manifest: Manifest, training: dict[str, Any]) -> list[str]:
    lineage = manifest.lineage
    champion = verdict.measurements.champion
    return [
        f"* Compared with: {champion[:12] if champion else 'nothing: the first champion, absolute gates only'}",
        f"* Data version: `{lineage.data_version}`, {training['train_pairs']:,} training and "
        f"{training['validation_pairs']:,} validation pairs",
        f"* Teacher: `{lineage.teacher_fingerprint[:16]}`",
        f"* Student: {training['parameters']:,} parameters, vocabulary {training['vocabulary']:,}, "
        f"best of {len(training['epochs'])} epochs: {training['best_epoch']}",
    ]


def _quality_table(accuracy: dict[str, Accuracy]) -> str:
    names = [name for name in ("challenger", "champion", "teacher") if name in accuracy]
    measures = [name for name in Accuracy.model_fields if name != "pairs"]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for measure in measures:
        values = [getattr(accuracy[name], measure) for name in names]
        lines.append(f"| {measure} | {' | '.join('–' if value is None else f'{value:.3f}' for value in values)} |")
    lines.append(f"| pairs | {' | '.join(f'{accuracy[name].pairs:,}' for name in names)} |")
    return "\n".join(lines)


def _slice_table(verdict: Verdict) -> list[str]:
    if not verdict.measurements.slices:
        return []
    lines = [
        "## Slices: challenger minus champion, accuracy in points",
        "",
        "| slice | pairs | difference |",
        "|---|---|---|",
    ]
    for part in verdict.measurements.slices:
        if part.difference is None:
            lines.append(f"| {part.name} | {part.pairs:,} | reported only: too few pairs or groups |")
        else:
            ends = part.difference
            lines.append(
                f"| {part.name} | {part.pairs:,} | "
                f"{100 * ends.estimate:+.2f} [{100 * ends.lower:+.2f}, {100 * ends.upper:+.2f}] |"
            )
    return [*lines, ""]


@contextmanager
def _axes(columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    figure = Figure(figsize=(4.5 * columns, 2.8), dpi=110, layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(1, columns))).tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    yield figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _training_curve(training: dict[str, Any]) -> bytes:
    epochs = training["epochs"]
    numbers = [epoch["number"] for epoch in epochs]
    with _axes(2) as (figure, (losses, scores)):
        losses.plot(numbers, [epoch["train_loss"] for epoch in epochs], marker="o", label="training")
        losses.plot(numbers, [epoch["validation_loss"] for epoch in epochs], marker="o", label="validation")
        losses.set(xlabel="epoch", ylabel="joint loss a pair")
        losses.legend()
        scores.plot(numbers, [epoch["validation_score"] for epoch in epochs], marker="o", color="#1a7f37")
        scores.axvline(training["best_epoch"], linestyle="--", color="grey", label="chosen")
        scores.set(xlabel="epoch", ylabel="validation ROC-AUC")
        scores.legend()
        return _png(figure)


def _score_histograms(evaluation: Evaluation) -> bytes:
    labels = evaluation.rows.labels
    with _axes(len(evaluation.predictions)) as (figure, axes):
        for axis, (name, predictions) in zip(axes, evaluation.predictions.items(), strict=True):
            bins = np.linspace(predictions.cosines.min(), predictions.cosines.max(), 40).tolist()
            axis.hist(predictions.cosines[labels], bins, alpha=0.6, label="same", color="#1a7f37")
            axis.hist(predictions.cosines[~labels], bins, alpha=0.6, label="different", color="#cf222e")
            axis.set(title=name, xlabel="cosine", ylabel="pairs")
            axis.legend()
        return _png(figure)


def _latency(evaluation: Evaluation) -> bytes:
    arms = {"challenger": evaluation.timings.challenger_ms, "champion": evaluation.timings.champion_ms}
    with _axes() as (figure, (axis,)):
        for name, timings in arms.items():
            if timings is not None:
                values = np.sort(timings.ravel())
                axis.plot(values, np.arange(1, len(values) + 1) / len(values), label=name, color=_COLOURS[name])
        axis.set(xlabel="milliseconds a pair", ylabel="share of requests", xscale="log")
        for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
            ticks(FormatStrFormatter("%g"))
        axis.legend()
        return _png(figure)
