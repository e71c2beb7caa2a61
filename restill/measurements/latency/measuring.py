"""One measurement on this machine, from artifacts to latencies with intervals."""

from collections.abc import Sequence

from restill.measurements import Latency
from restill.measurements.latency.conducting import conduct
from restill.measurements.latency.records import Artifact, Timings
from restill.measurements.latency.summary import summarise


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
    """Time both artifacts and a twin of the champion, and return latencies with intervals, and the raw timings.

    Args:
        challenger: arm A.
        champion: arm B, whose twin is arm C; None: there is no B, and C is the challenger's twin.
        pairs: real pairs, whose lengths are the requests' lengths.
        requests: timed requests per arm, at least.
        warmup: requests per arm before the clock counts, at least: every input shape is among them.
        threads: interpreter threads, as in serving.
        confidence: one-sided confidence of the interval ends.
    Raises: MeasurementFailed if a process fails, or they do not finish.
    """
    run = conduct(challenger, champion, pairs, requests=requests, warmup=warmup, threads=threads)
    return summarise(run, confidence=confidence), run.timings
