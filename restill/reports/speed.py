"""The section on speed and size of the artifact that would be served."""

from collections.abc import Callable

from restill.measurements import Interval, Latency, LatencyArm
from restill.measurements.rows import Floats
from restill.reports import pictures
from restill.reports.blocks import Block, Picture, Table, Words, number
from restill.reports.judged import Judged

_ROWS: tuple[tuple[str, Callable[[LatencyArm], str]], ...] = (
    ("p50, ms", lambda arm: _interval(arm.p50_ms)),
    ("p90, ms", lambda arm: _interval(arm.p90_ms)),
    ("p99, ms", lambda arm: _interval(arm.p99_ms)),
    ("cold start, ms", lambda arm: number(arm.cold_start_ms, ",.0f")),
    ("peak memory, MB", lambda arm: number(arm.peak_memory_mb, ",.0f")),
    ("pairs a second, in batches", lambda arm: number(arm.pairs_per_second, ",.0f")),
    ("timed requests", lambda arm: f"{arm.requests:,}"),
)


def latency(judged: Judged) -> list[Block]:
    """Return latency of challenger and champion, what else serving costs, and how far the run can be trusted."""
    found = judged.measurements.latency
    size = Words(f"The served artifact takes {judged.measurements.artifact_mb:.1f} MB{_champion_size(judged)}.")
    if found is None:
        return [Words("Latency was not measured."), size]
    arms = [("challenger", found.challenger)] + ([("champion", found.champion)] if found.champion else [])
    return [
        _picture(judged),
        Table(
            f"One pair a request, tokenising included, with {judged.ends}",
            ("measure", *(name for name, _ in arms)),
            [(title, *(value(arm) for _, arm in arms)) for title, value in _ROWS],
            numbers=frozenset({1, 2}),
        ),
        *_ratios(found),
        size,
        Words(_run(judged, found)),
    ]


def _champion_size(judged: Judged) -> str:
    return f", the champion's {judged.champion.served_bytes / 1e6:.1f} MB" if judged.champion is not None else ""


def _picture(judged: Judged) -> Picture:
    timings = judged.evaluation.timings
    measured: dict[str, Floats | None] = {
        "challenger": timings.challenger_ms,
        "champion": timings.champion_ms,
        "control": timings.control_ms,
    }
    arms = {name: values for name, values in measured.items() if values is not None}
    return Picture(
        pictures.latency(arms, timings.reference_ms),
        "Latency of one pair",
        f"Cumulative distributions of the latency of {', '.join(arms)}, and the median of each round of the run "
        "relative to the whole run. The tables below have the numbers.",
    )


def _ratios(found: Latency) -> list[Block]:
    pairs = (
        ("challenger ÷ champion", found.p50_ratio, found.p99_ratio),
        ("control: one artifact in two processes", found.control_p50_ratio, found.control_p99_ratio),
    )
    rows = [(name, _interval(p50), _interval(p99)) for name, p50, p99 in pairs if p50 is not None or p99 is not None]
    if not rows:
        return []
    return [
        Table(
            "Ratios; the control's are 1 but for the machine", ("ratio", "p50", "p99"), rows, numbers=frozenset({1, 2})
        )
    ]


def _run(judged: Judged, found: Latency) -> str:
    said = f"Measured on {found.hardware}. The machine changed by {found.disturbance:.1%} during the run"
    if found.disturbed_by:
        said += f", most in: {found.disturbed_by}"
    most = judged.limit("max_disturbance")
    return f"{said}." if most is None else f"{said}; beyond {most:.0%} the run decides nothing."


def _interval(found: Interval | None) -> str:
    return "not measured" if found is None else f"{found.estimate:.3g} [{found.lower:.3g}, {found.upper:.3g}]"
