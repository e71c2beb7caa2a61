"""Whether the machine held still during a run: a run on one that did not decides nothing."""

import numpy as np

from restill.measurements.latency.records import Floats, Timings


def find_disturbance(timings: Timings) -> tuple[float, str]:
    """Return by how much the machine changed during the run, as a share, and what shows it, in words.

    The largest of three signs, any of which is 0 on a perfect machine:

    * the reference workload's median differs between quarters of the run;
    * the ratio of challenger to champion (without champion: the challenger's median) differs between its halves;
    * the medians of two processes with one artifact differ.
    """
    quarters = [float(np.median(part)) for part in np.array_split(timings.reference_ms, 4) if part.size]
    signs = {"the reference workload between quarters of the run": _spread(quarters)}
    champion = timings.champion_ms
    halves = [
        float(np.median(timings.challenger_ms[part]) / (np.median(champion[part]) if champion is not None else 1.0))
        for part in np.array_split(np.arange(len(timings.challenger_ms)), 2)
        if part.size
    ]
    who = "the challenger" if champion is None else "the challenger against the champion"
    signs[f"{who} between the halves of the run"] = _spread(halves)
    twin = timings.challenger_ms if champion is None else champion
    signs["two processes with the same artifact"] = _spread([_median(timings.control_ms), _median(twin)])
    words = max(signs, key=lambda name: signs[name])
    return signs[words], words


def _median(timings: Floats) -> float:
    return float(np.median(timings))


def _spread(values: list[float]) -> float:
    return max(values) / min(values) - 1
