"""The plots of a report: from arrays to figures, and from figures to bytes that stand inside a page."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from restill.measurements import Interval
from restill.measurements.rows import Bools, Floats

COLOURS = {"challenger": "#1f6feb", "champion": "#8250df", "teacher": "#9a6700", "control": "#57606a"}
LINES = {"challenger": "-", "champion": "--", "teacher": "-.", "control": ":"}  # colour is never alone
_SAME, _DIFFERENT = "#1a7f37", "#cf222e"
_POINTS = 300  # of a curve: more are not seen
_TAIL = 50
_PNG_DPI = 80

# Names of slices are the data's: whatever script they are in, if the machine has letters for it.
_WIDE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei")


@dataclass(frozen=True)
class Mark:
    """One line of a forest plot, in points."""

    name: str
    pairs: int
    estimate: float
    ends: Interval | None  # None: not judged


@dataclass(frozen=True)
class Bins:
    """Stated probabilities against what was observed, for the bins of equal width that hold pairs."""

    places: NDArray[np.int64]  # [bins], which of all bins
    stated: Floats  # [bins], mean probability
    observed: Floats  # [bins], share of pairs that are the same
    pairs: NDArray[np.int64]


def svg_uri(figure: Figure) -> str:
    """Return a figure as a data URI; its letters stay letters, so a page can be searched and printed sharp."""
    return _uri(figure, "svg", "image/svg+xml", {"metadata": {"Date": None}})


def png_uri(figure: Figure) -> str:
    """Return a figure as a data URI of a small PNG, which viewers of Markdown show."""
    return _uri(figure, "png", "image/png", {"dpi": _PNG_DPI})


def _uri(figure: Figure, kind: str, media_type: str, options: dict[str, object]) -> str:
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "restill"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that this machine cannot draw
        figure.savefig(buffer, format=kind, **options)  # type: ignore[arg-type]
    return f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _axes(columns: int, *, width: float = 3.4, height: float = 2.6) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(1, columns))).tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    return figure, axes


def forest(marks: Sequence[Mark], *, margin: float | None) -> Figure:
    """Draw a line a slice: the difference to the champion with its interval, and the line it must stay right of.

    Args:
        marks: top to bottom.
        margin: the loss that is allowed, in points.
    """
    figure, (axis,) = _axes(1, width=8.2, height=0.9 + 0.27 * len(marks))
    for place, mark in enumerate(marks):
        if mark.ends is None:
            axis.plot(mark.estimate, place, "o", color="#57606a", markerfacecolor="white")
        else:
            axis.plot([mark.ends.lower, mark.ends.upper], [place, place], color=COLOURS["challenger"])
            axis.plot(mark.estimate, place, "s", color=COLOURS["challenger"], markersize=5)
    axis.axvline(0, color="black", linewidth=0.8)
    if margin is not None:
        axis.axvline(-margin, color=_DIFFERENT, linestyle="--", label=f"allowed loss: −{margin:g} points")
    axis.plot([], [], "s-", color=COLOURS["challenger"], markersize=5, label="judged, with interval")
    if any(mark.ends is None for mark in marks):
        axis.plot([], [], "o", color="#57606a", markerfacecolor="white", label="not judged")
    names = [f"{mark.name}  ({mark.pairs:,})" for mark in marks]
    installed = set(font_manager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in _WIDE_FONTS if font in installed)]
    axis.set_yticks(range(len(marks)), names, fontfamily=fonts, parse_math=False)
    axis.set(xlabel="accuracy, challenger minus champion, points", ylim=(len(marks) - 0.4, -0.6))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def histograms(cosines: Mapping[str, Floats], labels: Bools, borders: Mapping[str, float]) -> Figure:
    """Draw each model's scores by label.

    Args:
        cosines: ``[pairs]`` by model.
        labels: ``[pairs]``, which are the same.
        borders: the cosine from which a model calls a pair the same, where there is one.
    """
    figure, axes = _axes(len(cosines), width=3.3)
    for axis, (name, values) in zip(axes, cosines.items(), strict=True):
        # A range of no width, or one that rounding cannot divide, gets a width.
        middle, half = (values.max() + values.min()) / 2, max(np.ptp(values) / 2, 0.01)
        bins = np.linspace(middle - half, middle + half, 40).tolist()
        # One filled, one drawn around: the two are told apart in grey too.
        axis.hist(values[labels], bins, alpha=0.5, label="label: same", color=_SAME)
        axis.hist(values[~labels], bins, histtype="step", linewidth=1.5, label="label: different", color=_DIFFERENT)
        if name in borders:
            axis.axvline(borders[name], color="black", linestyle=":", label="decided the same from")
        axis.set_title(name, fontsize=10)
        axis.set(xlabel="cosine", ylabel="pairs")
        axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    lines, texts = axes[0].get_legend_handles_labels()
    figure.legend(lines, texts, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def quality_curves(
    roc: Mapping[str, tuple[Floats, Floats]],
    areas: Mapping[str, str],
    bins: Mapping[str, Bins],
    errors: Mapping[str, str],
) -> Figure:
    """Draw ROC curves, if there are any, beside reliability diagrams.

    Args:
        roc: false and true positive rates by model; empty where the test pairs have one label only.
        areas: ROC-AUC by model, in words.
        bins: stated and observed probabilities by model.
        errors: expected calibration error by model, in words.
    """
    figure, axes = _axes(2 if roc else 1, width=4.2, height=3.7)
    for name, (false, true) in roc.items():
        shown = _thinned(len(false))
        axes[0].plot(false[shown], true[shown], LINES[name], color=COLOURS[name], label=f"{name}, area {areas[name]}")
    if roc:
        axes[0].plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        axes[0].set_title("ROC", fontsize=10)
        axes[0].set(xlabel="false positive rate", ylabel="true positive rate")
        axes[0].legend(fontsize=8, loc="lower right")
    for name, found in bins.items():
        axes[-1].plot(
            found.stated,
            found.observed,
            LINES[name],
            marker="o" if name == "challenger" else "^",
            markersize=5,
            color=COLOURS[name],
            label=f"{name}, error {errors[name]}",
        )
    axes[-1].plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes[-1].set_title("Reliability", fontsize=10)
    axes[-1].set(xlabel="stated probability", ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes[-1].legend(fontsize=8, loc="upper left")
    return figure


def latency(arms: Mapping[str, Floats], reference: Floats) -> Figure:
    """Draw how the requests of each arm are distributed, and how the run went on.

    Args:
        arms: ``[rounds, requests a round]`` milliseconds, by name.
        reference: ``[rounds, blocks]`` milliseconds of the fixed workload before each block.
    """
    figure, (shares, run) = _axes(2, width=4.6, height=3.0)
    for name, timings in arms.items():
        values = np.sort(timings.ravel())
        shown = np.union1d(_thinned(len(values)), np.arange(len(values))[-_TAIL:])  # the slowest one by one
        style: dict[str, Any] = {"linestyle": LINES[name], "color": COLOURS[name], "label": name}
        shares.plot(values[shown], ((np.arange(len(values)) + 1) / len(values))[shown], **style)
        medians = np.median(timings, axis=1)
        run.plot(np.arange(len(medians)) + 1, medians / np.median(medians), linewidth=1.2, **style)
    shares.set_title("Share of requests answered within", fontsize=10)
    shares.set(xlabel="milliseconds a pair", ylabel="share", xscale="log")
    shares.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    shares.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    shares.xaxis.set_minor_formatter(NullFormatter())
    shares.tick_params(axis="x", which="both", labelsize=8)
    if reference.size:
        medians = np.median(reference, axis=1)
        run.plot(
            np.arange(len(medians)) + 1,
            medians / np.median(medians),
            color="#bf3989",
            linewidth=0.8,
            label="fixed workload",
        )
    run.set_title("Medians as the run went on", fontsize=10)
    run.set(xlabel="round", ylabel="relative to the whole run")
    run.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    lines, texts = run.get_legend_handles_labels()
    figure.legend(lines, texts, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def training(
    numbers: Sequence[int], losses: Mapping[str, Sequence[float]], scores: Sequence[float], chosen: int | None
) -> Figure:
    """Draw losses and validation score by epoch, with the epoch that was chosen."""
    figure, (left, right) = _axes(2, width=4.4)
    for (name, values), style in zip(losses.items(), ("o-", "^--"), strict=False):
        left.plot(numbers, values, style, markersize=4, label=name)
    right.plot(numbers, scores, "o-", markersize=4, color=_SAME, label="validation score")
    left.set(xlabel="epoch", ylabel="loss a pair")
    right.set(xlabel="epoch", ylabel="validation score")
    for axis in (left, right):
        if chosen is not None:
            axis.axvline(chosen, linestyle=":", color="black", label=f"chosen: {chosen}")
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axis.legend(fontsize=8)
    return figure


def _thinned(count: int) -> NDArray[np.int64]:
    """Return which of `count` points to draw, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(np.int64))
