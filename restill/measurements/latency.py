"""Latency of exported artifacts: a fresh process, single-pair requests, challenger and champion interleaved A B B A.

`measure` starts the process and reads its timings; run as a module, this file is that process. Shared machines drift,
so both artifacts are timed in one run, block against block, with a fixed reference workload between the blocks.
"""

import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restill.errors import MeasurementFailed
from restill.measurements import Interval, Latency, LatencyArm
from restill.measurements.statistics import block_interval
from restill.serving import PairModel

BLOCK_REQUESTS = 25
_RESAMPLES = 1000
_TIMEOUT_SECONDS = 900

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Artifact:
    """A folder with an exported student, and the model file in it that is timed."""

    folder: Path
    file: str


@dataclass(frozen=True)
class Timings:
    """Raw timings of one run; a round is A B B A, so each arm has two blocks a round."""

    challenger_ms: Floats  # [rounds, requests a round]
    champion_ms: Floats | None
    reference_ms: Floats  # [rounds]


def measure(
    challenger: Artifact,
    champion: Artifact | None,
    pairs: Sequence[tuple[str, str]],
    *,
    requests: int,
    warmup: int,
    threads: int,
    confidence: float,
) -> tuple[Latency, Timings]:
    """Time both artifacts in a fresh process and return latencies with intervals, and the raw timings.

    Args:
        challenger: arm A.
        champion: arm B; None times the challenger alone.
        pairs: real pairs, whose lengths are the requests' lengths.
        requests: timed requests per arm, at least.
        warmup: requests per arm before the clock counts.
        threads: interpreter threads, as in serving.
        confidence: one-sided confidence of the interval ends.
    Raises: MeasurementFailed if the process fails or does not finish.
    """
    order = {
        "arms": [
            {"folder": str(artifact.folder), "file": artifact.file}
            for artifact in (challenger, champion)
            if artifact is not None
        ],
        "pairs": [list(pair) for pair in pairs],
        "rounds": -(-requests // (2 * BLOCK_REQUESTS)),
        "warmup": warmup,
        "threads": threads,
    }
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "restill.measurements.latency"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            # Threads of the reference workload would spin on the cores that the requests are timed on.
            env=os.environ | {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")},
        )
    except subprocess.TimeoutExpired as error:
        raise MeasurementFailed(f"Measuring latency took longer than {_TIMEOUT_SECONDS} s.") from error
    if finished.returncode != 0:
        last = finished.stderr.strip().splitlines()[-1:] or [f"exit code {finished.returncode}"]
        raise MeasurementFailed(f"The latency process failed: {last[0]}", hint="Check memory; run again with --debug.")
    answer = json.loads(finished.stdout)
    arms = [np.array(arm, np.float64) for arm in answer["arms"]]
    timings = Timings(arms[0], arms[1] if len(arms) > 1 else None, np.array(answer["reference"], np.float64))
    return _summarise(timings, confidence=confidence, threads=threads), timings


def _summarise(timings: Timings, *, confidence: float, threads: int) -> Latency:
    arms = [timings.challenger_ms] + ([timings.champion_ms] if timings.champion_ms is not None else [])
    intervals: dict[float, list[tuple[Interval, Floats]]] = {}
    for quantile in (0.5, 0.99):
        # One seed for both arms: each resample draws the same rounds of both, so drift cancels in the ratio.
        intervals[quantile] = [
            block_interval(
                lambda values, at=quantile: float(np.quantile(values, at)),  # type: ignore[misc]
                list(arm),
                confidence=confidence,
                resamples=_RESAMPLES,
            )
            for arm in arms
        ]

    def arm(position: int) -> LatencyArm:
        return LatencyArm(
            requests=arms[position].size,
            p50_ms=intervals[0.5][position][0],
            p99_ms=intervals[0.99][position][0],
        )

    def ratio(quantile: float) -> Interval | None:
        if len(arms) < 2:
            return None
        (top, tops), (bottom, bottoms) = intervals[quantile]
        lower, upper = np.quantile(tops / bottoms, [1 - confidence, confidence])
        return Interval(estimate=top.estimate / bottom.estimate, lower=float(lower), upper=float(upper))

    return Latency(
        challenger=arm(0),
        champion=arm(1) if len(arms) > 1 else None,
        p50_ratio=ratio(0.5),
        p99_ratio=ratio(0.99),
        disturbance=disturbance(timings),
        threads=threads,
        hardware=f"{platform.machine()} {platform.system()}, {threads} thread(s)",
    )


def disturbance(timings: Timings) -> float:
    """Return by how much the machine changed during the run, as a share.

    The larger of two signs: the reference workload's median differs between quarters of the run, or the
    challenger-to-champion ratio (without a champion: the challenger's median) differs between its halves.
    """
    quarters = [float(np.median(part)) for part in np.array_split(timings.reference_ms, 4) if part.size]
    drift = max(quarters) / min(quarters) - 1
    halves = [
        float(np.median(challenger) / (np.median(champion) if champion is not None else 1.0))
        for challenger, champion in zip(
            np.array_split(timings.challenger_ms, 2),
            np.array_split(timings.champion_ms, 2) if timings.champion_ms is not None else (None, None),
            strict=True,
        )
    ]
    return max(drift, max(halves) / min(halves) - 1)


def _reference_workload(matrix: NDArray[np.float32]) -> float:
    """Return the milliseconds a fixed piece of arithmetic takes: the best of five, free of single interruptions."""
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter_ns()
        np.dot(matrix, matrix)
        best = min(best, (time.perf_counter_ns() - started) / 1e6)
    return best


def _time_block(model: PairModel, pairs: Sequence[tuple[str, str]]) -> list[float]:
    timings = []
    for pair in pairs:
        started = time.perf_counter_ns()
        model.predict([pair])
        timings.append((time.perf_counter_ns() - started) / 1e6)
    return timings


def _serve_order() -> None:
    """Read an order from standard input, time the arms, write the timings to standard output."""
    order = json.load(sys.stdin)
    models = [PairModel(Path(arm["folder"]), file=arm["file"], threads=order["threads"]) for arm in order["arms"]]
    pairs = [(a, b) for a, b in order["pairs"]]
    matrix = np.random.default_rng(0).standard_normal((160, 160)).astype(np.float32)
    for model in models:
        _time_block(model, [pairs[number % len(pairs)] for number in range(order["warmup"])])
    pattern = [0, 1, 1, 0] if len(models) == 2 else [0, 0]
    gc.collect()
    gc.disable()
    arms: list[list[list[float]]] = [[] for _ in models]
    reference = []
    for number in range(order["rounds"]):
        reference.append(_reference_workload(matrix))
        taken: list[list[float]] = [[] for _ in models]
        for arm in pattern:
            # Both arms of a round answer the same pairs, so lengths cannot favour one of them.
            first = number * 2 * BLOCK_REQUESTS + len(taken[arm])
            block = [pairs[(first + offset) % len(pairs)] for offset in range(BLOCK_REQUESTS)]
            taken[arm] += _time_block(models[arm], block)
        for arm, timings in enumerate(taken):
            arms[arm].append(timings)
    json.dump({"arms": arms, "reference": reference}, sys.stdout)


if __name__ == "__main__":
    _serve_order()
