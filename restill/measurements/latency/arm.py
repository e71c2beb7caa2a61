"""The process that answers requests: `python -m restill.measurements.latency.arm`.

It reads one JSON document a line: first what to load, then questions, and answers each with one line. Between them it
blocks on reading, so of several such processes only the one that was asked works. It ends when its input is closed.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restill.serving import PairModel

BATCH_PAIRS = 256
_BATCH_SECONDS = 1.0
_MATRIX = 160  # rows and columns of the reference workload

Pairs = Sequence[tuple[str, str]]


def main() -> None:
    """Serve one asker until it closes the input."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1) as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        order = json.loads(sys.stdin.readline())
        arm = Arm(order)
        questions: dict[str, Callable[..., dict[str, Any]]]
        questions = {"warm_up": arm.warm_up, "block": arm.block, "memory": arm.memory, "batches": arm.batches}
        answers.write(json.dumps({"answered_ns": arm.answered_ns}) + "\n")
        for line in sys.stdin:
            asked = json.loads(line)
            answers.write(json.dumps(questions[asked.pop("do")](**asked)) + "\n")


class Arm:
    """One artifact, loaded as it is served, and the answers to what can be asked of it."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Load the artifact and answer a first pair: a process is not up before that."""
        self._model = PairModel(Path(order["folder"]), file=order["file"], threads=order["threads"])
        self._pairs = [(a, b) for a, b in order["pairs"]]
        self._model.predict(self._pairs[:1])
        self.answered_ns = time.monotonic_ns()
        self._matrix = np.random.default_rng(0).standard_normal((_MATRIX, _MATRIX)).astype(np.float32)

    def warm_up(self, requests: int) -> dict[str, Any]:
        """Answer so many requests, and one of each input shape: the first of a shape costs more than an answer."""
        shapes = {self._model.width(pair): pair for pair in self._pairs}
        for pair in [*shapes.values(), *self._cut(0, requests)]:
            self._model.predict([pair])
        self._reference()
        gc.collect()
        gc.disable()
        return {"shapes": len(shapes)}

    def block(self, first: int, requests: int) -> dict[str, Any]:
        """Time the reference workload, then so many requests, from pair `first` on."""
        reference_ms = self._reference()
        request_ms = []
        for pair in self._cut(first, requests):
            started = time.perf_counter_ns()
            self._model.predict([pair])
            request_ms.append((time.perf_counter_ns() - started) / 1e6)
        return {"reference_ms": reference_ms, "request_ms": request_ms}

    def memory(self) -> dict[str, Any]:
        """Say how much memory this process has held at most."""
        return {"peak_memory_mb": peak_memory_mb()}

    def batches(self) -> dict[str, Any]:
        """Time one large batch for about a second, after it was answered once before."""
        batch = self._cut(0, BATCH_PAIRS)
        self._model.similarity(batch)
        answered, started = 0, time.perf_counter()
        while (taken := time.perf_counter() - started) < _BATCH_SECONDS:
            self._model.similarity(batch)
            answered += len(batch)
        return {"pairs_per_second": answered / taken}

    def _cut(self, first: int, count: int) -> Pairs:
        return [self._pairs[(first + offset) % len(self._pairs)] for offset in range(count)]

    def _reference(self) -> float:
        """Return the milliseconds a fixed piece of arithmetic takes: the best of five, free of single interruptions."""
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter_ns()
            np.dot(self._matrix, self._matrix)
            best = min(best, (time.perf_counter_ns() - started) / 1e6)
        return best


def peak_memory_mb() -> float | None:
    """Return the most memory this process has held resident; None where the system does not say.

    On Linux not from getrusage: a process inherits that figure from the one that started it.
    """
    if sys.platform == "linux":
        try:
            status = Path("/proc/self/status").read_text("ascii", errors="replace")
        except OSError:
            return None
        peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0]) * 1024 / 1e6 if peaks else None
    if sys.platform == "win32":
        import psutil  # late: needed only here

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource  # late: not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


if __name__ == "__main__":
    main()
