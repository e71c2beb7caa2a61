"""Real servers as plain processes on free ports, with everything they keep in one folder."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import psutil

LOG_TAIL = 3000


def find(program):
    """Return where a program is; Debian keeps PostgreSQL's server out of PATH. None if it is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return str(debian[-1]) if debian else shutil.which(program)


def free_port():
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(true, *, seconds, what):
    """Wait until `true()` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.1)
    return found


class Processes:
    """Processes by name, each with a log; all are ended at the end, however it comes."""

    def __init__(self, folder):
        self.folder = folder
        self._running = {}
        self._left = []  # what processes that were killed have started

    def start(self, name, command, *, environment=None, user=None):
        """Start a process in a session of its own, as another user if one is given."""
        assert not self.runs(name)
        identity = {"user": user, "group": user, "extra_groups": []} if user else {}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **identity,
            )

    def runs(self, name):
        """Return whether a process was started and has not ended."""
        return name in self._running and self._running[name].poll() is None

    def children(self, name):
        """Return the processes that a process has started."""
        return psutil.Process(self._running[name].pid).children(recursive=True)

    def all(self):
        """Return every process that runs, with those they started."""
        running = [psutil.Process(process.pid) for name, process in self._running.items() if self.runs(name)]
        return [found for process in running for found in (process, *process.children(recursive=True))]

    def stop(self, name):
        """Hold a process, its children not."""
        self._running[name].send_signal(signal.SIGSTOP)

    def resume(self, name):
        """Let a held process go on."""
        self._running[name].send_signal(signal.SIGCONT)

    def kill(self, name):
        """End a process at once. Those it started live on."""
        self._left += self.children(name)
        self._running[name].kill()
        self._running[name].wait()

    def wait_for(self, name, ready, *, seconds):
        """Wait until a process that must keep running is ready."""

        def looks():
            assert self.runs(name), f"{name} ended: {self.log(name)}"
            with contextlib.suppress(OSError, httpx.TransportError):
                return ready()
            return False

        try:
            until(looks, seconds=seconds, what=name)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log(name)}") from None

    def log(self, name):
        """Return the end of a process's log."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-LOG_TAIL:]

    def end(self):
        """End everything: politely, then not."""
        left = [*self._left, *self.all()]
        for sent, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sent)
            _, left = psutil.wait_procs(left, timeout=seconds)
