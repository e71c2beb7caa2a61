"""Start and stop what is kept running: one supervisord for each project."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock
import psutil

from restill.errors import ConfigurationError, StackFailed
from restill.files import write_whole
from restill.settings import Settings
from restill.stack import control
from restill.stack.places import Places, base_url, local_host
from restill.stack.programs import MARK, Program, configuration

_LOCK_SECONDS = 600.0
_KEEPER_SECONDS = 30.0
_END_SECONDS = 20.0  # for what nobody keeps any more
_STOP_SECONDS = 240.0
_LOG_LINES = 12
_RUN_ID = "PREFECT__FLOW_RUN_ID"  # in the environment of a process that a worker started for a run
_DOWN = ("STOPPED", "EXITED", "FATAL", "UNKNOWN")


class Keeper:
    """The processes of one project: `settings` says where, `programs` which."""

    def __init__(self, settings: Settings, programs: list[Program]) -> None:
        self._settings = settings
        self.programs = programs
        self.places = Places(settings.state_dir)

    @contextlib.contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Be the only one who starts or stops; wait for another who does.

        Raises: ConfigurationError where there is no supervisord; StackFailed if the other never ends.
        """
        if os.name != "posix":
            raise ConfigurationError(
                "`restill up` needs a POSIX system.",
                hint="Start `prefect server start` and `prefect worker start` yourself, and use `restill deploy`.",
            )
        self.places.make()
        lock = filelock.FileLock(self.places.lock)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say("Another restill up or down is at work here; waiting for it …")
            try:
                lock.acquire(timeout=_LOCK_SECONDS)
            except filelock.Timeout as error:
                raise StackFailed(
                    f"Another restill up or down has held {self.places.lock} for {_LOCK_SECONDS / 60:.0f} minutes.",
                    hint="Look which process has that file open, and end it.",
                ) from error
        try:
            yield
        finally:
            lock.release()

    def processes(self) -> dict[str, dict[str, Any]] | None:
        """Return what supervisord says of each program, by name; None if it does not run."""
        try:
            return {str(found["name"]): found for found in control.call(self.places.socket, "getAllProcessInfo")}
        except OSError:
            return None

    def pid(self) -> int | None:
        """Return supervisord's number, if it runs."""
        try:
            return int(control.call(self.places.socket, "getPID"))
        except OSError:
            return None

    def is_as_configured(self) -> bool:
        """Return whether the supervisord that runs was started with the present configuration."""
        try:
            return self.places.configuration.read_text(encoding="utf-8") == configuration(self.programs)
        except FileNotFoundError:
            return False

    def start_keeper(self, environment: Mapping[str, str]) -> int:
        """Start supervisord unless it runs; whatever a dead one left behind is ended first.

        Returns: how many such processes were ended.
        Raises: StackFailed.
        """
        if self.processes() is not None:
            return 0
        ended = self.end_strays()
        self._require_free_port()
        write_whole(self.places.configuration, configuration(self.programs).encode())
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.places.configuration)],
            cwd=self.places.home,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            raise StackFailed(
                f"supervisord does not start: {(done.stderr or done.stdout).strip()}",
                hint=f"{self.places.logs / 'supervisord.log'} may say more.",
            )
        self.wait(lambda: self.processes() is not None, "supervisord", seconds=_KEEPER_SECONDS)
        return ended

    def start(self, program: Program) -> None:
        """Have one program started, if it is down. Returns at once."""
        state = (self.processes() or {}).get(program.name, {}).get("statename")
        if state in _DOWN:
            with contextlib.suppress(xmlrpc.client.Fault):  # started by itself in the meantime
                control.call(self.places.socket, "startProcess", program.name, False)

    def wait(self, ready: Callable[[], bool], name: str, *, seconds: float) -> None:
        """Wait until `ready` says yes. Raises: StackFailed with the end of the log of `name`, in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise StackFailed(
                    f"{name} is not ready after {seconds:.0f} s. The end of its log:\n{self.log_tail(name)}",
                    hint=f"{self.places.logs / name}.log says more. restill up tries again, restill down gives up.",
                )
            time.sleep(0.2)

    def log_tail(self, name: str) -> str:
        """Return the last lines that a program wrote."""
        try:
            lines = (self.places.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return "(nothing)"
        return "\n".join(line for line in lines[-_LOG_LINES:] if line.strip())

    def flow_runs(self) -> list[str]:
        """Return the ids of the flow runs that workers of this stack have running."""
        found = {environment.get(_RUN_ID) for _, environment in self._marked_with_environment()}
        return sorted(name for name in found if name)

    def stop_workers(self) -> None:
        """End the workers and what they run, while the server still listens."""
        said = self.processes() or {}
        workers = [program.name for program in self.programs if program.is_worker]
        for name in workers:
            if said.get(name, {}).get("statename") not in _DOWN:
                with contextlib.suppress(OSError, xmlrpc.client.Fault):  # it ended in the meantime
                    control.call(self.places.socket, "stopProcess", name, False)
        deadline = time.monotonic() + _STOP_SECONDS
        while any((self.processes() or {}).get(name, {}).get("statename") not in (*_DOWN, None) for name in workers):
            if time.monotonic() > deadline:  # what does not end is killed with the rest
                return
            time.sleep(0.2)
        self._end([process for process, environment in self._marked_with_environment() if _RUN_ID in environment])

    def stop(self) -> int:
        """End supervisord, its programs in turn, and what was left of them. Returns how many processes were there.

        Raises: StackFailed if something does not end.
        """
        there = len(self._marked())
        self.places.record.unlink(missing_ok=True)
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(OSError, xmlrpc.client.Fault):
                control.call(self.places.socket, "shutdown")
            with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                psutil.Process(pid).wait(_STOP_SECONDS)
        self.end_strays()
        for path in (self.places.socket, self.places.pid_file):
            path.unlink(missing_ok=True)
        return there

    def end_strays(self) -> int:
        """End every process of the stack that is left, flow runs included. Returns how many there were."""
        found = self._marked()
        self._end(found)
        self._end(self._marked())  # what those had started meanwhile
        return len(found)

    def _end(self, found: list[psutil.Process]) -> None:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(found, timeout=_END_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=_END_SECONDS)

    def _marked(self) -> list[psutil.Process]:
        return [process for process, _ in self._marked_with_environment()]

    def _marked_with_environment(self) -> list[tuple[psutil.Process, dict[str, str]]]:
        home, found = str(self.places.home), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                environment = process.environ() if process.pid != os.getpid() else {}
                if environment.get(MARK) == home:
                    found.append((process, environment))
        return found

    def _require_free_port(self) -> None:
        stack = self._settings.stack
        if not any(program.name == "prefect" for program in self.programs):
            return
        family = socket.AF_INET6 if ":" in stack.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((stack.host, stack.port))
                probe.listen()
            except OSError as error:
                raise ConfigurationError(
                    f"The Prefect server cannot listen on {stack.host} port {stack.port}: {_who(stack.port) or error}.",
                    hint="End that, or set another stack.port (RESTILL_STACK__PORT). If it is a Prefect server that "
                    f"you want to use, set PREFECT_API_URL={base_url(local_host(stack.host), stack.port)}/api.",
                ) from error


def _who(port: int) -> str:
    """Return which process listens on a port, as far as this account may see."""
    with contextlib.suppress(psutil.Error):
        for link in psutil.net_connections("tcp"):
            if link.status == psutil.CONN_LISTEN and link.laddr and link.laddr.port == port:
                if link.pid is None:
                    return "another account's process has it"
                with contextlib.suppress(psutil.Error):
                    line = " ".join(psutil.Process(link.pid).cmdline())
                    return f"process {link.pid} has it ({line[:80]})"
    return ""
