"""What a command sets up before the libraries are imported, and while a flow runs."""

import http
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from flows import prefect_server
from flows.cli import screen
from restill.errors import PrefectUnreachable
from restill.settings import find_root

R = TypeVar("R")

INTERRUPTED = 130
WAS_INTERRUPTED = "[yellow]Interrupted.[/] What was finished is kept; the same command goes on from there."

debug = False
interruption = WAS_INTERRUPTED  # what is said when a command ends by Ctrl-C
_given: dict[str, str] = {}


def given_environment() -> dict[str, str]:
    """Return the environment as the person gave it, before anything was added."""
    return dict(_given)


def library_defaults() -> dict[str, str]:
    """Return what the libraries of a run are to read: no telemetry, little noise, all cores."""
    return {
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "DVC_NO_ANALYTICS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # the automation on dead runs waits for three of these
        "TF_CPP_MIN_LOG_LEVEL": "0" if debug else "3",
        "TF_NUM_INTRAOP_THREADS": str(os.cpu_count() or 1),
        "TF_NUM_INTEROP_THREADS": str(os.cpu_count() or 1),
    }


def prepare() -> None:
    """Set what the libraries read when they are first imported; whoever set it before has the last word."""
    _given.update(os.environ)
    defaults = library_defaults()
    prefect_server.use_running(find_root())
    if not prefect_server.is_set_up():
        # No server is set up: Prefect starts one for this run, and keeps its runs in the project.
        defaults |= {
            "PREFECT_HOME": str(prefect_server.home(find_root())),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }
    if not debug:
        # Runs log to Prefect; on the screen, steps print what a person needs.
        defaults["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def move_native_logs() -> None:
    """Send what C++ libraries and child processes write past Python into a log file; ours stays on the screen."""
    if debug:
        return
    folder = find_root() / ".restill" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "native.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, name in ((1, "stdout"), (2, "stderr")):
        getattr(sys, name).flush()
        setattr(sys, name, os.fdopen(os.dup(number), "w", buffering=1, encoding="utf-8"))
        os.dup2(log, number)
    os.close(log)


def watch_run(*, lines: bool = True) -> None:
    """Show how far a flow is, and what it says unless `lines` is false; end its own server with the run."""
    from tasks import progress

    progress.watch(screen.out, lines=lines)
    if not prefect_server.is_set_up():
        prefect_server.end_orphans()
        prefect_server.leave_at_once_on_interrupt(lambda: screen.err.print(f"\n{WAS_INTERRUPTED}"), INTERRUPTED)


def run(flow: Callable[..., Any], **parameters: object) -> Any:
    """Run a flow and return what it returns.

    Raises: PrefectUnreachable if no server answers, or the run's own does not start.
    """
    try:
        return flow(**parameters)
    except RuntimeError as error:
        if "API" not in str(error):
            raise
        raise _unreachable(str(error).splitlines()[0]) from error


def talk(call: Callable[[], R]) -> R:
    """Ask the Prefect server something and return its answer. Raises: PrefectUnreachable."""
    import httpx

    try:
        return call()
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            raise
        raise PrefectUnreachable(
            f"{os.environ.get('PREFECT_API_URL')} does not accept our key.",
            hint="Set PREFECT_API_AUTH_STRING to the server's; that of `restill up` is in .restill/stack/auth.",
        ) from error
    except httpx.HTTPError as error:
        raise _unreachable(str(error) or type(error).__name__) from error


def _unreachable(reason: str) -> PrefectUnreachable:
    where = os.environ.get("PREFECT_API_URL", "Prefect's own server")
    return PrefectUnreachable(
        f"{where} does not answer: {reason}",
        hint="Check PREFECT_API_URL, or unset it to use a server for this run; .restill/logs/native.log says more.",
    )
