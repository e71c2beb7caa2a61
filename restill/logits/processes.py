"""Workers as processes of this machine: one a device, or sharing its cores."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from restill import errors, teachers
from restill.errors import RestillError
from restill.logits import scoring, supervision
from restill.logits.jobs import ScoringPlan
from restill.logits.scoring import Progress
from restill.logits.store import LogitsStore
from restill.settings import Settings

_STOP_SECONDS = 10.0


def score(
    plan: ScoringPlan, logits: LogitsStore, settings: Settings, *, progress: Progress, say: Callable[[str], None]
) -> None:
    """Work on a plan with this machine's devices until all of it is stored.

    Without a GPU and with one worker that is this process, which saves a second TensorFlow.

    Args:
        plan: what is to be scored.
        logits: the teacher's scores.
        settings: which teacher, and how many workers.
        progress: called with items done, items to do, the speed and the padding in words.
        say: called with a sentence when a worker was lost.

    Raises: what `worker.work` and `supervision.supervise` raise.
    """
    found, count = devices(), shares(settings)
    if count == 1 and not found:
        scoring.score_here(plan, logits, lambda: teachers.load_teacher(settings.teacher), progress=progress)
        return
    workers = Processes(plan, logits, settings, shares=count, devices=found)
    supervision.supervise(plan, logits, workers, shares=count, stall_seconds=None, progress=progress, say=say)


def shares(settings: Settings) -> int:
    """Return how many workers this machine has: as configured, or one a GPU, or one."""
    return settings.scoring.workers or max(1, len(devices()))


def devices() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without TensorFlow."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device.strip() for device in named.split(",") if device.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


class Processes:
    """Worker processes of this machine. They end when this process ends, however it ends."""

    def __init__(
        self, plan: ScoringPlan, logits: LogitsStore, settings: Settings, *, shares: int, devices: list[str]
    ) -> None:
        self._job = {
            "plan": plan.key,
            "shares": shares,
            "teacher": settings.teacher.model_dump(mode="json"),
            "connection": {**asdict(logits.objects.connection), "data_dir": None},
        }
        self._shares = shares
        self._devices = devices
        self._logs = settings.state_dir / "logs"
        self._processes: dict[int, subprocess.Popen[str]] = {}

    def start(self, share: int) -> None:
        """Start the process of a share, on a device of its own as far as there are enough."""
        self._logs.mkdir(parents=True, exist_ok=True)
        threads = str(max(1, (os.cpu_count() or 1) // self._shares))
        environment = {
            **os.environ,
            # Before TensorFlow is imported, which would take every GPU that it sees.
            "CUDA_VISIBLE_DEVICES": self._devices[share % len(self._devices)] if self._devices else "",
            **dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"), threads),
            "TF_NUM_INTEROP_THREADS": "1",
            # TensorFlow imports Keras otherwise, half of the seconds that a process takes to begin; teachers need none.
            "TF_USE_LEGACY_KERAS": "1",
        }
        with self._log(share).open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "restill.logits.one_share"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        if share in self._processes:
            _close(self._processes[share])
        self._processes[share] = process
        # By its standard input, as arguments can be read by others: it holds the keys of the object store. It stays
        # open: that it closes is how the process knows that this one is gone.
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died at once: `ended` tells
                process.stdin.write(json.dumps({**self._job, "share": share}) + "\n")
                process.stdin.flush()

    def ended(self) -> dict[int, str]:
        """Return the processes that ended, and how, in words.

        Raises: what a worker raised, which would meet every other one too.
        """
        found: dict[int, str] = {}
        for share, process in self._processes.items():
            code = process.poll()
            if code is None:
                continue
            said = process.stdout.read() if process.stdout is not None and not process.stdout.closed else ""
            if said:
                raise _error_of(json.loads(said))
            if code < 0:
                how = f"process {process.pid} was killed by {signal.Signals(-code).name}"
            else:
                how = f"process {process.pid} ended with code {code}, see {self._log(share)}"
            found[share] = how
        return found

    def stop(self) -> None:
        """End the processes that still run: what they have in hand is lost, and nothing else."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close(process)
        self._processes.clear()

    def _log(self, share: int) -> Path:
        return self._logs / f"scoring-{share + 1}.log"


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):  # what a dead process did not read is still in the buffer
                stream.close()


def _error_of(said: dict[str, str]) -> RestillError:
    kind = getattr(errors, said["error"], RestillError)
    found: RestillError = kind(said["message"], hint=said["hint"])
    return found
