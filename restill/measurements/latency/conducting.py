"""Starts a process for each arm, asks them in turn, and ends them all, whatever happens.

Shared machines drift, so the arms are timed in one run, block against block, with a fixed workload before each block.
Two processes with one artifact can differ for good, by where their memory lies: a twin among the arms shows it.
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restill.errors import MeasurementFailed
from restill.measurements.latency.records import Artifact, Process, Run, Timings

BLOCK_REQUESTS = 25
ROUND_REQUESTS = 2 * BLOCK_REQUESTS  # of each arm
TIMEOUT_SECONDS = 1800.0  # of a whole run
COMMAND = (sys.executable, "-m", "restill.measurements.latency.arm")

_END_SECONDS = 5.0


def conduct(
    challenger: Artifact,
    champion: Artifact | None,
    pairs: Sequence[tuple[str, str]],
    *,
    requests: int,
    warmup: int,
    threads: int,
) -> Run:
    """Time the artifacts, each in a fresh process, and a twin of the champion (without champion: the challenger).

    Args:
        challenger: arm A.
        champion: arm B; None: there is no B.
        pairs: real pairs, whose lengths are the requests' lengths.
        requests: timed requests per arm; rounded up to whole rounds.
        warmup: requests per arm before the clock counts, at least.
        threads: interpreter threads, as in serving.
    Raises: MeasurementFailed if a process fails, or they do not finish.
    """
    wanted = {"challenger": challenger, "champion": champion, "control": champion or challenger}
    names = [name for name, artifact in wanted.items() if artifact is not None]
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with contextlib.ExitStack() as stack:
        arms: dict[str, _Arm] = {}
        for name in reversed(names):  # the twin first: the challenger then finds on no colder disk than the champion
            arms[name] = stack.enter_context(_started(name, threads, deadline))
            arms[name].load(wanted[name], pairs, threads)
        for arm in arms.values():
            arm.ask("warm_up", "shapes", requests=warmup)
        timings = _alternate(arms, names, rounds=-(-requests // ROUND_REQUESTS))
        found = {name: arms[name].describe() for name in names if name != "control"}
    return Run(timings, found["challenger"], found.get("champion"), threads, f"{_hardware()}, {threads} thread(s)")


def _alternate(arms: dict[str, "_Arm"], names: list[str], *, rounds: int) -> Timings:
    taken: dict[str, list[list[float]]] = {name: [] for name in names}
    reference: list[list[float]] = []
    for number in range(rounds):
        reference.append([])
        for half, order in enumerate((names, names[::-1])):
            for name in order:
                # All arms of a round answer the same pairs, so lengths cannot favour one of them.
                first = number * ROUND_REQUESTS + half * BLOCK_REQUESTS
                answer = arms[name].ask("block", "request_ms", first=first, requests=BLOCK_REQUESTS)
                if half == 0:
                    taken[name].append([])
                taken[name][-1] += answer["request_ms"]
                reference[-1].append(answer["reference_ms"])
    arrays = {name: np.array(values, np.float64) for name, values in taken.items()}
    return Timings(
        challenger_ms=arrays["challenger"],
        champion_ms=arrays.get("champion"),
        control_ms=arrays["control"],
        reference_ms=np.array(reference, np.float64),
    )


class _Arm:
    """A process that answers, from its start on."""

    def __init__(self, name: str, process: "subprocess.Popen[str]", log: Any, started_ns: int, deadline: float) -> None:
        self._name, self._process, self._log = name, process, log
        self._started_ns, self._deadline = started_ns, deadline
        self._cold_start_ms = float("nan")

    def load(self, artifact: Artifact | None, pairs: Sequence[tuple[str, str]], threads: int) -> None:
        """Have an artifact loaded and a first pair answered."""
        assert artifact is not None  # noqa: S101 (only arms with an artifact are started)
        order = {"folder": str(artifact.folder), "file": artifact.file, "threads": threads, "pairs": list(pairs)}
        answered_ns = self._exchange(order, "answered_ns")["answered_ns"]
        self._cold_start_ms = (answered_ns - self._started_ns) / 1e6

    def ask(self, do: str, returns: str, **about: int) -> dict[str, Any]:
        """Return the answer to a question, which has the key `returns`."""
        return self._exchange({"do": do, **about}, returns)

    def describe(self) -> Process:
        """Return what there is to say of the process; memory first, as large batches need more of it."""
        return Process(
            cold_start_ms=self._cold_start_ms,
            peak_memory_mb=self.ask("memory", "peak_memory_mb")["peak_memory_mb"],
            pairs_per_second=self.ask("batches", "pairs_per_second")["pairs_per_second"],
        )

    def _exchange(self, question: dict[str, Any], returns: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018
        killer = threading.Timer(max(0.0, self._deadline - time.monotonic()), self._process.kill)
        killer.daemon = True
        killer.start()
        line = ""
        try:
            with contextlib.suppress(OSError):  # it is gone: there is no line to read either
                self._process.stdin.write(json.dumps(question) + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            killer.cancel()
        try:
            answer = json.loads(line)
            if isinstance(answer, dict) and returns in answer:
                return answer
        except ValueError:
            pass
        raise self._failure(line)

    def _failure(self, line: str) -> MeasurementFailed:
        """Say why there is no answer: it did not come in time, is none, or the process has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if line else _END_SECONDS)
        code = self._process.returncode
        who = f"The latency process of the {self._name}"
        said = self._last_words()
        if time.monotonic() >= self._deadline:
            hint = "Look what else the machine does, or ask for fewer requests (latency.requests)."
            return MeasurementFailed(f"{who} did not finish in {TIMEOUT_SECONDS:,.0f} s{said}", hint=hint)
        if code is None:
            return MeasurementFailed(
                f"{who} answered with something else than was asked for: {line!r:.80}{said}",
                hint="Another Restill may be installed there; set it up again.",
            )
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return MeasurementFailed(
            f"{who} {how}{said}", hint="Check that the artifact is whole and that memory is free; then run again."
        )

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else "."


@contextlib.contextmanager
def _started(name: str, threads: int, deadline: float) -> Iterator[_Arm]:
    """Start a process, and end it at the end, also on Ctrl-C. It ends by itself, too, when this process is gone."""
    # Threads of the reference workload would spin on the cores that the requests are timed on.
    environment = os.environ | {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    environment["RAYON_NUM_THREADS"] = str(threads)  # the tokenizer's, for batches
    with tempfile.TemporaryFile() as log:  # not a pipe, which would fill up and block the process
        started_ns = time.monotonic_ns()
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            encoding="utf-8",
        )
        try:
            yield _Arm(name, process, log, started_ns, deadline)
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what a dead process did not read is still in the buffer
                        stream.close()


def _hardware() -> str:
    """Return the processor and the system, as far as they say who they are."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or "processor unknown"
    return f"{processor}, {os.cpu_count()} core(s), {platform.machine()} {platform.system()}"
