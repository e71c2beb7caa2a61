"""From the raw timings of a run to a `Latency`: quantiles and ratios with intervals, and how disturbed it was. Pure."""

import numpy as np

from restill.measurements import Interval, Latency, LatencyArm
from restill.measurements.latency.disturbance import find_disturbance
from restill.measurements.latency.records import Floats, Process, Run, Timings
from restill.measurements.statistics import block_intervals

QUANTILES = (0.5, 0.9, 0.99)
_RESAMPLES = 1000

Quantiles = list[tuple[Interval, Floats]]  # of each of QUANTILES: the interval, and its resampled values


def summarise(run: Run, *, confidence: float) -> Latency:
    """Return what a run says, with one-sided confidence of the interval ends."""
    timings = run.timings
    challenger = _quantiles(timings.challenger_ms, confidence)
    control = _quantiles(timings.control_ms, confidence)
    champion = None if timings.champion_ms is None else _quantiles(timings.champion_ms, confidence)
    p50_ratio, _, p99_ratio = _ratios(challenger, champion, confidence) if champion else (None, None, None)
    control_p50_ratio, _, control_p99_ratio = _ratios(control, champion or challenger, confidence)
    disturbance, disturbed_by = find_disturbance(timings)
    requests = timings.challenger_ms.size
    return Latency(
        challenger=_arm(challenger, run.challenger, requests),
        champion=_arm(champion, run.champion, requests) if champion and run.champion else None,
        p50_ratio=p50_ratio,
        p99_ratio=p99_ratio,
        disturbance=disturbance,
        threads=run.threads,
        hardware=run.hardware,
        control_p50_ratio=control_p50_ratio,
        control_p99_ratio=control_p99_ratio,
        disturbed_by=disturbed_by,
    )


def summarise_again(timings: Timings, before: Latency, *, confidence: float) -> Latency:
    """Return what stored timings say at another confidence; what is known of the processes is taken from `before`."""

    def process(arm: LatencyArm) -> Process:
        return Process(arm.cold_start_ms or 0.0, arm.peak_memory_mb, arm.pairs_per_second or 0.0)

    run = Run(
        timings=timings,
        challenger=process(before.challenger),
        champion=process(before.champion) if before.champion is not None else None,
        threads=before.threads,
        hardware=before.hardware,
    )
    return summarise(run, confidence=confidence)


def _quantiles(timings: Floats, confidence: float) -> Quantiles:
    # One seed for all arms: each resample draws the same rounds of all, so drift cancels in the ratios.
    return block_intervals(timings, QUANTILES, confidence=confidence, resamples=_RESAMPLES)


def _arm(quantiles: Quantiles, process: Process, requests: int) -> LatencyArm:
    (p50, _), (p90, _), (p99, _) = quantiles
    return LatencyArm(
        requests=requests,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        cold_start_ms=process.cold_start_ms,
        peak_memory_mb=process.peak_memory_mb,
        pairs_per_second=process.pairs_per_second,
    )


def _ratios(tops: Quantiles, bottoms: Quantiles, confidence: float) -> list[Interval]:
    found = []
    for (top, top_values), (bottom, bottom_values) in zip(tops, bottoms, strict=True):
        lower, upper = np.quantile(top_values / bottom_values, [1 - confidence, confidence])
        found.append(Interval(estimate=top.estimate / bottom.estimate, lower=float(lower), upper=float(upper)))
    return found
